#include "completion_queue.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "library.h"
#include "queue_pair.h"

namespace ibv {

using rnic::Cqe;

namespace {

Cq* createCq(Device& device, uint32_t entries, CompletionQueue* context, EventChannel* channel) {
  errno = 0;
  Cq* const cq = library().createCq(device.context, static_cast<int>(entries), context,
                                    channel == nullptr ? nullptr : channel->completions(), 0);
  if (cq == nullptr) refused("a completion queue", errno);
  return cq;
}

}  // namespace

CompletionQueue::CompletionQueue(std::shared_ptr<Device> owner, uint32_t depth, std::shared_ptr<EventChannel> channel)
    : device(std::move(owner)), ring(depth, false), channel_(std::move(channel)),
      cq_(createCq(*device, std::min<uint32_t>(depth, static_cast<uint32_t>(device->attr.maxCqe)), this, channel_.get())) {}

CompletionQueue::~CompletionQueue() { library().destroyCq(cq_); }

void CompletionQueue::attach(QueuePair& qp, uint32_t requests) {
  requests_ += requests;
  // An overrun would break the queue for good.
  if (requests_ > static_cast<uint32_t>(cq_->cqe)) {
    const int error = library().resizeCq(cq_, static_cast<int>(requests_));
    if (error != 0) {
      requests_ -= requests;
      refused("a completion queue of this depth", error);
    }
  }
  pairs_[&qp]++;
  byNumber_[qp.qpNum()] = &qp;
}

void CompletionQueue::detach(QueuePair& qp, uint32_t requests) {
  requests_ -= requests;
  const auto found = pairs_.find(&qp);
  if (--found->second > 0) return;
  pairs_.erase(found);
  byNumber_.erase(qp.qpNum());
}

uint32_t CompletionQueue::pump() {
  uint32_t delivered = 0;
  while (!waiting_.empty() && place(waiting_.front())) {
    waiting_.pop_front();
    delivered++;
  }
  Wc done[16];
  for (;;) {
    const int count = device->context->ops.pollCq(cq_, 16, done);
    for (int i = 0; i < count; i++) {
      const auto found = byNumber_.find(done[i].qpNum);
      Cqe entry{};
      // A pair that was closed completes nothing any more.
      if (found == byNumber_.end() || !found->second->completed(done[i], entry)) continue;
      deliver(entry);
      delivered++;
    }
    if (count < 16) return delivered;
  }
}

void CompletionQueue::push(const Cqe& entry) {
  deliver(entry);
  if (!armed_ || (armedForSolicited_ && entry.status == rnic::WcStatus::SUCCESS)) return;
  armed_ = false;
  if (channel_ != nullptr) channel_->signal();
}

void CompletionQueue::deliver(const Cqe& entry) {
  delivered_ = true;
  if (!waiting_.empty() || !place(entry)) waiting_.push_back(entry);
}

bool CompletionQueue::place(const Cqe& entry) {
  if (pushed_ - ring.userCounter().load(std::memory_order_acquire) >= ring.depth()) return false;
  Cqe* const to = ring.entry(pushed_);
  std::memcpy(to, &entry, offsetof(Cqe, sequence));
  pushed_++;
  reinterpret_cast<std::atomic<uint32_t>*>(&to->sequence)->store(pushed_, std::memory_order_release);
  return true;
}

void CompletionQueue::arm(bool solicitedOnly) {
  // Who is to be woken by any completion still is.
  if (armed_ && !armedForSolicited_) solicitedOnly = false;
  armed_ = true;
  delivered_ = false;
  armedForSolicited_ = solicitedOnly;
  device->context->ops.reqNotifyCq(cq_, solicitedOnly ? 1 : 0);
}

bool CompletionQueue::onEvent() {
  pump();
  if (armed_ && !delivered_) {
    device->context->ops.reqNotifyCq(cq_, armedForSolicited_ ? 1 : 0);
    // What came before arming raises no event.
    pump();
  }
  if (!armed_ || !delivered_) return false;
  armed_ = false;
  return true;
}

}  // namespace ibv
