#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "error.h"
#include "memory.h"
#include "verbs.h"

namespace rnic {

// A ring in memory that its user, maybe another process, reads and writes at will: nothing in it is believed, everything
// is copied out once.
template <typename Entry>
class Ring {
 public:
  Ring(uint32_t depth, bool shared)
      : Ring(depth, shared ? HostMemory::shared(bytesFor(depth)) : std::make_shared<HostMemory>(bytesFor(depth))) {}
  // Over memory of at least bytesFor(depth).
  Ring(uint32_t depth, std::shared_ptr<HostMemory> memory) : depth_(depth), memory_(std::move(memory)) {}

  static size_t bytesFor(uint32_t depth) { return RING_HEADER_BYTES + size_t{depth} * sizeof(Entry); }

  static void checkDepth(const char* name, uint32_t depth, uint32_t most) {
    if (depth == 0 || depth > most || (depth & (depth - 1)) != 0) {
      throw VerbsError(VerbsError::Kind::Range,
                       std::string(name) + " must be a power of two up to " + std::to_string(most));
    }
  }

  uint32_t depth() const { return depth_; }
  const std::shared_ptr<HostMemory>& memory() const { return memory_; }
  std::atomic<uint32_t>& userCounter() const { return counter(RING_USER_COUNTER); }
  std::atomic<uint32_t>& nicCounter() const { return counter(RING_NIC_COUNTER); }
  std::atomic<uint32_t>& nicSleeps() const { return counter(RING_NIC_SLEEPS); }
  std::atomic<uint32_t>& qpState() const { return counter(RING_QP_STATE); }
  std::atomic<uint32_t>& remoteQpNum() const { return counter(RING_REMOTE_QP_NUM); }
  Entry* entry(uint32_t count) const {
    return reinterpret_cast<Entry*>(memory_->data() + RING_HEADER_BYTES) + (count & (depth_ - 1));
  }

 private:
  std::atomic<uint32_t>& counter(uint32_t offset) const {
    static_assert(sizeof(std::atomic<uint32_t>) == 4);
    return *reinterpret_cast<std::atomic<uint32_t>*>(memory_->data() + offset);
  }

  const uint32_t depth_;
  const std::shared_ptr<HostMemory> memory_;
};

}  // namespace rnic
