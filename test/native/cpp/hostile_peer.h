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

class HostilePeer {
 public:
  static constexpr uint32_t DEPTH = 64;
  static constexpr uint32_t PD = 1;
  static constexpr uint32_t REGION = 1 << KEY_TAG_BITS | 1;
  static constexpr size_t REGION_BYTES = 8192;
  // What a good client does before the listener accepts it; the connection to the socket is none of these.
  static constexpr int HANDSHAKE = 6;

  explicit HostilePeer(const std::string& path)
      : channel_(true), cq_(256, true), sends_(DEPTH, true), receives_(DEPTH, true),
        memory_(HostMemory::shared(REGION_BYTES)), socket_(ControlSocket::connect(path)) {}

  const Ring<Wqe>& sends() const { return sends_; }
  const Ring<RecvWqe>& receives() const { return receives_; }
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
    return sendmsg(socket_->fd(), &header, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
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
        return ask({ControlType::ADD_QP, qpNum, {PD, 0, 0, DEPTH, DEPTH, 0, 0, CONTROL_NONE}, {}},
                   {sends_.memory()->fd(), receives_.memory()->fd()}) == 0u;
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

  bool modify(QpState state) {
    return ask({ControlType::MODIFY_QP, qpNum, {static_cast<uint32_t>(state), access::REMOTE}, {}}).has_value();
  }
  bool recover() {
    for (const QpState state : {QpState::RESET, QpState::INIT, QpState::RTR, QpState::RTS}) {
      if (!modify(state)) return false;
    }
    return true;
  }
  bool wake() {
    const ControlMessage message{ControlType::WAKE, 0, {}, {}};
    return say(&message, sizeof message, {});
  }
  void post(const Wqe& wqe) {
    const uint32_t count = sends_.userCounter().load();
    std::memcpy(sends_.entry(count), &wqe, sizeof wqe);
    sends_.userCounter().store(count + 1);
  }

  const uint32_t qpNum = QueuePair::newQpNum();

 private:
  Channel channel_;
  Ring<Cqe> cq_;
  Ring<Wqe> sends_;
  Ring<RecvWqe> receives_;
  std::shared_ptr<HostMemory> memory_;
  std::shared_ptr<ControlSocket> socket_;
  bool accepted_ = false;
};

}  // namespace rig
