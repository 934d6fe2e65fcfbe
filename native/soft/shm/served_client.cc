#include "served_client.h"

#include <time.h>

#include <algorithm>

#include "engine.h"

namespace rnic {

namespace {

// Of one pair in one visit, so that no client keeps the others waiting for long.
constexpr uint32_t VISIT_REQUESTS = 64;
constexpr uint64_t VISIT_BYTES = 256 << 10;
constexpr int VISIT_MESSAGES = 32;

// A client that sends more keys than this that are not of its protection domain guesses them. Each costs it a reset of its
// pair.
constexpr uint64_t GUESSES_AT_ONCE = 256;
constexpr uint64_t GUESSES_PER_SECOND = 16;

uint64_t nowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

[[noreturn]] void refuse(const char* what) { throw VerbsError(VerbsError::Kind::Type, what); }
[[noreturn]] void tooMany(const char* what) { throw VerbsError(VerbsError::Kind::Limit, what); }

bool isUnixSocket(int fd) {
  int domain = 0;
  socklen_t size = sizeof domain;
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

}  // namespace

ServedClient::ServedClient(std::shared_ptr<ControlSocket> socket, const ucred& credentials,
                           std::shared_ptr<Listener> listener, std::shared_ptr<Engine> engine)
    : peer_(credentials), socket_(std::move(socket)), listener_(std::move(listener)), engine_(std::move(engine)),
      device_(std::make_shared<Device>(false)) {}

bool ServedClient::progress() {
  bool worked = false;
  for (const auto& qp : qps_) worked |= qp->progress(VISIT_REQUESTS, VISIT_BYTES);
  return worked;
}

bool ServedClient::fallAsleep() {
  bool hasWork = false;
  for (const auto& qp : qps_) {
    qp->sendRing.nicSleeps().store(1, std::memory_order_seq_cst);
    hasWork |= qp->hasWork();
  }
  return hasWork;
}

void ServedClient::wakeUp() {
  for (const auto& qp : qps_) qp->sendRing.nicSleeps().store(0, std::memory_order_relaxed);
}

bool ServedClient::takeMessages() {
  ControlPacket packet;
  for (int i = 0; i < VISIT_MESSAGES; i++) {
    switch (socket_->receive(packet)) {
      case ControlSocket::Received::Nothing:
        return true;
      case ControlSocket::Received::End:
        return false;
      case ControlSocket::Received::Packet:
        break;
    }
    const ControlType type = packet.message.type;
    if (type == ControlType::DISCONNECT) return false;
    if (type == ControlType::WAKE) continue;
    ControlMessage reply;
    reply.type = ControlType::REPLY;
    try {
      handle(packet);
    } catch (const VerbsError& error) {
      reply.id = 1 + static_cast<uint32_t>(error.kind);
    } catch (const std::bad_alloc&) {
      reply.id = 1 + static_cast<uint32_t>(VerbsError::Kind::Limit);
    }
    if (!socket_->send(reply)) return false;
    // Who says nonsense before it is known gets no second chance.
    if (!greeted_) return false;
    // Descriptors that were refused wait for their closing, which is not to be kept up by ever more of them.
    const bool refused = packet.fds[0].isForeign() || packet.fds[1].isForeign();
    if (refused && !Descriptor::roomForForeign()) return false;
  }
  return true;
}

void ServedClient::handle(ControlPacket& packet) {
  const ControlMessage& message = packet.message;
  if (message.type == ControlType::HELLO) {
    if (message.args[0] != CONTROL_VERSION) refuse("another version of the link");
    greeted_ = true;
    return;
  }
  if (!greeted_) refuse("no greeting");
  switch (message.type) {
    case ControlType::ADD_CHANNEL:
      return addChannel(packet);
    case ControlType::ADD_CQ:
      return addCq(packet);
    case ControlType::ADD_SRQ:
      return addSrq(packet);
    case ControlType::ADD_QP:
      return addQp(packet);
    case ControlType::ADD_REGION:
      return addRegion(packet);
    case ControlType::REMOVE_REGION:
      return removeRegion(message);
    case ControlType::ADD_WINDOW:
      return pd(message.args[0]).addWindowAt(message.id);
    case ControlType::REMOVE_WINDOW:
      return pd(message.args[0]).removeWindow(message.id);
    case ControlType::MODIFY_QP:
      return modify(message);
    case ControlType::REMOVE_QP: {
      QueuePair& removed = qp(message.id);
      removed.close();
      guessesOfRemoved_ += removed.guesses();
      qps_.erase(std::find_if(qps_.begin(), qps_.end(), [&](const auto& each) { return each->qpNum == message.id; }));
      return;
    }
    case ControlType::CONNECT:
      return connect(message);
    default:
      refuse("unknown request");
  }
}

void ServedClient::addChannel(ControlPacket& packet) {
  if (channels_.size() >= MAX_LINK_CHANNELS) tooMany("channels");
  Descriptor& fd = packet.fds[0];
  // Sending to another kind of descriptor could block.
  if (!fd.has() || !isUnixSocket(fd.get())) refuse("a channel must come with a Unix-domain socket");
  if (channels_.count(packet.message.id) != 0) refuse("the channel is there");
  if (!Descriptor::roomForForeign()) tooMany("descriptors of the process");
  channels_[packet.message.id] = Channel::foreign(std::move(fd));
}

void ServedClient::addCq(ControlPacket& packet) {
  const uint32_t channel = packet.message.args[0];
  const uint32_t depth = packet.message.args[1];
  const uint32_t pushed = packet.message.args[2];
  if (cqs_.size() >= MAX_LINK_CQS) tooMany("completion queues");
  if (cqs_.count(packet.message.id) != 0) refuse("the completion queue is there");
  Ring<Cqe>::checkDepth("depth", depth, RING_PLACES_PER_CQE * MAX_CQE);
  std::shared_ptr<Channel> target;
  if (channel != CONTROL_NONE) {
    const auto found = channels_.find(channel);
    if (found == channels_.end()) refuse("no such channel");
    target = found->second;
  }
  auto memory = map(packet.fds[0], 0, Ring<Cqe>::bytesFor(depth));
  cqs_[packet.message.id] = std::make_shared<CompletionQueue>(depth, std::move(memory), pushed, std::move(target));
}

void ServedClient::addSrq(ControlPacket& packet) {
  const uint32_t pdNumber = packet.message.args[0];
  const uint32_t depth = packet.message.args[1];
  const uint32_t taken = packet.message.args[2];
  if (srqs_.size() >= MAX_LINK_SRQ) tooMany("shared receive queues");
  if (srqs_.count(packet.message.id) != 0) refuse("the shared receive queue is there");
  Ring<RecvWqe>::checkDepth("depth", depth, MAX_SRQ_WR);
  pd(pdNumber);
  Ring<RecvWqe> ring(depth, map(packet.fds[0], 0, Ring<RecvWqe>::bytesFor(depth)));
  auto srq = std::make_shared<ReceiveQueue>(std::move(ring), pds_[pdNumber]);
  srq->startAt(taken);
  srqs_[packet.message.id] = std::move(srq);
}

void ServedClient::addQp(ControlPacket& packet) {
  const auto& [pdNumber, sendCq, recvCq, sends, receives, sent, received, srq] = packet.message.args;
  if (connection_ != nullptr) refuse("a connection's queue pairs come before it");
  if (qps_.size() >= MAX_LINK_QPS) tooMany("queue pairs");
  for (const auto& each : qps_) {
    if (each->qpNum == packet.message.id) refuse("the queue pair is there");
  }
  Ring<Wqe>::checkDepth("maxSendWr", sends, MAX_QP_WR);
  if (srq == CONTROL_NONE) Ring<RecvWqe>::checkDepth("maxRecvWr", receives, MAX_QP_WR);
  const auto sendQueue = cqs_.find(sendCq);
  const auto recvQueue = cqs_.find(recvCq);
  if (sendQueue == cqs_.end() || recvQueue == cqs_.end()) refuse("no such completion queue");
  pd(pdNumber);
  Ring<Wqe> sendRing(sends, map(packet.fds[0], 0, Ring<Wqe>::bytesFor(sends)));
  std::shared_ptr<ReceiveQueue> buffers;
  if (srq == CONTROL_NONE) {
    buffers = std::make_shared<ReceiveQueue>(
        Ring<RecvWqe>(receives, map(packet.fds[1], 0, Ring<RecvWqe>::bytesFor(receives))));
    buffers->startAt(received);
  } else {
    const auto shared = srqs_.find(srq);
    if (shared == srqs_.end() || shared->second->pd() != pds_[pdNumber]) refuse("no such shared receive queue");
    buffers = shared->second;
  }
  auto qp = std::make_shared<QueuePair>(pds_[pdNumber], sendQueue->second, recvQueue->second, std::move(sendRing),
                                        std::move(buffers), packet.message.id);
  qp->startAt(sent);
  qps_.push_back(std::move(qp));
}

void ServedClient::addRegion(ControlPacket& packet) {
  const ControlMessage& message = packet.message;
  const auto& [offset, length, iova] = message.longs;
  if (regionBytes_.size() >= MAX_LINK_MR) tooMany("regions");
  ProtectionDomain& domain = pd(message.args[0]);
  auto memory = map(packet.fds[0], offset, length);
  try {
    domain.addRegionAt(message.id, {std::move(memory), 0, length, iova, message.args[1]});
  } catch (const VerbsError&) {
    mappedBytes_ -= length;
    throw;
  }
  regionBytes_[message.id] = length;
}

void ServedClient::removeRegion(const ControlMessage& message) {
  pd(message.args[0]).removeRegion(message.id);
  mappedBytes_ -= regionBytes_[message.id];
  regionBytes_.erase(message.id);
}

void ServedClient::connect(const ControlMessage& message) {
  if (connection_ != nullptr) refuse("the client is connected");
  const auto channel = channels_.find(message.id);
  if (channel == channels_.end()) refuse("no such channel");
  connectChannel_ = channel->second;
  connection_ = Connection::offer(listener_, qps_, shared_from_this());
  shakingHands_ = false;
}

void ServedClient::modify(const ControlMessage& message) {
  uint64_t guesses = guessesOfRemoved_;
  for (const auto& each : qps_) guesses += each->guesses();
  const uint64_t now = nowNs();
  const uint64_t forgiven = (now - forgivenNs_) / (1000000000 / GUESSES_PER_SECOND);
  if (forgiven > 0) {
    guessesForgiven_ = std::min(guesses, guessesForgiven_ + forgiven);
    forgivenNs_ = now;
  }
  if (guesses - std::min(guesses, guessesForgiven_) > GUESSES_AT_ONCE) {
    endRequested_ = true;
    tooMany("guessed keys");
  }
  qp(message.id).modify(static_cast<QpState>(message.args[0]), message.args[1]);
}

std::shared_ptr<HostMemory> ServedClient::map(Descriptor& fd, uint64_t offset, uint64_t bytes) {
  if (!fd.has()) refuse("the memory is missing");
  if (bytes > MAX_LINK_BYTES - mappedBytes_) tooMany("bytes of memory");
  auto memory = HostMemory::foreign(fd.get(), offset, bytes);
  fd.noLongerForeign();
  mappedBytes_ += bytes;
  return memory;
}

ProtectionDomain& ServedClient::pd(uint32_t number) {
  auto& domain = pds_[number];
  if (domain == nullptr) {
    if (pds_.size() > MAX_LINK_PDS) {
      pds_.erase(number);
      tooMany("protection domains");
    }
    domain = std::make_shared<ProtectionDomain>(device_);
  }
  return *domain;
}

QueuePair& ServedClient::qp(uint32_t number) {
  for (const auto& each : qps_) {
    if (each->qpNum == number) return *each;
  }
  refuse("no such queue pair");
}

void ServedClient::answered(bool accepted) {
  ControlMessage message;
  message.type = accepted ? ControlType::ACCEPTED : ControlType::REJECTED;
  const bool sent = socket_->send(message);
  connectChannel_->signal();
  if (!accepted || !sent) ended();
}

void ServedClient::ended() {
  endRequested_ = true;
  engine_->wake();
}

void ServedClient::drop() {
  if (connection_ != nullptr) connection_->close(Connection::Side::Client);
  connection_.reset();
  for (const auto& qp : qps_) qp->close();
  qps_.clear();
  srqs_.clear();
  cqs_.clear();
  // From now on nothing of the client's is touched by this thread: it may hear of it.
  socket_->end();
}

}  // namespace rnic
