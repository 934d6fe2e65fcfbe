// A reliable-connection queue pair of the loopback link: its owner's doorbell executes the work requests, against the
// connected pair's keys and memory, on the owner's thread.
//
// Threads: the owner calls doorbell(), modify() and close(). Others touch it only as the peer of their own pair: they
// consume its receive queue (under its lock) and may put it into ERR. connect() comes from the listener's thread while
// the pair is in RESET; the state, stored last, publishes what it wrote. A lock decides between it and close().
//
// Invariant: when modify() or end() has returned, no request of the peer that the pair would no longer admit touches
// memory, takes a receive buffer or completes into the pair, and none that the pair admitted before a reset can put it
// into ERR after. A request looks at the pair's word (state, access, epoch), publishes its hazard, looks again, and only
// then acts; a change stores the word and then waits for the hazards.
#pragma once

#include <atomic>
#include <memory>

#include "completion_queue.h"
#include "device.h"
#include "receive_queue.h"
#include "spin_lock.h"

namespace rnic {

class QueuePair;

// A NIC in another process, which executes the requests of the pairs that were lent to it.
class RemoteNic {
 public:
  virtual ~RemoteNic() = default;
  // It sleeps, and there is work.
  virtual void wake() = 0;
  // As the pair's own; false if the NIC is gone and the pair has been taken back.
  virtual bool modify(const QueuePair& qp, QpState next, uint32_t access) = 0;
  // Waits until it is done with the pair.
  virtual void remove(const QueuePair& qp) = 0;
};

class QueuePair {
 public:
  QueuePair(std::shared_ptr<ProtectionDomain> pd, std::shared_ptr<CompletionQueue> sendCq,
            std::shared_ptr<CompletionQueue> recvCq, Ring<Wqe> sendRing, std::shared_ptr<ReceiveQueue> receives,
            uint32_t qpNum = newQpNum());
  static uint32_t newQpNum();
  ~QueuePair() { close(); }

  // Execute what was posted, or have it executed.
  void doorbell();
  // Execute some of what was posted, at most so many requests and about so many bytes; whether there was anything to do.
  bool progress(uint32_t requests, uint64_t bytes);
  // Throws if the transition is not legal. `access`: rights that remote operations may use.
  void modify(QpState next, uint32_t access);
  // What a fault of a request does: flush and stay in ERR until modified. A pair in RESET has no requests to fail.
  void fail() { failIfStill(word_.load()); }
  // What the end of the connection does: ERR from any state.
  void end();
  // Fail, let go of the peer and no longer count as a user of anything. For good.
  void close();

  QpState state() const {
    if (lent_.load(std::memory_order_acquire)) {
      return static_cast<QpState>(sendRing.qpState().load(std::memory_order_acquire));
    }
    return stateIn(word_.load(std::memory_order_acquire));
  }
  uint32_t remoteQpNum() const;
  // Take the pair for a connection; false if another has it.
  bool claim() { return !claimed_.exchange(true); }
  void unclaim() { claimed_.store(false); }
  // From now on the other process's NIC works on the rings, until it is gone.
  void lendTo(std::shared_ptr<RemoteNic> nic);
  // It is gone: what it has not completed is flushed. From any thread.
  void takeBack();
  // It never began.
  void returnUnused() {
    lent_.store(false);
    unclaim();
  }
  bool hasWork() const {
    return sendRing.userCounter().load(std::memory_order_seq_cst) != sent_ || moved_ > 0 ||
           (stateIn(word_.load()) == QpState::ERR && receives->pd() == nullptr && receives->hasAny());
  }
  // What it will have to go on from.
  uint32_t sent() const { return sent_; }
  // A pair of another process: go on from there.
  void startAt(uint32_t sent) { sent_ = sent; }
  const std::shared_ptr<ProtectionDomain>& pd() const { return pd_; }
  const std::shared_ptr<CompletionQueue>& sendCq() const { return sendCq_; }
  const std::shared_ptr<CompletionQueue>& recvCq() const { return recvCq_; }
  // Requests with a remote key that is no key of the peer's protection domain, ever: who has been granted one, be it
  // long ago, hardly sends such.
  uint64_t guesses() const { return guesses_; }

  // Join two claimed pairs and bring them to RTS; one that is closed meanwhile stays closed.
  static void connect(const std::shared_ptr<QueuePair>& one, const std::shared_ptr<QueuePair>& other);

  const uint32_t qpNum;
  const Ring<Wqe> sendRing;
  // Its own, or shared.
  const std::shared_ptr<ReceiveQueue> receives;
  const Ring<RecvWqe>& recvRing;

 private:
  // A word: state in the low byte, access in the next, above them the epoch, which every reset begins anew.
  static QpState stateIn(uint64_t word) { return static_cast<QpState>(word & 0xff); }
  static uint32_t accessIn(uint64_t word) { return static_cast<uint32_t>(word >> 8 & 0xff); }
  static uint64_t epochIn(uint64_t word) { return word >> 16; }
  static uint64_t wordOf(QpState state, uint32_t access, uint64_t epoch) {
    return static_cast<uint64_t>(state) | uint64_t{access} << 8 | epoch << 16;
  }

  void join(const std::shared_ptr<QueuePair>& peer);
  // Changes of the state, which the owner sees also if it is another process.
  void enter(QpState next);
  bool enterFrom(uint64_t& now, uint64_t next);
  void publishState();
  // Unless it was reset since it had this word.
  void failIfStill(uint64_t word);
  void reset();
  WcStatus execute(const Wqe& wqe, AccessRun& run, KeyTable::WindowRun& windows);
  WcStatus transfer(const Wqe& wqe, AccessRun& run, bool isRead);
  WcStatus atomic(const Wqe& wqe, AccessRun& run);
  WcStatus send(const Wqe& wqe, AccessRun& run);
  WcStatus writeWithImm(const Wqe& wqe, AccessRun& run);
  WcStatus askPeer(uint32_t need);
  bool peerIsAsBefore() const { return peer_->word_.load(std::memory_order_seq_cst) == peerWord_; }
  WcStatus takePeersReceive(AccessRun& run, RecvWqe& into);
  void prefetch(uint32_t request, uint32_t posted) const;
  void complete(const Wqe& wqe, WcStatus status);
  void completeReceive(const RecvWqe& receive, WcStatus status, const Wqe& message, uint8_t flags);
  void flushReceives();

  const std::shared_ptr<ProtectionDomain> pd_;
  const std::shared_ptr<CompletionQueue> sendCq_;
  const std::shared_ptr<CompletionQueue> recvCq_;
  std::atomic<uint64_t> word_{wordOf(QpState::RESET, access::REMOTE, 0)};
  std::atomic<uint32_t> remoteQpNum_{0};
  KeyTable& keys_;
  const uint32_t pdNumber_;
  std::shared_ptr<QueuePair> peer_;
  // The peer's, while there is one.
  KeyTable* peerKeys_ = nullptr;
  uint32_t peerPd_ = 0;
  std::atomic<bool> claimed_{false};
  SpinLock joinLock_;
  bool closed_ = false;  // changes under joinLock_
  // Of a pair that was ever lent. Set before its requests begin.
  std::shared_ptr<RemoteNic> remoteNic_;
  std::atomic<bool> lent_{false};
  SpinLock takeBackLock_;
  uint32_t sent_ = 0;  // work requests taken from the send ring
  Wqe current_{};      // the last of them
  uint64_t moved_ = 0;  // of its bytes, if it is not done yet
  uint64_t bytesLeft_ = 0;  // of what progress() may move
  uint64_t guesses_ = 0;
  uint64_t peerWord_ = 0;  // the peer's, when the request last looked
};

}  // namespace rnic
