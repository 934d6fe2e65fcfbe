#pragma once

#include <deque>
#include <memory>
#include <unordered_map>

#include "../soft/ring.h"
#include "event_channel.h"

namespace ibv {

class QueuePair;

// A completion queue of the device, and the ring that JavaScript reads: pump() moves entries from one to the other. In
// between it takes out the completions that only this provider asked for.
class CompletionQueue {
 public:
  CompletionQueue(std::shared_ptr<Device> device, uint32_t depth, std::shared_ptr<EventChannel> channel);
  ~CompletionQueue();
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  // Move what there is; returns how many entries JavaScript got.
  uint32_t pump();
  // An entry that the device knows nothing of.
  void push(const rnic::Cqe& entry);
  void arm(bool solicitedOnly);
  // The armed device queue had something; true if it is for JavaScript. What was not arms it again.
  bool onEvent();

  // Make room for what this many more requests can complete.
  void attach(QueuePair& qp, uint32_t requests);
  void detach(QueuePair& qp, uint32_t requests);
  uint32_t users() const { return static_cast<uint32_t>(pairs_.size()); }

  const std::shared_ptr<Device> device;
  const rnic::Ring<rnic::Cqe> ring;
  Cq* cq() const { return cq_; }

 private:
  void deliver(const rnic::Cqe& entry);
  bool place(const rnic::Cqe& entry);

  const std::shared_ptr<EventChannel> channel_;
  Cq* cq_;
  uint32_t requests_ = 0;  // that can be under way
  uint32_t pushed_ = 0;
  std::deque<rnic::Cqe> waiting_;  // for room in the ring
  std::unordered_map<QueuePair*, uint32_t> pairs_;  // and how often each is attached
  std::unordered_map<uint32_t, QueuePair*> byNumber_;
  bool armed_ = false;
  bool armedForSolicited_ = false;
  bool delivered_ = false;  // anything, since it was armed
};

}  // namespace ibv
