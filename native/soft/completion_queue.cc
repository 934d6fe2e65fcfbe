#include "completion_queue.h"

#include <cstring>

namespace rnic {

bool CompletionQueue::overflow(uint32_t& count) {
  // While this thread was held up others may have pushed, and more been polled than it knew had been pushed.
  const uint32_t seen = count;
  count = pushed_.load(std::memory_order_relaxed);
  if (count != seen) return false;
  // Who waits for what has no room must learn that it will not come.
  if (!overflown_.exchange(true)) signalIfArmedFor(true);
  return true;
}

void CompletionQueue::signalIfArmedFor(bool solicited) {
  if (channel_ == nullptr) return;
  uint32_t armed = ring.nicCounter().load(std::memory_order_seq_cst);
  while (armed != 0 && (armed == cq_arm::NEXT || solicited)) {
    if (ring.nicCounter().compare_exchange_weak(armed, 0, std::memory_order_seq_cst)) {
      channel_->signal();
      return;
    }
  }
}

void CompletionQueue::takeBack() {
  const uint32_t polled = ring.userCounter().load(std::memory_order_acquire);
  uint32_t next = polled;
  for (uint32_t count = polled; count - polled < ring.depth(); count++) {
    Cqe* const from = ring.entry(count);
    auto* const sequence = reinterpret_cast<std::atomic<uint32_t>*>(&from->sequence);
    if (sequence->load(std::memory_order_acquire) != count + 1) continue;
    if (next != count) {
      // There is a place before it whose completion never came. The poller waits there, so nobody reads this one yet.
      Cqe* const to = ring.entry(next);
      std::memcpy(to, from, offsetof(Cqe, sequence));
      sequence->store(count + 1 - ring.depth(), std::memory_order_relaxed);
      reinterpret_cast<std::atomic<uint32_t>*>(&to->sequence)->store(next + 1, std::memory_order_seq_cst);
    }
    next++;
  }
  pushed_.store(next);
  lent_.store(false);
}

int32_t CompletionQueue::youngest(uint32_t qpNum, bool receive) const {
  const uint32_t pushed = pushed_.load();
  for (uint32_t back = 1; back <= ring.depth(); back++) {
    Cqe entry;
    std::memcpy(&entry, ring.entry(pushed - back), sizeof entry);
    if (entry.sequence != pushed - back + 1) break;
    const bool isReceive = entry.opcode == WcOpcode::RECV || entry.opcode == WcOpcode::RECV_RDMA_WITH_IMM;
    if (entry.qpNum == qpNum && isReceive == receive) return entry.index;
  }
  return -1;
}

}  // namespace rnic
