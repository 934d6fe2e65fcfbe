#pragma once

#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>

#include "device.h"
#include "ring.h"
#include "spin_lock.h"

namespace rnic {

// Receive buffers, oldest first: of one queue pair, or shared by several of one protection domain. One thread posts, in
// memory; any thread that executes a message takes.
class ReceiveQueue {
 public:
  // A queue pair's own.
  explicit ReceiveQueue(Ring<RecvWqe> ring) : ring(std::move(ring)) {}
  // Shared by queue pairs of the domain.
  ReceiveQueue(Ring<RecvWqe> ring, std::shared_ptr<ProtectionDomain> pd);
  ReceiveQueue(const ReceiveQueue&) = delete;
  ReceiveQueue& operator=(const ReceiveQueue&) = delete;

  // No longer count as a user of the domain: the owner of a shared one is done with it.
  void close();

  bool take(RecvWqe& into) {
    std::lock_guard<SpinLock> lock(lock_);
    if (available() - 1 >= ring.depth()) return false;
    std::memcpy(&into, ring.entry(taken_), sizeof into);
    into.index = taken_;
    ring.nicCounter().store(++taken_, std::memory_order_release);
    return true;
  }
  bool hasAny();
  // Forget what is posted.
  void drop();
  // Buffers taken so far, and to go on from there.
  uint32_t taken() const { return taken_; }
  void startAt(uint32_t taken) { taken_ = taken; }
  // Null if it is a queue pair's own.
  const std::shared_ptr<ProtectionDomain>& pd() const { return pd_; }

  const Ring<RecvWqe> ring;
  // Queue pairs that share it.
  std::atomic<uint32_t> users{0};

 private:
  // More than the ring holds if the poster's counter is wild.
  uint32_t available() const { return ring.userCounter().load(std::memory_order_seq_cst) - taken_; }

  const std::shared_ptr<ProtectionDomain> pd_;
  SpinLock lock_;
  uint32_t taken_ = 0;  // under lock_, while others may take
};

}  // namespace rnic
