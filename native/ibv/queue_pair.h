#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "../soft/ring.h"
#include "completion_queue.h"

namespace ibv {

// How the other side's queue pair is reached.
struct RemotePair {
  uint32_t qpNum;
  uint32_t psn;
  uint16_t lid;
  int mtu;
  Gid gid;
};

class SharedReceiveQueue {
 public:
  SharedReceiveQueue(std::shared_ptr<ProtectionDomain> pd, uint32_t maxWr);
  ~SharedReceiveQueue();
  SharedReceiveQueue(const SharedReceiveQueue&) = delete;
  SharedReceiveQueue& operator=(const SharedReceiveQueue&) = delete;

  // Hand what was posted to the device.
  void flush();
  void completed() { ring.nicCounter().fetch_add(1, std::memory_order_release); }

  const std::shared_ptr<ProtectionDomain> pd;
  const rnic::Ring<rnic::RecvWqe> ring;
  uint32_t users = 0;
  Srq* const srq;

 private:
  uint32_t taken_ = 0;
};

// A reliable connection of the device. JavaScript writes work requests into the ring of the software RNIC's form; the
// doorbell translates what is new there into a chain for the device.
//
// Places in the ring become free when a completion says that the device is done with them, so the last request of each
// doorbell always asks for one. Window work is done when the doorbell returns, as with the software RNIC: that is what
// makes the end of a permission final, and it tells this provider the state of every window. (A device may not be told
// to invalidate a window that is not bound: Soft-RoCE's kernel does not survive it.)
class QueuePair {
 public:
  QueuePair(std::shared_ptr<ProtectionDomain> pd, std::shared_ptr<CompletionQueue> sendCq,
            std::shared_ptr<CompletionQueue> recvCq, std::shared_ptr<SharedReceiveQueue> srq, uint32_t maxSendWr,
            uint32_t maxRecvWr);
  ~QueuePair() { close(); }
  QueuePair(const QueuePair&) = delete;
  QueuePair& operator=(const QueuePair&) = delete;

  // For good; what was not completed never is.
  void close();
  uint32_t qpNum() const { return qpNum_; }
  uint32_t remoteQpNum() const { return remote_.qpNum; }
  uint32_t psn() const { return psn_; }
  rnic::QpState state();
  // Throws if the transition is not legal.
  void modify(rnic::QpState next, uint32_t access);
  // From RESET to RTS, against this pair.
  void connect(const RemotePair& remote);
  // ERR from any state.
  void end();
  void doorbell();
  // Hand what was posted to the device.
  void flushReceives();
  // What a completion of the device is for JavaScript; false if it asked for none.
  bool completed(const Wc& wc, rnic::Cqe& into);

  // Take the pair for a connection; false if another has it.
  bool claim();
  void unclaim() { claimed_ = false; }
  // `look` looks for what the other side of the connection has said.
  void connectionIs(std::function<void()> look) { lookForNews_ = std::move(look); }

  const std::shared_ptr<ProtectionDomain> pd;
  const rnic::Ring<rnic::Wqe> sendRing;
  const rnic::Ring<rnic::RecvWqe> recvRing;
  const std::shared_ptr<CompletionQueue> sendCq;
  const std::shared_ptr<CompletionQueue> recvCq;

 private:
  struct WindowWork {
    uint32_t count;  // of the request in the ring
    Window* window;
    bool binds;
    uint32_t key;
    uint32_t lkey;
  };

  void lookForNews();
  void toInit(uint32_t access);
  void toRtr(uint32_t access);
  void toRts(uint32_t access);
  void set(QpAttr& attr, int mask, const char* what);
  void reset();
  void flushAll(uint32_t until);
  uint32_t postChunk(uint32_t until);
  // Fill in the device's form of a request; the status with which it fails here, or SUCCESS.
  rnic::WcStatus translate(uint32_t count, const rnic::Wqe& wqe, SendWr& wr, uint32_t place);
  rnic::WcStatus translateWindowWork(uint32_t count, const rnic::Wqe& wqe, SendWr& wr, Mw& mw);
  void refuse(uint32_t count, rnic::WcStatus status, SendWr& wr, Sge& sge);
  void finishWindowWork();
  void settleWindows();

  const std::shared_ptr<SharedReceiveQueue> srq_;
  const uint32_t sendDepth_;
  Qp* qp_ = nullptr;  // null when closed
  uint32_t qpNum_ = 0;
  const uint32_t psn_;
  RemotePair remote_{};
  bool claimed_ = false;
  std::function<void()> lookForNews_;
  // What modify() and connect() made of it; the device may have put it into ERR since.
  rnic::QpState reached_ = rnic::QpState::RESET;
  uint32_t access_ = rnic::access::REMOTE;
  uint32_t taken_ = 0;    // requests taken from the send ring
  uint32_t retired_ = 0;  // of them, those that the device is done with
  bool failed_ = false;   // a request of this doorbell did, and this is the first
  uint32_t failedAt_ = 0;
  uint32_t received_ = 0;  // taken from the receive ring
  Mr noRegion_{};  // what a window of type 1 is bound to when its key ends
  std::vector<WindowWork> windowWork_;
  // The chain, and what its requests point to.
  std::vector<SendWr> chain_;
  std::vector<Sge> sges_;
  std::vector<Mw> mws_;
};

}  // namespace ibv
