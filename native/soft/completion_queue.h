#pragma once

#include <atomic>
#include <memory>

#include "channel.h"
#include "ring.h"

namespace rnic {

// Any number of threads complete into it; one polls it, in memory.
class CompletionQueue {
 public:
  CompletionQueue(uint32_t depth, std::shared_ptr<Channel> channel) : ring(depth), channel_(std::move(channel)) {}

  // False if there is no room: then the queue is broken for good, as is every pair that completes into it.
  bool push(Cqe entry);

  const Ring<Cqe> ring;
  // Queue pairs that use it.
  std::atomic<uint32_t> users{0};

 private:
  const std::shared_ptr<Channel> channel_;
  std::atomic<uint32_t> pushed_{0};
  std::atomic<bool> overflown_{false};
};

}  // namespace rnic
