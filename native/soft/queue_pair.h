// A reliable-connection queue pair of the loopback link: its owner's doorbell executes the work requests, against the
// connected pair's keys and memory, on the owner's thread.
//
// Threads: the owner calls doorbell(), modify() and close(). Others touch it only as the peer of their own pair: they
// consume its receive queue (under its lock) and may put it into ERR. connect() comes from the listener's thread while
// the pair is in RESET; the state, stored last, publishes what it wrote. A lock decides between it and close().
#pragma once

#include <atomic>
#include <memory>

#include "completion_queue.h"
#include "device.h"
#include "spin_lock.h"

namespace rnic {

class QueuePair {
 public:
  QueuePair(std::shared_ptr<ProtectionDomain> pd, std::shared_ptr<CompletionQueue> sendCq,
            std::shared_ptr<CompletionQueue> recvCq, uint32_t maxSendWr, uint32_t maxRecvWr);
  ~QueuePair() { close(); }

  // Execute what was posted.
  void doorbell();
  // Throws if the transition is not legal. `access`: rights that remote operations may use.
  void modify(QpState next, uint32_t access);
  // What a fault of a request does: flush and stay in ERR until modified. A pair in RESET has no requests to fail.
  void fail();
  // What the end of the connection does: ERR from any state.
  void end();
  // Fail, let go of the peer and no longer count as a user of anything. For good.
  void close();

  QpState state() const { return state_.load(std::memory_order_acquire); }
  uint32_t remoteQpNum() const { return remoteQpNum_.load(std::memory_order_acquire); }
  // Take the pair for a connection; false if another has it.
  bool claim() { return !claimed_.exchange(true); }
  void unclaim() { claimed_.store(false); }
  // Join two claimed pairs and bring them to RTS; one that is closed meanwhile stays closed.
  static void connect(const std::shared_ptr<QueuePair>& one, const std::shared_ptr<QueuePair>& other);

  const uint32_t qpNum;
  const Ring<Wqe> sendRing;
  const Ring<RecvWqe> recvRing;

 private:
  void join(const std::shared_ptr<QueuePair>& peer);
  WcStatus execute(const Wqe& wqe, HazardSlot& hazards);
  WcStatus transfer(const Wqe& wqe, HazardSlot& hazards, bool isRead);
  WcStatus atomic(const Wqe& wqe, HazardSlot& hazards);
  WcStatus send(const Wqe& wqe, HazardSlot& hazards);
  WcStatus writeWithImm(const Wqe& wqe, HazardSlot& hazards);
  bool peerReady() const;
  void prefetchNext() const;
  void complete(const Wqe& wqe, WcStatus status);
  bool takeReceive(RecvWqe& into);
  void completeReceive(const RecvWqe& wqe, WcStatus status, WcOpcode opcode, uint32_t byteLen, uint8_t flags,
                       uint32_t imm);
  void flushReceives();

  const std::shared_ptr<ProtectionDomain> pd_;
  const std::shared_ptr<CompletionQueue> sendCq_;
  const std::shared_ptr<CompletionQueue> recvCq_;
  std::atomic<QpState> state_{QpState::RESET};
  std::atomic<uint32_t> access_{access::REMOTE};
  std::atomic<uint32_t> remoteQpNum_{0};
  std::shared_ptr<QueuePair> peer_;
  std::atomic<bool> claimed_{false};
  SpinLock joinLock_;
  bool closed_ = false;  // changes under joinLock_
  uint32_t sent_ = 0;  // work requests taken from the send ring
  SpinLock recvLock_;
  uint32_t received_ = 0;  // taken from the receive ring; under recvLock_
};

}  // namespace rnic
