#include "queue_pair.h"

#include <arpa/inet.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

#include "library.h"

namespace ibv {

using rnic::Cqe;
using rnic::Opcode;
using rnic::QpState;
using rnic::RecvWqe;
using rnic::VerbsError;
using rnic::WcOpcode;
using rnic::WcStatus;
using rnic::Wqe;

namespace {

// Requests that go to the device in one chain.
constexpr uint32_t CHAIN = 64;
// 4.096 us << 14 = 67 ms until a packet is sent again, so often. (7 retries are without end on Soft-RoCE.)
constexpr uint8_t TIMEOUT = 14;
constexpr uint8_t RETRIES = 6;
// A message that finds no receive buffer is sent again so often, after 0.64 ms each time.
constexpr uint8_t RNR_RETRIES = 6;
constexpr uint8_t RNR_TIMER = 12;
// Requests that read or swap, under way at once.
constexpr int RD_ATOMIC = 16;
// Window work takes microseconds; a device that needs longer than this for it does not work.
constexpr time_t WINDOW_WORK_SECONDS = 5;
// So does the flush of what was under way when a pair failed.
constexpr time_t FLUSH_SECONDS = 1;
// No device gives such a key out.
constexpr uint32_t NO_LKEY = 0xffffffff;

// What the device gives back with a completion. Sends: the request's running number, and the status that replaces the
// device's. Receives: the user's number.
constexpr uint64_t RECEIVE = uint64_t{1} << 63;
constexpr int STATUS_SHIFT = 32;

uint32_t randomPsn() {
  std::random_device source;
  return source() & 0xffffff;
}

time_t seconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec;
}

// The contract's statuses are fewer than the device's.
WcStatus contractStatus(int status) {
  switch (static_cast<WcStatus>(status)) {
    case WcStatus::SUCCESS:
    case WcStatus::LOC_LEN_ERR:
    case WcStatus::LOC_QP_OP_ERR:
    case WcStatus::LOC_PROT_ERR:
    case WcStatus::WR_FLUSH_ERR:
    case WcStatus::MW_BIND_ERR:
    case WcStatus::LOC_ACCESS_ERR:
    case WcStatus::REM_INV_REQ_ERR:
    case WcStatus::REM_ACCESS_ERR:
    case WcStatus::REM_OP_ERR:
    case WcStatus::RETRY_EXC_ERR:
    case WcStatus::RNR_RETRY_EXC_ERR:
      return static_cast<WcStatus>(status);
  }
  return WcStatus::LOC_QP_OP_ERR;
}

void fillReceive(const RecvWqe& wqe, RecvWr& wr, Sge& sge) {
  sge = Sge{wqe.localAddr, wqe.length, wqe.lkey};
  wr = RecvWr{RECEIVE | static_cast<uint32_t>(wqe.wrId), nullptr, &sge, wqe.length > 0 ? 1 : 0};
}

Srq* createSrq(ProtectionDomain& pd, uint32_t maxWr) {
  SrqInitAttr attr{nullptr, maxWr, 1, 0};
  errno = 0;
  Srq* const srq = library().createSrq(pd.pd, &attr);
  if (srq == nullptr) refused("a shared receive queue", errno);
  return srq;
}

}  // namespace

SharedReceiveQueue::SharedReceiveQueue(std::shared_ptr<ProtectionDomain> owner, uint32_t maxWr)
    : pd(std::move(owner)), ring(maxWr, false), srq(createSrq(*pd, maxWr)) {
  pd->users++;
}

SharedReceiveQueue::~SharedReceiveQueue() {
  library().destroySrq(srq);
  pd->users--;
}

void SharedReceiveQueue::flush() {
  const uint32_t posted = ring.userCounter().load(std::memory_order_acquire);
  for (; taken_ != posted; taken_++) {
    RecvWr wr;
    Sge sge;
    fillReceive(*ring.entry(taken_), wr, sge);
    RecvWr* bad;
    // Fails for what no message could come into: the buffer is lost, as if it had been taken.
    if (pd->device->context->ops.postSrqRecv(srq, &wr, &bad) != 0) completed();
  }
}

QueuePair::QueuePair(std::shared_ptr<ProtectionDomain> owner, std::shared_ptr<CompletionQueue> sends,
                     std::shared_ptr<CompletionQueue> receives, std::shared_ptr<SharedReceiveQueue> srq,
                     uint32_t maxSendWr, uint32_t maxRecvWr)
    : pd(std::move(owner)), sendRing(maxSendWr, false), recvRing(maxRecvWr, false), sendCq(std::move(sends)),
      recvCq(std::move(receives)), srq_(std::move(srq)), sendDepth_(maxSendWr), psn_(randomPsn()),
      chain_(std::min(CHAIN, maxSendWr)), sges_(std::min(CHAIN, maxSendWr)), mws_(std::min(CHAIN, maxSendWr)) {
  QpInitAttr init{};
  init.sendCq = sendCq->cq();
  init.recvCq = recvCq->cq();
  init.srq = srq_ == nullptr ? nullptr : srq_->srq;
  init.cap = QpCap{maxSendWr, srq_ == nullptr ? maxRecvWr : 0, 1, 1, rnic::WQE_INLINE_BYTES};
  init.type = QP_TYPE_RC;
  errno = 0;
  qp_ = library().createQp(pd->pd, &init);
  if (qp_ == nullptr) refused("a queue pair", errno);
  qpNum_ = qp_->qpNum;
  try {
    sendCq->attach(*this, maxSendWr);
    try {
      recvCq->attach(*this, srq_ == nullptr ? maxRecvWr : srq_->ring.depth());
    } catch (...) {
      sendCq->detach(*this, maxSendWr);
      throw;
    }
  } catch (...) {
    library().destroyQp(qp_);
    throw;
  }
  noRegion_.context = pd->device->context;
  noRegion_.pd = pd->pd;
  pd->users++;
  if (srq_ != nullptr) srq_->users++;
}

void QueuePair::close() {
  if (qp_ == nullptr) return;
  // What it has completed so far is for its user; what it would flush now is not.
  sendCq->pump();
  recvCq->pump();
  pd->retireWindowsOf(qpNum_);
  library().destroyQp(qp_);
  qp_ = nullptr;
  reached_ = QpState::ERR;
  sendCq->detach(*this, sendDepth_);
  recvCq->detach(*this, srq_ == nullptr ? recvRing.depth() : srq_->ring.depth());
  if (srq_ != nullptr) srq_->users--;
  pd->users--;
}

bool QueuePair::claim() {
  if (claimed_ || reached_ != QpState::RESET) return false;
  claimed_ = true;
  return true;
}

void QueuePair::lookForNews() {
  // A copy: what it finds may end it.
  const std::function<void()> look = lookForNews_;
  if (look) look();
}

QpState QueuePair::state() {
  lookForNews();
  if (reached_ == QpState::RESET || reached_ == QpState::ERR) return reached_;
  QpAttr attr{};
  QpInitAttr init{};
  if (library().queryQp(qp_, &attr, qp_attr::STATE, &init) != 0) return reached_;
  switch (static_cast<QpState>(attr.state)) {
    case QpState::RESET:
    case QpState::INIT:
    case QpState::RTR:
    case QpState::RTS:
      return static_cast<QpState>(attr.state);
    default:
      return QpState::ERR;
  }
}

void QueuePair::set(QpAttr& attr, int mask, const char* what) {
  const int error = library().modifyQp(qp_, &attr, mask);
  if (error != 0) refused(what, error);
}

void QueuePair::toInit(uint32_t access) {
  QpAttr attr{};
  attr.state = static_cast<int>(QpState::INIT);
  attr.portNum = pd->device->options.port;
  attr.access = access;
  set(attr, qp_attr::STATE | qp_attr::PKEY_INDEX | qp_attr::PORT | qp_attr::ACCESS, "INIT for a queue pair");
  reached_ = QpState::INIT;
  flushReceives();
}

void QueuePair::toRtr(uint32_t access) {
  const Device& device = *pd->device;
  QpAttr attr{};
  attr.state = static_cast<int>(QpState::RTR);
  attr.pathMtu = std::min(device.port.activeMtu, remote_.mtu);
  attr.destQpNum = remote_.qpNum;
  attr.rqPsn = remote_.psn;
  attr.maxDestRdAtomic = static_cast<uint8_t>(std::min(RD_ATOMIC, device.attr.maxQpRdAtom));
  attr.minRnrTimer = RNR_TIMER;
  attr.access = access;
  attr.ah.portNum = device.options.port;
  attr.ah.dlid = remote_.lid;
  if (device.port.linkLayer == LINK_LAYER_ETHERNET || remote_.lid == 0) {
    attr.ah.isGlobal = 1;
    attr.ah.dgid = remote_.gid;
    attr.ah.sgidIndex = static_cast<uint8_t>(device.gidIndex);
    attr.ah.hopLimit = 64;
  }
  set(attr,
      qp_attr::STATE | qp_attr::AV | qp_attr::PATH_MTU | qp_attr::DEST_QPN | qp_attr::RQ_PSN |
          qp_attr::MAX_DEST_RD_ATOMIC | qp_attr::MIN_RNR_TIMER | qp_attr::ACCESS,
      "RTR for a queue pair");
  reached_ = QpState::RTR;
}

void QueuePair::toRts(uint32_t access) {
  QpAttr attr{};
  attr.state = static_cast<int>(QpState::RTS);
  attr.access = access;
  int mask = qp_attr::STATE | qp_attr::ACCESS;
  if (reached_ == QpState::RTR) {
    attr.sqPsn = psn_;
    attr.timeout = TIMEOUT;
    attr.retryCount = RETRIES;
    attr.rnrRetry = RNR_RETRIES;
    attr.maxRdAtomic = static_cast<uint8_t>(std::min(RD_ATOMIC, pd->device->attr.maxQpInitRdAtom));
    mask |= qp_attr::SQ_PSN | qp_attr::TIMEOUT | qp_attr::RETRY_COUNT | qp_attr::RNR_RETRY | qp_attr::MAX_QP_RD_ATOMIC;
  }
  set(attr, mask, "RTS for a queue pair");
  reached_ = QpState::RTS;
}

void QueuePair::connect(const RemotePair& remote) {
  if (qp_ == nullptr) throw VerbsError(VerbsError::Kind::Closed, "the queue pair is closed");
  remote_ = remote;
  toInit(access_);
  toRtr(access_);
  toRts(access_);
}

void QueuePair::modify(QpState next, uint32_t access) {
  if (qp_ == nullptr) throw VerbsError(VerbsError::Kind::Closed, "the queue pair is closed");
  if (next == QpState::ERR) {
    end();
    return;
  }
  if (next == QpState::RESET) {
    reset();
    return;
  }
  const QpState now = state();
  const bool forward = (now == QpState::RESET && next == QpState::INIT) ||
                       (now == QpState::INIT && next == QpState::RTR) || (now == QpState::RTR && next == QpState::RTS) ||
                       (now == QpState::RTS && next == QpState::RTS);
  if (!forward) throw VerbsError(VerbsError::Kind::Type, "not a legal transition of a queue pair's state");
  if (next == QpState::RTR && remote_.qpNum == 0) {
    throw VerbsError(VerbsError::Kind::Type, "the queue pair has never been connected");
  }
  access_ = access & rnic::access::REMOTE;
  if (next == QpState::INIT) toInit(access_);
  if (next == QpState::RTR) toRtr(access_);
  if (next == QpState::RTS) toRts(access_);
}

void QueuePair::reset() {
  QpAttr attr{};
  attr.state = static_cast<int>(QpState::RESET);
  set(attr, qp_attr::STATE, "RESET for a queue pair");
  // The device has no completion of it left to give when these return.
  sendCq->pump();
  recvCq->pump();
  settleWindows();
  pd->device->dropAsyncEvents();
  reached_ = QpState::RESET;
  access_ = rnic::access::REMOTE;
  taken_ = retired_ = sendRing.userCounter().load(std::memory_order_acquire);
  sendRing.nicCounter().store(retired_, std::memory_order_release);
  received_ = recvRing.userCounter().load(std::memory_order_acquire);
  recvRing.nicCounter().store(received_, std::memory_order_release);
}

void QueuePair::end() {
  if (qp_ == nullptr) return;
  QpAttr attr{};
  attr.state = static_cast<int>(QpState::ERR);
  // Legal from every state; and if the device can't, it has failed as a whole.
  library().modifyQp(qp_, &attr, qp_attr::STATE);
  reached_ = QpState::ERR;
  flushReceives();
  sendCq->pump();
  recvCq->pump();
}

void QueuePair::flushReceives() {
  // A device takes none in RESET; what is posted then goes to it with INIT. In ERR one may take them and keep them.
  if (srq_ != nullptr || qp_ == nullptr || reached_ == QpState::RESET) return;
  if (reached_ == QpState::ERR) recvCq->pump();
  const uint32_t posted = recvRing.userCounter().load(std::memory_order_acquire);
  for (; received_ != posted; received_++) {
    const RecvWqe& wqe = *recvRing.entry(received_);
    RecvWr wr;
    Sge sge;
    fillReceive(wqe, wr, sge);
    RecvWr* bad;
    if (reached_ != QpState::ERR && pd->device->context->ops.postRecv(qp_, &wr, &bad) == 0) continue;
    recvRing.nicCounter().fetch_add(1, std::memory_order_release);
    Cqe entry{};
    entry.wrId = wqe.wrId;
    entry.status = reached_ == QpState::ERR ? WcStatus::WR_FLUSH_ERR : WcStatus::LOC_QP_OP_ERR;
    entry.opcode = WcOpcode::RECV;
    entry.qpNum = qpNum();
    recvCq->push(entry);
  }
}

bool QueuePair::completed(const Wc& wc, Cqe& into) {
  into.qpNum = qpNum();
  into.status = contractStatus(wc.status);
  if (into.status != WcStatus::SUCCESS) reached_ = QpState::ERR;
  if ((wc.wrId & RECEIVE) != 0) {
    if (srq_ != nullptr) {
      srq_->completed();
    } else {
      recvRing.nicCounter().fetch_add(1, std::memory_order_release);
    }
    into.wrId = static_cast<uint32_t>(wc.wrId);
    into.opcode = WcOpcode::RECV;
    if (into.status != WcStatus::SUCCESS) return true;
    into.opcode = static_cast<WcOpcode>(wc.opcode);
    into.byteLen = wc.byteLen;
    into.flags = static_cast<uint8_t>(wc.flags & (rnic::wc_flag::WITH_IMM | rnic::wc_flag::WITH_INV));
    if ((into.flags & rnic::wc_flag::WITH_INV) != 0) {
      into.imm = wc.immOrInvalidatedRkey;
      Window* const window = pd->windowOf(into.imm);
      if (window != nullptr && window->key == into.imm) pd->unbound(*window);
    } else if (into.flags != 0) {
      into.imm = ntohl(wc.immOrInvalidatedRkey);
    }
    return true;
  }
  const auto count = static_cast<uint32_t>(wc.wrId);
  const Wqe& wqe = *sendRing.entry(count);
  const auto replaced = static_cast<WcStatus>((wc.wrId >> STATUS_SHIFT) & 0xff);
  if (into.status != WcStatus::SUCCESS) {
    if (into.status != WcStatus::WR_FLUSH_ERR && replaced != WcStatus::SUCCESS) into.status = replaced;
    if (!failed_) {
      failed_ = true;
      failedAt_ = count;
    }
  }
  into.wrId = wqe.wrId;
  into.opcode = completionOpcode(wqe.opcode);
  into.byteLen = wqe.length;
  // Behind an error every request completes by itself.
  if (static_cast<int32_t>(count + 1 - retired_) > 0) retired_ = count + 1;
  const bool wanted = into.status != WcStatus::SUCCESS || (wqe.sendFlags & rnic::send_flag::SIGNALED) != 0;
  sendRing.nicCounter().store(retired_, std::memory_order_release);
  return wanted;
}

void QueuePair::doorbell() {
  if (reached_ == QpState::RESET) lookForNews();
  uint32_t posted = sendRing.userCounter().load(std::memory_order_acquire);
  if (posted - retired_ > sendDepth_) {
    // Not what this ring's writer writes: the pair is broken, as if it had posted nonsense.
    end();
    posted = retired_ + sendDepth_;
  }
  if (posted - retired_ > sendDepth_ / 2) sendCq->pump();
  while (taken_ != posted) {
    if (reached_ != QpState::RTS) {
      flushAll(posted);
      break;
    }
    taken_ = postChunk(posted);
  }
  if (!windowWork_.empty()) finishWindowWork();
}

// Before RTS a device takes no requests: they have nobody to go to. In ERR they only come back.
void QueuePair::flushAll(uint32_t until) {
  // They complete in their order: first those that are with the device.
  const time_t deadline = seconds() + FLUSH_SECONDS;
  while (retired_ != taken_ && seconds() <= deadline) sendCq->pump();
  for (; taken_ != until; taken_++) {
    const Wqe& wqe = *sendRing.entry(taken_);
    Cqe entry{};
    entry.wrId = wqe.wrId;
    entry.status = WcStatus::WR_FLUSH_ERR;
    entry.opcode = completionOpcode(wqe.opcode);
    entry.byteLen = wqe.length;
    entry.qpNum = qpNum();
    sendCq->push(entry);
  }
  retired_ = taken_;
  sendRing.nicCounter().store(retired_, std::memory_order_release);
}

uint32_t QueuePair::postChunk(uint32_t until) {
  const auto size = std::min(until - taken_, static_cast<uint32_t>(chain_.size()));
  for (uint32_t i = 0; i < size; i++) {
    const uint32_t count = taken_ + i;
    // Copied, as what is checked must be what is sent.
    const Wqe wqe = *sendRing.entry(count);
    SendWr& wr = chain_[i];
    const WcStatus status = translate(count, wqe, wr, i);
    if (status != WcStatus::SUCCESS) refuse(count, status, wr, sges_[i]);
    wr.next = i + 1 < size ? &chain_[i + 1] : nullptr;
  }
  chain_[size - 1].sendFlags |= rnic::send_flag::SIGNALED;
  SendWr* next = &chain_[0];
  while (next != nullptr) {
    SendWr* bad = nullptr;
    const int error = pd->device->context->ops.postSend(qp_, next, &bad);
    if (error == 0) break;
    const auto at = static_cast<size_t>(bad - chain_.data());
    const uint32_t count = taken_ + static_cast<uint32_t>(at);
    if (bad == nullptr || at >= size || (chain_[at].wrId >> STATUS_SHIFT) != 0) {
      // It takes nothing at all any more.
      end();
      const uint32_t left = bad == nullptr || at >= size ? taken_ : count;
      taken_ = left;
      flushAll(until);
      return until;
    }
    // A request that the device does not even take.
    SendWr* const after = bad->next;
    refuse(count, WcStatus::LOC_QP_OP_ERR, *bad, sges_[at]);
    bad->next = after;
    next = bad;
  }
  return taken_ + size;
}

// A request that is refused here must fail in its turn, after those before it and before those behind it. So it becomes
// one that the device surely refuses, for its local key, before anything leaves the device.
void QueuePair::refuse(uint32_t count, WcStatus status, SendWr& wr, Sge& sge) {
  sge = Sge{0, 1, NO_LKEY};
  wr = SendWr{};
  wr.wrId = count | static_cast<uint64_t>(status) << STATUS_SHIFT;
  wr.sgList = &sge;
  wr.numSge = 1;
  wr.opcode = static_cast<int>(Opcode::RDMA_WRITE);
  wr.sendFlags = rnic::send_flag::SIGNALED;
}

WcStatus QueuePair::translate(uint32_t count, const Wqe& wqe, SendWr& wr, uint32_t place) {
  Sge& sge = sges_[place];
  wr = SendWr{};
  wr.wrId = count;
  wr.opcode = static_cast<int>(wqe.opcode);
  wr.sendFlags = wqe.sendFlags & (rnic::send_flag::FENCE | rnic::send_flag::SIGNALED | rnic::send_flag::SOLICITED |
                                  rnic::send_flag::INLINE);
  const bool isInline = (wqe.sendFlags & rnic::send_flag::INLINE) != 0;
  if (isInline) {
    if (wqe.length > rnic::WQE_INLINE_BYTES) return WcStatus::LOC_QP_OP_ERR;
    // In the ring, where it stays until the device has copied it: within the post.
    const Wqe* const inRing = sendRing.entry(count);
    sge = Sge{reinterpret_cast<uintptr_t>(&inRing->localAddr), wqe.length, 0};
  } else {
    sge = Sge{wqe.localAddr, wqe.length, wqe.lkey};
  }
  wr.sgList = &sge;
  wr.numSge = wqe.length > 0 ? 1 : 0;
  if (wqe.length > pd->device->port.maxMessage) return WcStatus::LOC_LEN_ERR;
  switch (wqe.opcode) {
    case Opcode::SEND:
      return WcStatus::SUCCESS;
    case Opcode::SEND_WITH_IMM:
      wr.immOrInvalidateRkey = htonl(wqe.imm);
      return WcStatus::SUCCESS;
    case Opcode::SEND_WITH_INV:
      wr.immOrInvalidateRkey = wqe.imm;
      return WcStatus::SUCCESS;
    case Opcode::RDMA_WRITE_WITH_IMM:
      wr.immOrInvalidateRkey = htonl(wqe.imm);
      break;
    case Opcode::RDMA_WRITE:
      break;
    case Opcode::RDMA_READ:
      if (isInline) return WcStatus::LOC_QP_OP_ERR;
      break;
    case Opcode::CMP_AND_SWP:
    case Opcode::FETCH_AND_ADD:
      if (isInline) return WcStatus::LOC_QP_OP_ERR;
      if (wqe.length != 8) return WcStatus::LOC_LEN_ERR;
      // Some devices do not take it, others leave it to the responder.
      if ((wqe.remoteAddr & 7) != 0) return WcStatus::REM_INV_REQ_ERR;
      wr.wr.atomic.remoteAddr = wqe.remoteAddr;
      wr.wr.atomic.compareAdd = wqe.compareAdd;
      wr.wr.atomic.swap = wqe.swap;
      wr.wr.atomic.rkey = wqe.rkey;
      return WcStatus::SUCCESS;
    case Opcode::BIND_MW:
    case Opcode::LOCAL_INV:
      return isInline ? WcStatus::LOC_QP_OP_ERR : translateWindowWork(count, wqe, wr, mws_[place]);
    default:
      return WcStatus::LOC_QP_OP_ERR;
  }
  wr.wr.rdma.remoteAddr = wqe.remoteAddr;
  wr.wr.rdma.rkey = wqe.rkey;
  return WcStatus::SUCCESS;
}

WcStatus QueuePair::translateWindowWork(uint32_t count, const Wqe& wqe, SendWr& wr, Mw& mw) {
  wr.sgList = nullptr;
  wr.numSge = 0;
  wr.sendFlags &= ~static_cast<unsigned int>(rnic::send_flag::SOLICITED);
  const bool binds = wqe.opcode == Opcode::BIND_MW;
  Window* const window = pd->windowOf(wqe.rkey);
  if (window == nullptr || window->mw == nullptr) return binds ? WcStatus::MW_BIND_ERR : WcStatus::LOC_QP_OP_ERR;
  const bool type2 = window->mw->type == MW_TYPE_2;
  // What it will be behind the requests that stand before this one in the ring.
  const auto pending = std::find_if(windowWork_.rbegin(), windowWork_.rend(),
                                    [window](const WindowWork& work) { return work.window == window; });
  const bool bound = pending != windowWork_.rend() ? pending->binds : window->bound;
  const uint32_t key = pending != windowWork_.rend() ? pending->key : window->key;
  // The device wants to be told the key that the window has, which may be that of a request before this one.
  mw = *window->mw;
  if (pending != windowWork_.rend()) mw.rkey = pending->key;
  if (binds) {
    Region* const region = pd->regionOf(wqe.lkey);
    if (region == nullptr || wqe.compareAdd == 0) return WcStatus::MW_BIND_ERR;
    if ((wqe.bindAccess & ~rnic::access::REMOTE) != 0) return WcStatus::MW_BIND_ERR;
    // The key of before would live again.
    const bool used = window->used || pending != windowWork_.rend();
    if (used && mw.rkey == wqe.rkey) return WcStatus::MW_BIND_ERR;
    if (type2 && bound) return WcStatus::MW_BIND_ERR;
    wr.bind.mw = &mw;
    wr.bind.rkey = wqe.rkey;
    wr.bind.info = MwBindInfo{region->mr, wqe.remoteAddr, wqe.compareAdd, wqe.bindAccess};
  } else {
    // Never to the device: see above.
    if (!bound || key != wqe.rkey) return WcStatus::LOC_QP_OP_ERR;
    if (type2) {
      wr.immOrInvalidateRkey = wqe.rkey;
    } else {
      wr.opcode = static_cast<int>(Opcode::BIND_MW);
      wr.bind.mw = &mw;
      wr.bind.rkey = wqe.rkey;
      wr.bind.info = MwBindInfo{&noRegion_, 0, 0, 0};
    }
  }
  windowWork_.push_back(WindowWork{count, window, binds, wqe.rkey, wqe.lkey});
  return WcStatus::SUCCESS;
}

void QueuePair::finishWindowWork() {
  const uint32_t last = windowWork_.back().count + 1;
  const time_t deadline = seconds() + WINDOW_WORK_SECONDS;
  while (static_cast<int32_t>(last - retired_) > 0) {
    if (sendCq->pump() == 0 && seconds() > deadline) {
      end();
      break;
    }
  }
  settleWindows();
}

// Requests before the first that failed were executed, it and those behind it were not.
void QueuePair::settleWindows() {
  for (const WindowWork& work : windowWork_) {
    const bool done = static_cast<int32_t>(retired_ - work.count) > 0;
    if (!done || (failed_ && static_cast<int32_t>(work.count - failedAt_) >= 0)) break;
    work.window->mw->rkey = work.key;
    if (work.binds) {
      pd->bound(*work.window, work.key, work.lkey, qpNum());
    } else {
      pd->unbound(*work.window);
    }
  }
  windowWork_.clear();
  failed_ = false;
}

}  // namespace ibv
