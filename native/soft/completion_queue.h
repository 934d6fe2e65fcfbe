#pragma once

#include <atomic>
#include <memory>

#include "channel.h"
#include "ring.h"

namespace rnic {

// Any number of threads complete into it; one polls it, in memory.
class CompletionQueue {
 public:
  CompletionQueue(uint32_t depth, bool shared, std::shared_ptr<Channel> channel)
      : ring(depth, shared), channel_(std::move(channel)) {}
  // Another process's queue, of which `pushed` entries have been used.
  CompletionQueue(uint32_t depth, std::shared_ptr<HostMemory> memory, uint32_t pushed, std::shared_ptr<Channel> channel)
      : ring(depth, std::move(memory)), channel_(std::move(channel)), pushed_(pushed) {}

  // False if there is no room: then the queue is broken for good, as is every pair that completes into it. False, too,
  // while it is lent. `solicited`: the sender of the message asked that its receiver be woken.
  bool push(Cqe entry, bool solicited = false);

  // A NIC in another process completes into it from now on, until it is taken back. False if one does already.
  bool lend() { return !lent_.exchange(true); }
  bool lent() const { return lent_.load(); }
  // That NIC is gone, maybe in the middle of a push: go on after what it completed.
  void takeBack();
  // For a queue that is lent next.
  uint32_t pushed() const { return pushed_.load(); }
  const std::shared_ptr<Channel>& channel() const { return channel_; }
  // The index of the request whose completion is the pair's youngest of this kind; -1 if none is left to see.
  int32_t youngest(uint32_t qpNum, bool receive) const;

  const Ring<Cqe> ring;
  // Queue pairs that use it.
  std::atomic<uint32_t> users{0};

 private:
  void signalIfArmedFor(bool solicited);

  const std::shared_ptr<Channel> channel_;
  std::atomic<uint32_t> pushed_{0};
  std::atomic<bool> overflown_{false};
  std::atomic<bool> lent_{false};
};

}  // namespace rnic
