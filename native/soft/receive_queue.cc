#include "receive_queue.h"

#include <mutex>

#include "error.h"

namespace rnic {

ReceiveQueue::ReceiveQueue(Ring<RecvWqe> buffers, std::shared_ptr<ProtectionDomain> domain)
    : ring(std::move(buffers)), pd_(std::move(domain)) {
  if (pd_->device->srqs >= (pd_->device->shared ? MAX_LINK_SRQ : MAX_SRQ)) {
    throw VerbsError(VerbsError::Kind::Limit, "the device has no shared receive queue left");
  }
  pd_->device->srqs++;
  pd_->users++;
}

void ReceiveQueue::close() {
  pd_->users--;
  pd_->device->srqs--;
}

bool ReceiveQueue::hasAny() {
  std::lock_guard<SpinLock> lock(lock_);
  return available() - 1 < ring.depth();
}

void ReceiveQueue::drop() {
  std::lock_guard<SpinLock> lock(lock_);
  taken_ = ring.userCounter().load(std::memory_order_acquire);
  ring.nicCounter().store(taken_, std::memory_order_release);
}

}  // namespace rnic
