#include "client_link.h"

#include <algorithm>
#include <set>

#include "link_watcher.h"

namespace rnic {

namespace {

// The engine answers within microseconds; one that doesn't for so long is stopped, and so is every operation.
constexpr int REPLY_MS = 5000;
constexpr int END_MS = 2000;
constexpr VerbsError::Kind LAST_KIND = VerbsError::Kind::NoListener;

ControlMessage message(ControlType type, uint32_t id = 0, std::array<uint32_t, 8> args = {},
                       std::array<uint64_t, 3> longs = {}) {
  return {type, id, args, longs};
}

// The completion queues, which serve only these pairs, as shared receive queues do: another process works on them from now on.
std::set<std::shared_ptr<CompletionQueue>> ownQueues(const std::vector<std::shared_ptr<QueuePair>>& qps) {
  std::map<std::shared_ptr<CompletionQueue>, uint32_t> uses;
  std::map<std::shared_ptr<ReceiveQueue>, uint32_t> srqUses;
  for (const auto& qp : qps) {
    if (!qp->pd()->device->shared) {
      throw VerbsError(VerbsError::Kind::Type, "the device's memory can't be shared with another process: open shm0");
    }
    uses[qp->sendCq()]++;
    uses[qp->recvCq()]++;
    if (qp->receives->pd() != nullptr) srqUses[qp->receives]++;
  }
  for (const auto& [srq, count] : srqUses) {
    if (srq->users != count) {
      throw VerbsError(VerbsError::Kind::Busy, "a shared receive queue serves pairs outside of the connection");
    }
  }
  std::set<std::shared_ptr<CompletionQueue>> queues;
  for (const auto& [cq, count] : uses) {
    if (cq->users != count || cq->lent()) {
      throw VerbsError(VerbsError::Kind::Busy, "a completion queue serves pairs outside of the connection");
    }
    queues.insert(cq);
  }
  return queues;
}

}  // namespace

ClientLink::ClientLink(std::shared_ptr<ControlSocket> socket, std::shared_ptr<Channel> channel, size_t qpCount)
    : socket_(std::move(socket)), channel_(std::move(channel)), qpCount_(qpCount) {}

ClientLink::~ClientLink() { socket_->end(); }

std::shared_ptr<ClientLink> ClientLink::connect(const std::string& path, std::vector<std::shared_ptr<QueuePair>> qps,
                                                std::shared_ptr<Channel> channel) {
  if (channel->signalFd() < 0) throw VerbsError(VerbsError::Kind::Type, "the channel is of another device");
  const auto queues = ownQueues(qps);
  QueuePairClaim claim(qps);
  std::shared_ptr<ClientLink> link(new ClientLink(ControlSocket::connect(path), std::move(channel), qps.size()));
  for (const auto& cq : queues) cq->lend();
  link->qps_ = qps;
  try {
    link->introduce(qps);
    for (const auto& qp : qps) qp->lendTo(link);
    if (!link->ask(message(ControlType::CONNECT, link->channelId(link->channel_)))) {
      throw VerbsError(VerbsError::Kind::NoListener, "the listener at unix:" + path + " closed the connection");
    }
  } catch (const VerbsError&) {
    link->state_ = Connection::State::Rejected;
    link->close();
    throw;
  }
  claim.keep();
  LinkWatcher::watch(link);
  return link;
}

void ClientLink::introduce(const std::vector<std::shared_ptr<QueuePair>>& qps) {
  bool there = ask(message(ControlType::HELLO, 0, {CONTROL_VERSION}));
  channelId(channel_);
  for (const auto& qp : qps) {
    const std::shared_ptr<ProtectionDomain>& pd = qp->pd();
    if (std::find(pds_.begin(), pds_.end(), pd) == pds_.end()) {
      pds_.push_back(pd);
      pd->addMirror(shared_from_this());
    }
    const uint32_t sendCq = cqId(qp->sendCq());
    const uint32_t recvCq = cqId(qp->recvCq());
    const bool own = qp->receives->pd() == nullptr;
    const uint32_t srq = own ? CONTROL_NONE : srqId(qp->receives);
    there = ask(message(ControlType::ADD_QP, qp->qpNum,
                        {pd->number, sendCq, recvCq, qp->sendRing.depth(), qp->recvRing.depth(), qp->sent(),
                         qp->receives->taken(), srq}),
                qp->sendRing.memory()->fd(), own ? qp->recvRing.memory()->fd() : -1);
  }
  if (!there) throw VerbsError(VerbsError::Kind::NoListener, "the listener closed the connection");
}

uint32_t ClientLink::channelId(const std::shared_ptr<Channel>& channel) {
  const auto [found, isNew] = channels_.emplace(channel, static_cast<uint32_t>(channels_.size()));
  if (isNew) ask(message(ControlType::ADD_CHANNEL, found->second), channel->signalFd());
  return found->second;
}

uint32_t ClientLink::srqId(const std::shared_ptr<ReceiveQueue>& srq) {
  const auto [found, isNew] = srqs_.emplace(srq, static_cast<uint32_t>(srqs_.size()));
  if (isNew) {
    ask(message(ControlType::ADD_SRQ, found->second, {srq->pd()->number, srq->ring.depth(), srq->taken()}),
        srq->ring.memory()->fd());
  }
  return found->second;
}

uint32_t ClientLink::cqId(const std::shared_ptr<CompletionQueue>& cq) {
  const auto [found, isNew] = cqs_.emplace(cq, static_cast<uint32_t>(cqs_.size()));
  if (isNew) {
    const uint32_t channel = cq->channel() == nullptr ? CONTROL_NONE : channelId(cq->channel());
    ask(message(ControlType::ADD_CQ, found->second, {channel, cq->ring.depth(), cq->pushed()}),
        cq->ring.memory()->fd());
  }
  return found->second;
}

bool ClientLink::ask(const ControlMessage& request, int fd0, int fd1) {
  std::lock_guard<std::mutex> lock(askMutex_);
  if (!socket_->send(request, fd0, fd1)) return false;
  ControlPacket packet;
  for (;;) {
    switch (socket_->receive(packet)) {
      case ControlSocket::Received::End:
        return false;
      case ControlSocket::Received::Nothing:
        if (socket_->waitReadable(REPLY_MS)) continue;
        // Whatever it answers later would be taken for the answer to another request.
        socket_->end();
        return false;
      case ControlSocket::Received::Packet:
        break;
    }
    if (packet.message.type != ControlType::REPLY) {
      heard(packet.message);
      continue;
    }
    const uint32_t refused = packet.message.id;
    if (refused == 0) return true;
    const auto kind = static_cast<VerbsError::Kind>(std::min(refused - 1, static_cast<uint32_t>(LAST_KIND)));
    throw VerbsError(kind, "the node's side of the link refused request " +
                               std::to_string(static_cast<uint32_t>(request.type)));
  }
}

void ClientLink::heard(const ControlMessage& said) {
  Connection::State connecting = Connection::State::Connecting;
  if (said.type == ControlType::ACCEPTED) state_.compare_exchange_strong(connecting, Connection::State::Established);
  if (said.type == ControlType::REJECTED) state_.compare_exchange_strong(connecting, Connection::State::Rejected);
}

void ClientLink::listen() {
  if (state_ != Connection::State::Connecting) return;
  std::lock_guard<std::mutex> lock(askMutex_);
  ControlPacket packet;
  while (socket_->receive(packet) == ControlSocket::Received::Packet) heard(packet.message);
}

Connection::State ClientLink::state() {
  listen();
  // Who sees that may connect the pairs again.
  if (state_ == Connection::State::Rejected) end();
  return state_;
}

void ClientLink::wake() { socket_->send(message(ControlType::WAKE)); }

bool ClientLink::modify(const QueuePair& qp, QpState next, uint32_t access) {
  if (ask(message(ControlType::MODIFY_QP, qp.qpNum, {static_cast<uint32_t>(next), access}))) return true;
  end();
  return false;
}

void ClientLink::remove(const QueuePair& qp) {
  if (!ask(message(ControlType::REMOVE_QP, qp.qpNum))) end();
  std::lock_guard<std::mutex> lock(endMutex_);
  qps_.erase(std::remove_if(qps_.begin(), qps_.end(), [&](const auto& each) { return each.get() == &qp; }),
             qps_.end());
}

void ClientLink::addRegion(uint32_t pd, uint32_t key, const RegionRecord& region) {
  ask(message(ControlType::ADD_REGION, key, {pd, region.access}, {region.offset, region.length, region.iova}),
      region.memory->fd());
}

void ClientLink::askToRemove(const ControlMessage& request) {
  try {
    ask(request);
  } catch (const VerbsError& error) {
    if (error.kind != VerbsError::Kind::Closed) throw;
  }
}

void ClientLink::removeRegion(uint32_t pd, uint32_t key) {
  askToRemove(message(ControlType::REMOVE_REGION, key, {pd}));
}

void ClientLink::addWindow(uint32_t pd, uint32_t keyBase) { ask(message(ControlType::ADD_WINDOW, keyBase, {pd})); }

void ClientLink::removeWindow(uint32_t pd, uint32_t keyBase) {
  askToRemove(message(ControlType::REMOVE_WINDOW, keyBase, {pd}));
}

void ClientLink::close() {
  LinkWatcher::forget(*this);
  socket_->send(message(ControlType::DISCONNECT));
  socket_->waitEnd(END_MS);
  end();
  for (const auto& pd : pds_) pd->removeMirror(*this);
  pds_.clear();
}

void ClientLink::end() {
  std::lock_guard<std::mutex> lock(endMutex_);
  if (ended_) return;
  ended_ = true;
  // It may have rejected the connection just before.
  listen();
  const bool rejected = state_ == Connection::State::Rejected;
  for (const auto& [cq, id] : cqs_) cq->takeBack();
  for (const auto& qp : qps_) {
    if (rejected) {
      qp->returnUnused();
    } else {
      qp->takeBack();
    }
  }
  qps_.clear();
  cqs_.clear();
  srqs_.clear();
  channels_.clear();
  if (!rejected) state_ = Connection::State::Closed;
  channel_->signal();
}

}  // namespace rnic
