#include "channel.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <mutex>

#include "error.h"

namespace rnic {

namespace {
std::mutex openMutex;
// Never destroyed: engines outlive main().
auto& openChannels = *new std::map<int, Channel*>();
}  // namespace

Channel::Channel(bool shared) {
  if (shared) {
    int ends[2];
    const bool made = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0;
    fd_ = Descriptor(made ? ends[0] : -1);
    signalFd_ = Descriptor(made ? ends[1] : -1);
  } else {
    fd_ = Descriptor(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  }
  if (!fd_.has()) throw VerbsError(VerbsError::Kind::Limit, "no descriptor left for a completion channel");
  std::lock_guard<std::mutex> lock(openMutex);
  openChannels[fd()] = this;
}

std::shared_ptr<Channel> Channel::foreign(Descriptor socket) {
  std::shared_ptr<Channel> channel(new Channel());
  channel->signalFd_ = std::move(socket);
  return channel;
}

Channel::~Channel() { retire(); }

void Channel::retire() {
  std::lock_guard<std::mutex> lock(openMutex);
  const auto found = openChannels.find(fd());
  if (found != openChannels.end() && found->second == this) openChannels.erase(found);
}

void Channel::signal() {
  if (signalFd_.has()) {
    signalSocket(signalFd());
    return;
  }
  const uint64_t one = 1;
  // Fails only if the counter is full: then it is signalled anyway.
  [[maybe_unused]] const ssize_t written = write(fd(), &one, sizeof one);
}

void Channel::signalSocket(int socket) {
  // Fails if the buffer is full, then it is signalled anyway, or if nobody is there any more.
  [[maybe_unused]] const ssize_t sent = send(socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void Channel::drain() {
  // One read empties an eventfd; a socket gives what it has, in pieces if it is much.
  char signals[512];
  while (read(fd(), signals, sizeof signals) == sizeof signals) {
  }
}

bool Channel::wait(double timeoutNs) {
  // Otherwise the kernel may wake this thread 50 us late, to save power.
  thread_local const int slackSet = prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  (void)slackSet;
  pollfd poll{fd(), POLLIN, 0};
  timespec timeout{static_cast<time_t>(timeoutNs / 1e9), 0};
  timeout.tv_nsec = static_cast<long>(timeoutNs - static_cast<double>(timeout.tv_sec) * 1e9);
  const bool signalled = ppoll(&poll, 1, &timeout, nullptr) > 0;
  if (signalled) drain();
  return signalled;
}

bool Channel::signalChannel(int fd) {
  std::lock_guard<std::mutex> lock(openMutex);
  const auto found = openChannels.find(fd);
  if (found == openChannels.end()) return false;
  found->second->signal();
  return true;
}

}  // namespace rnic
