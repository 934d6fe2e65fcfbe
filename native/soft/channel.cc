#include "channel.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <mutex>
#include <set>

#include "error.h"

namespace rnic {

namespace {
std::mutex openMutex;
std::set<int> openChannels;
}  // namespace

Channel::Channel() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (fd_ < 0) throw VerbsError(VerbsError::Kind::Limit, "no descriptor left for a completion channel");
  std::lock_guard<std::mutex> lock(openMutex);
  openChannels.insert(fd_);
}

Channel::~Channel() {
  retire();
  close(fd_);
}

void Channel::retire() {
  std::lock_guard<std::mutex> lock(openMutex);
  openChannels.erase(fd_);
}

void Channel::signal() {
  const uint64_t one = 1;
  // Fails only if the counter is full: then it is signalled anyway.
  [[maybe_unused]] const ssize_t written = write(fd_, &one, sizeof one);
}

void Channel::drain() {
  uint64_t count;
  [[maybe_unused]] const ssize_t got = read(fd_, &count, sizeof count);
}

bool Channel::wait(double timeoutNs) {
  // Otherwise the kernel may wake this thread 50 us late, to save power.
  thread_local const int slackSet = prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  (void)slackSet;
  pollfd poll{fd_, POLLIN, 0};
  timespec timeout{static_cast<time_t>(timeoutNs / 1e9), 0};
  timeout.tv_nsec = static_cast<long>(timeoutNs - static_cast<double>(timeout.tv_sec) * 1e9);
  const bool signalled = ppoll(&poll, 1, &timeout, nullptr) > 0;
  if (signalled) drain();
  return signalled;
}

bool Channel::signalFd(int fd) {
  std::lock_guard<std::mutex> lock(openMutex);
  if (openChannels.count(fd) == 0) return false;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(fd, &one, sizeof one);
  return true;
}

}  // namespace rnic
