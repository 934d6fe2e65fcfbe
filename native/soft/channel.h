#pragma once

#include <cstdint>
#include <memory>

#include "descriptor.h"

namespace rnic {

// Signalled by any thread, waited for by one, or watched by its event loop. An eventfd; or, if another process is to signal
// it, a pair of sockets: who writes to a descriptor that it was given can't know that it doesn't block, except with a socket.
class Channel {
 public:
  explicit Channel(bool shared);
  // Another process's channel: only to be signalled. The descriptor must be a socket's.
  static std::shared_ptr<Channel> foreign(Descriptor socket);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // What becomes readable.
  int fd() const { return fd_.get(); }
  // What to pass to another process, for signalSocket(); -1 if there is none.
  int signalFd() const { return signalFd_.get(); }
  void signal();
  // Take the signals that have come.
  void drain();
  // Block for at most this long; true if signalled.
  bool wait(double timeoutNs);
  // Its owner has closed it: signalFd() finds it no more. What still completes into it may signal it, in vain.
  void retire();
  // Signal the channel with this descriptor; false if no channel (any more) has it.
  static bool signalChannel(int fd);
  // Signal a channel of another process. Never blocks, whatever the descriptor's state.
  static void signalSocket(int socket);

 private:
  Channel() = default;

  Descriptor fd_;
  Descriptor signalFd_;
};

}  // namespace rnic
