#include "link_watcher.h"

#include <sys/epoll.h>

#include <map>
#include <mutex>
#include <thread>

#include "client_link.h"

namespace rnic {

namespace {

// Lives as long as the process.
class Watcher {
 public:
  Watcher() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    if (!epoll_.has()) throw VerbsError(VerbsError::Kind::Limit, "no descriptor left to watch connections");
    std::thread([this] { run(); }).detach();
  }

  void watch(const std::shared_ptr<ClientLink>& link) {
    std::lock_guard<std::mutex> lock(mutex_);
    const uint64_t id = nextId_++;
    links_[id] = link;
    epoll_event event{};
    event.events = EPOLLRDHUP;
    event.data.u64 = id;
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, link->fd(), &event);
  }

  void forget(const ClientLink& link) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto it = links_.begin(); it != links_.end(); ++it) {
      if (it->second.get() != &link) continue;
      epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, link.fd(), nullptr);
      links_.erase(it);
      return;
    }
  }

 private:
  void run() {
    for (;;) {
      epoll_event event;
      if (epoll_wait(epoll_.get(), &event, 1, -1) != 1) continue;
      std::shared_ptr<ClientLink> link;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        const auto found = links_.find(event.data.u64);
        if (found == links_.end()) continue;
        link = std::move(found->second);
        links_.erase(found);
        epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, link->fd(), nullptr);
      }
      link->end();
    }
  }

  const Descriptor epoll_;
  std::mutex mutex_;
  std::map<uint64_t, std::shared_ptr<ClientLink>> links_;
  uint64_t nextId_ = 1;
};

Watcher& watcher() {
  static Watcher* const watcher = new Watcher();
  return *watcher;
}

}  // namespace

void LinkWatcher::watch(const std::shared_ptr<ClientLink>& link) { watcher().watch(link); }

void LinkWatcher::forget(const ClientLink& link) { watcher().forget(link); }

}  // namespace rnic
