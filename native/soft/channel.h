#pragma once

#include <cstdint>

namespace rnic {

// An eventfd: signalled by any thread, waited for by one, or watched by its event loop.
class Channel {
 public:
  Channel();
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  int fd() const { return fd_; }
  void signal();
  // Take the signals that have come.
  void drain();
  // Block for at most this long; true if signalled.
  bool wait(double timeoutNs);
  // Its owner has closed it: signalFd() finds it no more. What still completes into it may signal it, in vain.
  void retire();
  // Signal the channel with this descriptor; false if no channel (any more) has it.
  static bool signalFd(int fd);

 private:
  int fd_;
};

}  // namespace rnic
