#include "completion_queue.h"

#include <cstring>

namespace rnic {

bool CompletionQueue::push(Cqe entry) {
  uint32_t count = pushed_.load(std::memory_order_relaxed);
  do {
    if (overflown_.load(std::memory_order_relaxed)) return false;
    if (count - ring.userCounter().load(std::memory_order_acquire) >= ring.depth()) {
      overflown_.store(true);
      return false;
    }
  } while (!pushed_.compare_exchange_weak(count, count + 1, std::memory_order_relaxed));
  Cqe* place = ring.entry(count);
  std::memcpy(place, &entry, offsetof(Cqe, sequence));
  auto* sequence = reinterpret_cast<std::atomic<uint32_t>*>(&place->sequence);
  // Sequentially consistent with the poller, who arms and then polls once more: one of the two sees the other.
  sequence->store(count + 1, std::memory_order_seq_cst);
  if (channel_ != nullptr && ring.nicCounter().load(std::memory_order_seq_cst) != 0 &&
      ring.nicCounter().exchange(0, std::memory_order_seq_cst) != 0) {
    channel_->signal();
  }
  return true;
}

}  // namespace rnic
