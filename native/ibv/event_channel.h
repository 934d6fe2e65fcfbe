#pragma once

#include <functional>
#include <memory>
#include <unordered_map>

#include "../soft/channel.h"
#include "device.h"

namespace ibv {

class CompletionQueue;

// A completion channel: signalled by completions in armed queues, by the sockets of connections and by other threads.
// One descriptor becomes readable for all of them.
class EventChannel {
 public:
  explicit EventChannel(std::shared_ptr<Device> device);
  ~EventChannel();
  EventChannel(const EventChannel&) = delete;
  EventChannel& operator=(const EventChannel&) = delete;

  CompChannel* completions() const { return completions_; }
  int watchFd() const { return epoll_; }
  // For signalling from other threads.
  const std::shared_ptr<rnic::Channel>& signals() const { return signals_; }
  void signal() { signals_->signal(); }
  // Handle what has come; true if the channel's user is to hear of it.
  bool take();
  // Block for at most this long; true if signalled.
  bool wait(double timeoutNs);
  // `ready` handles what a socket has and says whether the channel's user is to hear of it.
  void watch(int socket, bool forWriting, std::function<bool()> ready);
  void unwatch(int socket);

 private:
  bool takeCompletionEvents();

  const std::shared_ptr<Device> device_;
  const std::shared_ptr<rnic::Channel> signals_;
  CompChannel* const completions_;
  const int epoll_;
  std::unordered_map<int, std::function<bool()>> sockets_;
};

}  // namespace ibv
