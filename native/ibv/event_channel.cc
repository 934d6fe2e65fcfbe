#include "event_channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "completion_queue.h"
#include "library.h"

namespace ibv {

namespace {

double nowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

void addTo(int epoll, int fd, uint32_t events, int operation = EPOLL_CTL_ADD) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll, operation, fd, &event) != 0) refused("another watched descriptor", errno);
}

CompChannel* completionChannel(Device& device) {
  CompChannel* const channel = library().createCompChannel(device.context);
  if (channel == nullptr) refused("a completion channel", errno);
  fcntl(channel->fd, F_SETFL, fcntl(channel->fd, F_GETFL) | O_NONBLOCK);
  return channel;
}

}  // namespace

EventChannel::EventChannel(std::shared_ptr<Device> device)
    : device_(std::move(device)), signals_(std::make_shared<rnic::Channel>(false)),
      completions_(completionChannel(*device_)), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (epoll_ < 0) {
    library().destroyCompChannel(completions_);
    refused("a completion channel", errno);
  }
  addTo(epoll_, signals_->fd(), EPOLLIN);
  addTo(epoll_, completions_->fd, EPOLLIN);
}

EventChannel::~EventChannel() {
  signals_->retire();
  close(epoll_);
  library().destroyCompChannel(completions_);
}

bool EventChannel::take() {
  bool signalled = false;
  epoll_event events[16];
  const int count = epoll_wait(epoll_, events, 16, 0);
  for (int i = 0; i < count; i++) {
    const int fd = events[i].data.fd;
    if (fd == signals_->fd()) {
      signals_->drain();
      signalled = true;
    } else if (fd == completions_->fd) {
      signalled |= takeCompletionEvents();
    } else if (const auto found = sockets_.find(fd); found != sockets_.end()) {
      // A copy: it may end its own watch.
      const std::function<bool()> ready = found->second;
      signalled |= ready();
    }
  }
  return signalled;
}

bool EventChannel::takeCompletionEvents() {
  bool signalled = false;
  Cq* cq;
  void* context;
  while (library().getCqEvent(completions_, &cq, &context) == 0) {
    library().ackCqEvents(cq, 1);
    signalled |= static_cast<CompletionQueue*>(context)->onEvent();
  }
  return signalled;
}

bool EventChannel::wait(double timeoutNs) {
  // Otherwise the kernel may wake this thread 50 us late, to save power.
  thread_local const int slackSet = prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  (void)slackSet;
  const double deadline = nowNs() + timeoutNs;
  for (;;) {
    const double left = deadline - nowNs();
    pollfd poll{epoll_, POLLIN, 0};
    timespec timeout{0, 0};
    if (left > 0) {
      timeout.tv_sec = static_cast<time_t>(left / 1e9);
      timeout.tv_nsec = static_cast<long>(left - static_cast<double>(timeout.tv_sec) * 1e9);
    }
    if (ppoll(&poll, 1, &timeout, nullptr) > 0 && take()) return true;
    if (left <= 0) return false;
  }
}

void EventChannel::watch(int socket, bool forWriting, std::function<bool()> ready) {
  const bool known = sockets_.count(socket) != 0;
  addTo(epoll_, socket, forWriting ? EPOLLOUT : EPOLLIN, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD);
  sockets_[socket] = std::move(ready);
}

void EventChannel::unwatch(int socket) {
  if (sockets_.erase(socket) != 0) epoll_ctl(epoll_, EPOLL_CTL_DEL, socket, nullptr);
}

}  // namespace ibv
