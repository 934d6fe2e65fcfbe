#include "descriptor.h"

#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace rnic {

namespace {

std::atomic<uint64_t> foreignOpen{0};

// A thread that closes what may keep it. Lives as long as the process.
class Closer {
 public:
  Closer() {
    std::thread([this] { run(); }).detach();
  }

  void close(int fd) {
    std::lock_guard<std::mutex> lock(mutex_);
    waiting_.push_back(fd);
    some_.notify_one();
  }

 private:
  void run() {
    for (;;) {
      std::vector<int> closing;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        some_.wait(lock, [this] { return !waiting_.empty(); });
        closing.swap(waiting_);
      }
      for (const int fd : closing) {
        ::close(fd);
        foreignOpen--;
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable some_;
  std::vector<int> waiting_;
};

Closer& closer() {
  static Closer* const closer = new Closer();
  return *closer;
}

}  // namespace

Descriptor Descriptor::foreign(int fd) {
  Descriptor descriptor(fd);
  descriptor.foreign_ = fd >= 0;
  if (descriptor.foreign_) foreignOpen++;
  return descriptor;
}

void Descriptor::noLongerForeign() {
  if (foreign_) foreignOpen--;
  foreign_ = false;
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this == &other) return *this;
  close();
  fd_ = other.fd_;
  foreign_ = other.foreign_;
  other.fd_ = -1;
  return *this;
}

void Descriptor::close() {
  if (fd_ < 0) return;
  if (foreign_) {
    closer().close(fd_);
  } else {
    ::close(fd_);
  }
  fd_ = -1;
}

bool Descriptor::roomForForeign() {
  rlimit limit{};
  // The limit may be changed while the process runs.
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 && foreignOpen.load() < limit.rlim_cur / 2;
}

}  // namespace rnic
