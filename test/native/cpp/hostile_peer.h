// A client of the shared-memory link that does what it likes: it speaks to the node's socket directly.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <initializer_list>
#include <optional>

#include "../../../native/soft/shm/control.h"
#include "rig.h"

namespace rig {

// Any octets and any number of descriptors, in one message; false if the other end is gone.
inline bool sendWith(int socket, const void* octets, size_t size, std::initializer_list<int> fds) {
  iovec bytes{const_cast<void*>(octets), size};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(32 * sizeof(int))> control{};
  if (fds.size() > 0) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* const part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(part), fds.begin(), fds.size() * sizeof(int));
  }
  return sendmsg(socket, &header, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
}

class HostilePeer {
 public:
  static constexpr uint32_t DEPTH = 64;
  static constexpr uint32_t PD = 1;
  static constexpr uint32_t REGION = 1 << KEY_TAG_BITS | 1;
  static constexpr size_t REGION_BYTES = 8192;
  // What a good client does before the listener accepts it; the connection to the socket is none of these.
  static constexpr int HANDSHAKE = 6;

  explicit HostilePeer(const std::string& path, int count = 1)
      : channel_(true), cq_(256, true), memory_(HostMemory::shared(REGION_BYTES)), socket_(ControlSocket::connect(path)) {
    for (int i = 0; i < count; i++) pairs_.emplace_back();
  }

  const Ring<Wqe>& sends(int pair = 0) const { return pairs_[pair].sends; }
  const Ring<RecvWqe>& receives() const { return pairs_[0].receives; }
  const Ring<Cqe>& cq() const { return cq_; }
  HostMemory& memory() { return *memory_; }
  int channel() const { return channel_.signalFd(); }

  // The reply: 0 if the node did it; nothing if it has ended the link.
  std::optional<uint32_t> ask(const ControlMessage& message, std::initializer_list<int> fds = {}) {
    if (!say(&message, sizeof message, fds)) return std::nullopt;
    for (;;) {
      const auto heard = hear();
      if (!heard) return std::nullopt;
      if (heard->type == ControlType::REPLY) return heard->id;
      accepted_ |= heard->type == ControlType::ACCEPTED;
    }
  }

  // Any octets and any number of descriptors; false if the link has ended.
  bool say(const void* octets, size_t size, std::initializer_list<int> fds) {
    return sendWith(socket_->fd(), octets, size, fds);
  }

  // The next message; nothing if the link has ended.
  std::optional<ControlMessage> hear() {
    ControlPacket packet;
    for (;;) {
      switch (socket_->receive(packet)) {
        case ControlSocket::Received::Packet:
          return packet.message;
        case ControlSocket::Received::End:
          return std::nullopt;
        case ControlSocket::Received::Nothing:
          CHECK(socket_->waitReadable(20000));
      }
    }
  }

  // Whether the node has done step `step` of the handshake.
  bool shake(int step) {
    switch (step) {
      case 0:
        return ask({ControlType::HELLO, 0, {CONTROL_VERSION}, {}}) == 0u;
      case 1:
        return ask({ControlType::ADD_CHANNEL, 0, {}, {}}, {channel()}) == 0u;
      case 2:
        return ask({ControlType::ADD_CQ, 0, {0, cq_.depth(), 0}, {}}, {cq_.memory()->fd()}) == 0u;
      case 3:
        for (const auto& [qpNum, sends, receives] : pairs_) {
          const int fds[] = {sends.memory()->fd(), receives.memory()->fd()};
          const auto reply =
              ask({ControlType::ADD_QP, qpNum, {PD, 0, 0, DEPTH, DEPTH, 0, 0, CONTROL_NONE}, {}}, {fds[0], fds[1]});
          if (reply != 0u) return false;
        }
        return true;
      case 4:
        return ask({ControlType::ADD_REGION, REGION, {PD, ALL}, {0, REGION_BYTES, 0}}, {memory_->fd()}) == 0u;
      default:
        return ask({ControlType::CONNECT, 0, {}, {}}) == 0u;
    }
  }

  bool connect() {
    for (int step = 0; step < HANDSHAKE; step++) {
      if (!shake(step)) return false;
    }
    while (!accepted_) {
      const auto heard = hear();
      if (!heard) return false;
      accepted_ = heard->type == ControlType::ACCEPTED;
    }
    return true;
  }

  bool modify(QpState state, int pair = 0) {
    return ask({ControlType::MODIFY_QP, pairs_[pair].qpNum, {static_cast<uint32_t>(state), access::REMOTE}, {}}).has_value();
  }
  bool recover(int pair = 0) {
    for (const QpState state : {QpState::RESET, QpState::INIT, QpState::RTR, QpState::RTS}) {
      if (!modify(state, pair)) return false;
    }
    return true;
  }
  bool wake() {
    const ControlMessage message{ControlType::WAKE, 0, {}, {}};
    return say(&message, sizeof message, {});
  }
  void post(const Wqe& wqe, int pair = 0) {
    const Ring<Wqe>& ring = sends(pair);
    const uint32_t count = ring.userCounter().load();
    std::memcpy(ring.entry(count), &wqe, sizeof wqe);
    ring.userCounter().store(count + 1);
  }
  // The status of the oldest completion that was not taken yet.
  std::optional<WcStatus> completed() {
    Cqe* const entry = cq_.entry(polled_);
    if (reinterpret_cast<std::atomic<uint32_t>*>(&entry->sequence)->load() != polled_ + 1) return std::nullopt;
    const WcStatus status = entry->status;
    cq_.userCounter().store(++polled_);
    return status;
  }
  bool removePair(int pair) { return ask({ControlType::REMOVE_QP, pairs_[pair].qpNum, {}, {}}) == 0u; }

 private:
  struct Rings {
    uint32_t qpNum = QueuePair::newQpNum();
    Ring<Wqe> sends{DEPTH, true};
    Ring<RecvWqe> receives{DEPTH, true};
  };

  Channel channel_;
  Ring<Cqe> cq_;
  std::vector<Rings> pairs_;
  std::shared_ptr<HostMemory> memory_;
  std::shared_ptr<ControlSocket> socket_;
  bool accepted_ = false;
  uint32_t polled_ = 0;
};

}  // namespace rig
