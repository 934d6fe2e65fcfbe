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
  bool push(const Cqe& entry, bool solicited = false) {
    if (lent_.load(std::memory_order_relaxed)) return false;
    uint32_t count = pushed_.load(std::memory_order_relaxed);
    for (;;) {
      if (overflown_.load(std::memory_order_relaxed)) return false;
      if (count - ring.userCounter().load(std::memory_order_acquire) < ring.depth()) {
        if (pushed_.compare_exchange_weak(count, count + 1, std::memory_order_relaxed)) break;
      } else if (overflow(count)) {
        return false;
      }
    }
    // Field by field: a copy in larger pieces would wait for the stores that made them up.
    Cqe* const place = ring.entry(count);
    place->wrId = entry.wrId;
    place->status = entry.status;
    place->opcode = entry.opcode;
    place->flags = entry.flags;
    place->index = entry.index;
    place->byteLen = entry.byteLen;
    place->qpNum = entry.qpNum;
    place->imm = entry.imm;
    auto& sequence = reinterpret_cast<std::atomic<uint32_t>&>(place->sequence);
    if (channel_ == nullptr) {
      sequence.store(count + 1, std::memory_order_release);
      return true;
    }
    // Sequentially consistent with the poller, who arms and then polls once more: one of the two sees the other.
    sequence.store(count + 1, std::memory_order_seq_cst);
    if (ring.nicCounter().load(std::memory_order_seq_cst) != 0) {
      signalIfArmedFor(solicited || entry.status != WcStatus::SUCCESS);
    }
    return true;
  }

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
  // No room after `count` entries: whether that is so, or there are more by now.
  bool overflow(uint32_t& count);
  void signalIfArmedFor(bool solicited);

  const std::shared_ptr<Channel> channel_;
  std::atomic<uint32_t> pushed_{0};
  std::atomic<bool> overflown_{false};
  std::atomic<bool> lent_{false};
};

}  // namespace rnic
