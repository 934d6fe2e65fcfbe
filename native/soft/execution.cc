// What a queue pair does with the requests in its send ring.
#include <algorithm>
#include <cstring>

#include "copy.h"
#include "queue_pair.h"

namespace rnic {

namespace {

// Long transfers ask anew for their keys after so many bytes: the end of a permission never waits long for them.
constexpr uint64_t TRANSFER_CHUNK = 16384;

// Not a completion: progress() has moved all that it may and goes on with the request next time.
constexpr WcStatus UNDER_WAY = static_cast<WcStatus>(0xffffffff);

// Statuses that the responder gave: its pair is in ERR too.
bool fromResponder(WcStatus status) {
  return status == WcStatus::REM_INV_REQ_ERR || status == WcStatus::REM_ACCESS_ERR || status == WcStatus::REM_OP_ERR;
}

bool isWindowWork(Opcode opcode) { return opcode == Opcode::BIND_MW || opcode == Opcode::LOCAL_INV; }

bool takesInline(Opcode opcode) {
  return opcode == Opcode::SEND || opcode == Opcode::SEND_WITH_IMM || opcode == Opcode::SEND_WITH_INV ||
         opcode == Opcode::RDMA_WRITE || opcode == Opcode::RDMA_WRITE_WITH_IMM;
}

}  // namespace

bool QueuePair::progress(uint32_t requests, uint64_t bytes) {
  const uint32_t posted = sendRing.userCounter().load(std::memory_order_acquire);
  // Receive buffers that were posted after the pair failed.
  if (state() == QpState::ERR) flushReceives();
  if (sent_ == posted && moved_ == 0) return false;
  if (posted - sent_ > sendRing.depth()) {
    fail();
    sent_ = posted - sendRing.depth();
  }
  HazardSlot* const hazards = threadHazardSlot();
  AccessRun run(hazards);
  KeyTable::WindowRun windows(keys_);
  bytesLeft_ = bytes;
  prefetch(sent_, posted);
  prefetch(sent_ + 1, posted);
  for (; requests > 0 && bytesLeft_ > 0 && (sent_ != posted || moved_ > 0); requests--) {
    if (moved_ == 0) {
      std::memcpy(&current_, sendRing.entry(sent_), sizeof current_);
      sent_++;
      prefetch(sent_ + 1, posted);
    }
    WcStatus status = WcStatus::WR_FLUSH_ERR;
    if (state() == QpState::RTS) {
      status = hazards == nullptr ? WcStatus::LOC_QP_OP_ERR : execute(current_, run, windows);
    }
    if (status != WcStatus::SUCCESS) run.end();
    if (status == UNDER_WAY) continue;
    moved_ = 0;
    if (status == WcStatus::SUCCESS && (current_.sendFlags & send_flag::SIGNALED) == 0) continue;
    windows.end();
    if (status != WcStatus::SUCCESS && status != WcStatus::WR_FLUSH_ERR) {
      if (fromResponder(status)) {
        const uint32_t key = current_.opcode == Opcode::SEND_WITH_INV ? current_.imm : current_.rkey;
        if (status == WcStatus::REM_ACCESS_ERR && !peerKeys_->isOf(peerPd_, key)) guesses_++;
        peer_->failIfStill(peerWord_);
      }
      fail();
    }
    complete(current_, status);
  }
  windows.end();
  sendRing.nicCounter().store(sent_ - (moved_ > 0 ? 1 : 0), std::memory_order_release);
  return true;
}

// Begin to bring what a later request needs into the cache: an access waits for its own store to the hazard slot, so the
// misses of successive accesses do not overlap by themselves.
void QueuePair::prefetch(uint32_t request, uint32_t posted) const {
  if (static_cast<int32_t>(posted - request) <= 0 || state() != QpState::RTS || peer_ == nullptr) return;
  const Wqe& next = *sendRing.entry(request);
  if (!isWindowWork(next.opcode)) peerKeys_->prefetch(next.rkey, next.remoteAddr, next.length);
}

void QueuePair::complete(const Wqe& wqe, WcStatus status) {
  Cqe entry{};
  entry.wrId = wqe.wrId;
  entry.status = status;
  entry.opcode = completionOpcode(wqe.opcode);
  entry.byteLen = wqe.length;
  entry.qpNum = qpNum;
  entry.index = static_cast<uint16_t>(sent_ - 1);
  if (!sendCq_->push(entry)) fail();
  sendRing.nicCounter().store(sent_, std::memory_order_release);
}

// Whether the peer takes a request that needs these rights of its pair.
WcStatus QueuePair::askPeer(uint32_t need) {
  if (peer_ == nullptr || peer_->remoteQpNum() != qpNum) return WcStatus::RETRY_EXC_ERR;
  peerWord_ = peer_->word_.load(std::memory_order_seq_cst);
  const QpState state = stateIn(peerWord_);
  if (state != QpState::RTR && state != QpState::RTS) return WcStatus::RETRY_EXC_ERR;
  return (accessIn(peerWord_) & need) == need ? WcStatus::SUCCESS : WcStatus::REM_INV_REQ_ERR;
}

// The hazard stays until the message is completed.
WcStatus QueuePair::takePeersReceive(AccessRun& run, RecvWqe& into) {
  do {
    const WcStatus answer = askPeer(0);
    if (answer != WcStatus::SUCCESS) return answer;
    run.announceMessage();
  } while (!peerIsAsBefore());
  return peer_->receives->take(into) ? WcStatus::SUCCESS : WcStatus::RNR_RETRY_EXC_ERR;
}

WcStatus QueuePair::execute(const Wqe& wqe, AccessRun& run, KeyTable::WindowRun& windows) {
  // What ends keys waits for hazards, this thread's too; and what comes after window work finds it done.
  if (isWindowWork(wqe.opcode)) {
    run.end();
  } else {
    windows.end();
  }
  if ((wqe.sendFlags & send_flag::INLINE) != 0 && (!takesInline(wqe.opcode) || wqe.length > WQE_INLINE_BYTES)) {
    return WcStatus::LOC_QP_OP_ERR;
  }
  if (wqe.length > MAX_MESSAGE) return WcStatus::LOC_LEN_ERR;
  switch (wqe.opcode) {
    case Opcode::RDMA_READ:
      return transfer(wqe, run, true);
    case Opcode::RDMA_WRITE:
      return transfer(wqe, run, false);
    case Opcode::CMP_AND_SWP:
    case Opcode::FETCH_AND_ADD:
      return atomic(wqe, run);
    case Opcode::RDMA_WRITE_WITH_IMM:
      return writeWithImm(wqe, run);
    case Opcode::SEND:
    case Opcode::SEND_WITH_IMM:
    case Opcode::SEND_WITH_INV:
      return send(wqe, run);
    case Opcode::BIND_MW:
      return windows.bind(pdNumber_, wqe.rkey, wqe.lkey, wqe.remoteAddr, wqe.compareAdd, wqe.bindAccess)
                 ? WcStatus::SUCCESS
                 : WcStatus::MW_BIND_ERR;
    case Opcode::LOCAL_INV:
      return windows.invalidate(pdNumber_, wqe.rkey) ? WcStatus::SUCCESS : WcStatus::LOC_QP_OP_ERR;
    default:
      return WcStatus::LOC_QP_OP_ERR;
  }
}

WcStatus QueuePair::transfer(const Wqe& wqe, AccessRun& run, bool isRead) {
  const bool isInline = (wqe.sendFlags & send_flag::INLINE) != 0;
  const uint32_t localNeed = isRead ? access::LOCAL_WRITE : LOCAL_READ;
  const uint32_t remoteNeed = isRead ? access::REMOTE_READ : access::REMOTE_WRITE;
  uint64_t& done = moved_;
  // A transfer of no bytes uses no key (InfiniBand specification, C9-88), but needs a peer.
  do {
    const uint64_t left = wqe.length - done;
    uint8_t* local = nullptr;
    if (left > 0) {
      local = isInline ? const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(&wqe.localAddr)) + done
                       : keys_.resolve(run.local(), wqe.lkey, pdNumber_, wqe.localAddr + done, left, localNeed);
      if (local == nullptr) return WcStatus::LOC_PROT_ERR;
    }
    const uint64_t before = peerWord_;
    const WcStatus answer = askPeer(remoteNeed);
    if (answer != WcStatus::SUCCESS) return answer;
    if (left == 0) {
      run.count(0);
      break;
    }
    if (done > 0 && epochIn(peerWord_) != epochIn(before)) return WcStatus::RETRY_EXC_ERR;
    uint8_t* const remote =
        peerKeys_->resolve(run.remote(), wqe.rkey, peerPd_, wqe.remoteAddr + done, left, remoteNeed);
    if (!peerIsAsBefore()) continue;
    if (remote == nullptr) return WcStatus::REM_ACCESS_ERR;
    const uint64_t chunk = std::min(left, TRANSFER_CHUNK);
    if (isRead) {
      copyFromRemote(local, remote, chunk);
    } else {
      copyToRemote(remote, local, chunk);
    }
    done += chunk;
    run.count(chunk);
    bytesLeft_ -= std::min(bytesLeft_, chunk);
  } while (done < wqe.length && bytesLeft_ > 0);
  return done < wqe.length ? UNDER_WAY : WcStatus::SUCCESS;
}

WcStatus QueuePair::atomic(const Wqe& wqe, AccessRun& run) {
  if (wqe.length != 8) return WcStatus::LOC_LEN_ERR;
  uint8_t* const local = keys_.resolve(run.local(), wqe.lkey, pdNumber_, wqe.localAddr, 8, access::LOCAL_WRITE);
  if (local == nullptr) return WcStatus::LOC_PROT_ERR;
  uint8_t* remote;
  do {
    const WcStatus answer = askPeer(access::REMOTE_ATOMIC);
    if (answer != WcStatus::SUCCESS) return answer;
    remote = peerKeys_->resolve(run.remote(), wqe.rkey, peerPd_, wqe.remoteAddr, 8, access::REMOTE_ATOMIC);
  } while (!peerIsAsBefore());
  if (remote == nullptr) return WcStatus::REM_ACCESS_ERR;
  // Both the address that was named and the place where it lies: a region's addresses need not be aligned as memory is.
  if ((wqe.remoteAddr & 7) != 0 || (reinterpret_cast<uintptr_t>(remote) & 7) != 0) return WcStatus::REM_INV_REQ_ERR;
  auto* const word = reinterpret_cast<uint64_t*>(remote);
  uint64_t old;
  if (wqe.opcode == Opcode::FETCH_AND_ADD) {
    old = __atomic_fetch_add(word, wqe.compareAdd, __ATOMIC_SEQ_CST);
  } else {
    old = wqe.compareAdd;
    __atomic_compare_exchange_n(word, &old, wqe.swap, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  }
  std::memcpy(local, &old, sizeof old);
  run.count(sizeof old);
  return WcStatus::SUCCESS;
}

WcStatus QueuePair::send(const Wqe& wqe, AccessRun& run) {
  const bool isInline = (wqe.sendFlags & send_flag::INLINE) != 0;
  const uint8_t* from = nullptr;
  if (isInline) {
    from = reinterpret_cast<const uint8_t*>(&wqe.localAddr);
  } else if (wqe.length > 0) {
    from = keys_.resolve(run.local(), wqe.lkey, pdNumber_, wqe.localAddr, wqe.length, LOCAL_READ);
    if (from == nullptr) return WcStatus::LOC_PROT_ERR;
  }
  RecvWqe receive;
  const WcStatus taken = takePeersReceive(run, receive);
  if (taken != WcStatus::SUCCESS) return taken;
  if (wqe.length > receive.length) {
    peer_->completeReceive(receive, WcStatus::LOC_LEN_ERR, wqe, 0);
    return WcStatus::REM_INV_REQ_ERR;
  }
  if (wqe.length > 0) {
    uint8_t* const to = peerKeys_->resolve(run.remote(), receive.lkey, peerPd_, receive.localAddr, wqe.length,
                                           access::LOCAL_WRITE);
    if (to == nullptr) {
      peer_->completeReceive(receive, WcStatus::LOC_PROT_ERR, wqe, 0);
      return WcStatus::REM_OP_ERR;
    }
    copyToRemote(to, from, wqe.length);
  }
  uint8_t flags = 0;
  if (wqe.opcode == Opcode::SEND_WITH_IMM) flags = wc_flag::WITH_IMM;
  if (wqe.opcode == Opcode::SEND_WITH_INV) {
    // The revoker waits for every hazard on the window's key, and this thread must not wait for itself.
    run.local().store(nullptr, std::memory_order_release);
    run.remote().store(nullptr, std::memory_order_release);
    if (!peerKeys_->invalidate(peerPd_, wqe.imm)) {
      peer_->completeReceive(receive, WcStatus::LOC_QP_OP_ERR, wqe, 0);
      return WcStatus::REM_ACCESS_ERR;
    }
    flags = wc_flag::WITH_INV;
  }
  peer_->completeReceive(receive, WcStatus::SUCCESS, wqe, flags);
  run.count(wqe.length);
  return WcStatus::SUCCESS;
}

WcStatus QueuePair::writeWithImm(const Wqe& wqe, AccessRun& run) {
  const WcStatus status = transfer(wqe, run, false);
  if (status != WcStatus::SUCCESS) return status;
  RecvWqe receive;
  const WcStatus taken = takePeersReceive(run, receive);
  if (taken != WcStatus::SUCCESS) return taken;
  peer_->completeReceive(receive, WcStatus::SUCCESS, wqe, wc_flag::WITH_IMM);
  run.count(0);
  return WcStatus::SUCCESS;
}

void QueuePair::completeReceive(const RecvWqe& receive, WcStatus status, const Wqe& message, uint8_t flags) {
  Cqe entry{};
  entry.wrId = receive.wrId;
  entry.status = status;
  entry.opcode = message.opcode == Opcode::RDMA_WRITE_WITH_IMM ? WcOpcode::RECV_RDMA_WITH_IMM : WcOpcode::RECV;
  entry.qpNum = qpNum;
  entry.index = static_cast<uint16_t>(receive.index);
  if (status == WcStatus::SUCCESS) {
    entry.flags = flags;
    entry.byteLen = message.length;
    entry.imm = flags != 0 ? message.imm : 0;
  }
  if (!recvCq_->push(entry, (message.sendFlags & send_flag::SOLICITED) != 0)) fail();
}

}  // namespace rnic
