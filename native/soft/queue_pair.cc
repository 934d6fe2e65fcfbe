#include "queue_pair.h"

#include <mutex>

namespace rnic {

namespace {

std::atomic<uint32_t> nextQpNum{1};

}  // namespace

QueuePair::QueuePair(std::shared_ptr<ProtectionDomain> pd, std::shared_ptr<CompletionQueue> sendCq,
                     std::shared_ptr<CompletionQueue> recvCq, Ring<Wqe> sends,
                     std::shared_ptr<ReceiveQueue> buffers, uint32_t number)
    : qpNum(number), sendRing(std::move(sends)), receives(std::move(buffers)), recvRing(receives->ring),
      pd_(std::move(pd)), sendCq_(std::move(sendCq)), recvCq_(std::move(recvCq)), keys_(pd_->device->keys),
      pdNumber_(pd_->number) {
  if (pd_->device->qps >= MAX_QP) throw VerbsError(VerbsError::Kind::Limit, "the device has no queue pair left");
  pd_->device->qps++;
  pd_->users++;
  sendCq_->users++;
  recvCq_->users++;
  receives->users++;
}

uint32_t QueuePair::newQpNum() { return nextQpNum++; }

uint32_t QueuePair::remoteQpNum() const {
  if (lent_.load(std::memory_order_acquire)) return sendRing.remoteQpNum().load(std::memory_order_acquire);
  return remoteQpNum_.load(std::memory_order_acquire);
}

void QueuePair::enter(QpState next) {
  uint64_t now = word_.load();
  while (!enterFrom(now, wordOf(next, accessIn(now), epochIn(now)))) {
  }
}

bool QueuePair::enterFrom(uint64_t& now, uint64_t next) {
  const bool entered = word_.compare_exchange_strong(now, next, std::memory_order_seq_cst);
  if (entered) publishState();
  return entered;
}

// Two threads may change the state at once: whoever publishes an old one publishes again.
void QueuePair::publishState() {
  QpState published;
  do {
    published = stateIn(word_.load(std::memory_order_seq_cst));
    sendRing.qpState().store(static_cast<uint32_t>(published), std::memory_order_seq_cst);
  } while (published != stateIn(word_.load(std::memory_order_seq_cst)));
}

void QueuePair::lendTo(std::shared_ptr<RemoteNic> nic) {
  remoteNic_ = std::move(nic);
  lent_.store(true, std::memory_order_seq_cst);
}

void QueuePair::takeBack() {
  if (!lent_.load(std::memory_order_seq_cst)) return;
  std::lock_guard<SpinLock> lock(takeBackLock_);
  remoteQpNum_.store(sendRing.remoteQpNum().load(std::memory_order_acquire));
  enter(QpState::ERR);
  sent_ = sendRing.nicCounter().load(std::memory_order_acquire);
  const uint32_t posted = sendRing.userCounter().load(std::memory_order_acquire);
  if (posted - sent_ > sendRing.depth()) sent_ = posted - sendRing.depth();
  // The NIC says that it is done with a request after it completed it: it may have come to one and not to the other.
  for (uint32_t count = sent_; count != posted; count++) {
    if ((sendRing.entry(count)->sendFlags & send_flag::SIGNALED) == 0) continue;
    if (sendCq_->youngest(qpNum, false) == static_cast<uint16_t>(count)) sent_ = count + 1;
    break;
  }
  // With receive buffers it is the other way round: it may have taken one and not completed it.
  uint32_t taken = recvRing.nicCounter().load(std::memory_order_acquire);
  const int32_t received = recvCq_->youngest(qpNum, true);
  if (receives->pd() == nullptr && received >= 0 && received == static_cast<uint16_t>(taken - 2)) taken--;
  receives->startAt(taken);
  // From here on the owner's doorbell flushes by itself. What it posted before, it may have left to the NIC.
  lent_.store(false, std::memory_order_seq_cst);
  flushReceives();
  progress(UINT32_MAX, UINT64_MAX);
}

void QueuePair::connect(const std::shared_ptr<QueuePair>& one, const std::shared_ptr<QueuePair>& other) {
  one->join(other);
  other->join(one);
}

void QueuePair::join(const std::shared_ptr<QueuePair>& peer) {
  std::lock_guard<SpinLock> lock(joinLock_);
  if (closed_) return;
  peer_ = peer;
  peerKeys_ = &peer->keys_;
  peerPd_ = peer->pdNumber_;
  remoteQpNum_.store(peer->qpNum);
  sendRing.remoteQpNum().store(peer->qpNum);
  enter(QpState::RTS);
}

void QueuePair::modify(QpState next, uint32_t rights) {
  if (closed_) throw VerbsError(VerbsError::Kind::Closed, "the queue pair is closed");
  if (lent_.load() && remoteNic_->modify(*this, next, rights)) return;
  uint64_t word = word_.load();
  const QpState now = stateIn(word);
  const bool forward = (now == QpState::RESET && next == QpState::INIT) ||
                       (now == QpState::INIT && next == QpState::RTR) || (now == QpState::RTR && next == QpState::RTS) ||
                       (now == QpState::RTS && next == QpState::RTS);
  if (next == QpState::ERR) {
    end();
    return;
  }
  if (next == QpState::RESET) {
    reset();
    return;
  }
  if (!forward) throw VerbsError(VerbsError::Kind::Type, "not a legal transition of a queue pair's state");
  if (next == QpState::RTR && remoteQpNum() == 0) {
    throw VerbsError(VerbsError::Kind::Type, "the queue pair has never been connected");
  }
  // The peer may have failed this pair meanwhile: then it stays in ERR.
  const bool narrower = (accessIn(word) & ~rights) != 0;
  if (enterFrom(word, wordOf(next, rights & access::REMOTE, epochIn(word))) && narrower) waitForAccesses();
}

void QueuePair::reset() {
  uint64_t now = word_.load();
  while (!enterFrom(now, wordOf(QpState::RESET, access::REMOTE, epochIn(now) + 1))) {
  }
  waitForAccesses();
  sent_ = sendRing.userCounter().load(std::memory_order_acquire);
  moved_ = 0;
  sendRing.nicCounter().store(sent_, std::memory_order_release);
  if (receives->pd() == nullptr) receives->drop();
}

void QueuePair::failIfStill(uint64_t word) {
  uint64_t now = word_.load();
  while (epochIn(now) == epochIn(word) && stateIn(now) != QpState::RESET && stateIn(now) != QpState::ERR) {
    if (enterFrom(now, wordOf(QpState::ERR, accessIn(now), epochIn(now)))) {
      flushReceives();
      return;
    }
  }
}

void QueuePair::end() {
  enter(QpState::ERR);
  waitForAccesses();
  flushReceives();
}

void QueuePair::close() {
  if (lent_.load()) remoteNic_->remove(*this);
  lent_.store(false);
  std::shared_ptr<QueuePair> peer;
  {
    std::lock_guard<SpinLock> lock(joinLock_);
    if (closed_) return;
    closed_ = true;
    peer.swap(peer_);
  }
  end();
  pd_->users--;
  sendCq_->users--;
  recvCq_->users--;
  receives->users--;
  pd_->device->qps--;
}

void QueuePair::doorbell() {
  if (remoteNic_ == nullptr) {
    progress(UINT32_MAX, UINT64_MAX);
    return;
  }
  // Sequentially consistent with the NIC, which says that it sleeps and then looks at the counter once more, and with
  // takeBack(): one of the two sees the other.
  std::atomic<uint32_t>& posted = sendRing.userCounter();
  posted.store(posted.load(std::memory_order_relaxed), std::memory_order_seq_cst);
  if (lent_.load(std::memory_order_seq_cst)) {
    if (sendRing.nicSleeps().load(std::memory_order_seq_cst) != 0) remoteNic_->wake();
    return;
  }
  std::lock_guard<SpinLock> lock(takeBackLock_);
  progress(UINT32_MAX, UINT64_MAX);
}

// A shared queue's buffers are not this pair's to flush. Another thread than the owner's may be late: the pair has been
// reset since it failed, and the buffers are those of its next life. So it says what it is about, as a message does, and
// then looks.
void QueuePair::flushReceives() {
  if (receives->pd() != nullptr) return;
  HazardSlot* const hazards = threadHazardSlot();
  const bool announced = hazards == nullptr || hazards->arriving.exchange(true, std::memory_order_seq_cst);
  RecvWqe receive;
  while (stateIn(word_.load(std::memory_order_seq_cst)) == QpState::ERR && receives->take(receive)) {
    Cqe entry{};
    entry.wrId = receive.wrId;
    entry.status = WcStatus::WR_FLUSH_ERR;
    entry.opcode = WcOpcode::RECV;
    entry.qpNum = qpNum;
    entry.index = static_cast<uint16_t>(receive.index);
    if (!recvCq_->push(entry)) break;
  }
  if (!announced) hazards->arriving.store(false, std::memory_order_release);
}

}  // namespace rnic
