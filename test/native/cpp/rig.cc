#include "rig.h"

#include <cstring>
#include <fstream>

namespace rig {

std::optional<Cqe> Poller::poll() {
  const Ring<Cqe>& ring = cq_->ring;
  Cqe* const entry = ring.entry(polled_);
  if (reinterpret_cast<std::atomic<uint32_t>*>(&entry->sequence)->load(std::memory_order_seq_cst) != polled_ + 1) {
    return std::nullopt;
  }
  Cqe copy{};
  std::memcpy(&copy, entry, offsetof(Cqe, sequence));
  ring.userCounter().store(++polled_, std::memory_order_release);
  return copy;
}

int Poller::drain() {
  int count = 0;
  while (poll()) count++;
  return count;
}

std::shared_ptr<CompletionQueue> newCq(uint32_t depth, std::shared_ptr<Channel> channel, bool shared) {
  return std::make_shared<CompletionQueue>(depth, shared, std::move(channel));
}

std::shared_ptr<ReceiveQueue> newReceives(uint32_t depth, bool shared) {
  return std::make_shared<ReceiveQueue>(Ring<RecvWqe>(depth, shared));
}

Pair::Pair(const std::shared_ptr<ProtectionDomain>& pd, uint32_t depth, uint32_t cqDepth)
    : sendCq(newCq(cqDepth, nullptr, pd->device->shared)), recvCq(newCq(cqDepth, nullptr, pd->device->shared)), sends(sendCq), receives(recvCq),
      qp(std::make_shared<QueuePair>(pd, sendCq, recvCq, Ring<Wqe>(depth, pd->device->shared),
                                     newReceives(depth, pd->device->shared))) {}

void Pair::post(const Wqe& wqe) {
  const uint32_t count = qp->sendRing.userCounter().load(std::memory_order_relaxed);
  CHECK(count - qp->sendRing.nicCounter().load(std::memory_order_acquire) < qp->sendRing.depth());
  std::memcpy(qp->sendRing.entry(count), &wqe, sizeof wqe);
  qp->sendRing.userCounter().store(count + 1, std::memory_order_release);
}

void Pair::postRecv(uint64_t wrId, uint32_t lkey, uint64_t address, uint32_t length) {
  const uint32_t count = qp->recvRing.userCounter().load(std::memory_order_relaxed);
  CHECK(count - qp->recvRing.nicCounter().load(std::memory_order_acquire) < qp->recvRing.depth());
  RecvWqe wqe{};
  wqe.wrId = wrId;
  wqe.localAddr = address;
  wqe.lkey = lkey;
  wqe.length = length;
  std::memcpy(qp->recvRing.entry(count), &wqe, sizeof wqe);
  qp->recvRing.userCounter().store(count + 1, std::memory_order_release);
}

Cqe Pair::runForCompletion(Wqe wqe) {
  wqe.sendFlags |= send_flag::SIGNALED;
  post(wqe);
  qp->doorbell();
  const std::optional<Cqe> done = sends.poll();
  CHECK(done.has_value());
  CHECK(!sends.poll());
  return *done;
}

WcStatus Pair::run(Wqe wqe) { return runForCompletion(wqe).status; }

void Pair::recover() {
  for (const QpState next : {QpState::RESET, QpState::INIT, QpState::RTR, QpState::RTS}) {
    qp->modify(next, access::REMOTE);
  }
  sends.drain();
  receives.drain();
}

Side::Side(size_t bytes, bool shared)
    : device(std::make_shared<Device>(shared)), pd(std::make_shared<ProtectionDomain>(device)),
      memory(shared ? HostMemory::shared(bytes) : std::make_shared<HostMemory>(bytes)),
      key(pd->addRegion(memory, 0, bytes, 0, ALL)) {}

Side::~Side() { pd->removeRegion(key); }

Link::Link(const Side& clientSide, const Side& nodeSide) : client(clientSide.pd), node(nodeSide.pd) {
  QueuePair::connect(client.qp, node.qp);
}

void Link::recover() {
  client.recover();
  node.recover();
}

namespace {
Wqe request(Opcode opcode, uint32_t lkey, uint64_t local, uint32_t length) {
  Wqe wqe{};
  wqe.opcode = opcode;
  wqe.lkey = lkey;
  wqe.localAddr = local;
  wqe.length = length;
  return wqe;
}

Wqe remoteRequest(Opcode opcode, uint32_t lkey, uint64_t local, uint32_t length, uint32_t rkey, uint64_t remote) {
  Wqe wqe = request(opcode, lkey, local, length);
  wqe.rkey = rkey;
  wqe.remoteAddr = remote;
  return wqe;
}
}  // namespace

uint64_t residentBytes() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return 0;
#else
  uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages >> pages;
  return pages * 4096;
#endif
}

Wqe read(uint32_t lkey, uint64_t local, uint32_t length, uint32_t rkey, uint64_t remote) {
  return remoteRequest(Opcode::RDMA_READ, lkey, local, length, rkey, remote);
}

Wqe write(uint32_t lkey, uint64_t local, uint32_t length, uint32_t rkey, uint64_t remote) {
  return remoteRequest(Opcode::RDMA_WRITE, lkey, local, length, rkey, remote);
}

Wqe cas(uint32_t lkey, uint64_t local, uint32_t rkey, uint64_t remote, uint64_t expected, uint64_t desired) {
  Wqe wqe = remoteRequest(Opcode::CMP_AND_SWP, lkey, local, 8, rkey, remote);
  wqe.compareAdd = expected;
  wqe.swap = desired;
  return wqe;
}

Wqe faa(uint32_t lkey, uint64_t local, uint32_t rkey, uint64_t remote, uint64_t addend) {
  Wqe wqe = remoteRequest(Opcode::FETCH_AND_ADD, lkey, local, 8, rkey, remote);
  wqe.compareAdd = addend;
  return wqe;
}

Wqe send(uint32_t lkey, uint64_t local, uint32_t length) { return request(Opcode::SEND, lkey, local, length); }

Wqe bind(uint32_t rkey, uint32_t lkey, uint64_t start, uint64_t length, uint32_t rights) {
  Wqe wqe{};
  wqe.opcode = Opcode::BIND_MW;
  wqe.rkey = rkey;
  wqe.lkey = lkey;
  wqe.remoteAddr = start;
  wqe.compareAdd = length;
  wqe.bindAccess = static_cast<uint16_t>(rights);
  return wqe;
}

Wqe invalidate(uint32_t rkey) {
  Wqe wqe{};
  wqe.opcode = Opcode::LOCAL_INV;
  wqe.rkey = rkey;
  return wqe;
}

}  // namespace rig
