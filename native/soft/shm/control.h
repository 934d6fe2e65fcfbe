// What the two sides of a shared-memory link tell each other over their socket: a Unix-domain socket of sequenced packets,
// each a ControlMessage and at most two descriptors. The client asks, the node answers each request but WAKE and
// DISCONNECT with a REPLY, and says ACCEPTED or REJECTED once in between. The end of the socket is the end of the link.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "../descriptor.h"
#include "../error.h"

namespace rnic {

constexpr uint32_t CONTROL_VERSION = 1;

enum class ControlType : uint32_t {
  // args[0]: CONTROL_VERSION
  HELLO = 1,
  // id; a socket to signal it by
  ADD_CHANNEL,
  // id; args: channel or NONE, depth, entries used; the ring
  ADD_CQ,
  // id; args: pd, depth, entries used; the ring
  ADD_SRQ,
  // id: number of the pair; args: pd, send CQ, receive CQ, send depth, receive depth, requests taken of each, shared
  // receive queue or NONE; its send ring and, unless it is shared, its receive ring
  ADD_QP,
  // id: key; args: pd, access; longs: offset in the memory, length, iova; the memory
  ADD_REGION,
  // id: key; args: pd
  REMOVE_REGION,
  // id: key; args: pd
  ADD_WINDOW,
  REMOVE_WINDOW,
  // id: number of the pair; args: state, access
  MODIFY_QP,
  // id: number of the pair
  REMOVE_QP,
  // id: channel to signal when the listener has answered
  CONNECT,
  DISCONNECT,
  WAKE,

  // id: 0, or 1 + VerbsError::Kind
  REPLY = 128,
  ACCEPTED,
  REJECTED,
};

struct ControlMessage {
  ControlType type{};
  uint32_t id = 0;
  std::array<uint32_t, 8> args{};
  std::array<uint64_t, 3> longs{};
};
static_assert(sizeof(ControlMessage) == 64);

constexpr uint32_t CONTROL_NONE = 0xffffffff;
constexpr size_t CONTROL_FDS = 2;
// Linux passes no more with one message.
constexpr size_t MOST_FDS = 253;

struct ControlPacket {
  ControlMessage message;
  // Foreign.
  std::array<Descriptor, CONTROL_FDS> fds;
};

// An end of the socket. Any thread may send; one receives.
class ControlSocket {
 public:
  explicit ControlSocket(Descriptor fd) : fd_(std::move(fd)) {}
  // Throws NoListener.
  static std::shared_ptr<ControlSocket> connect(const std::string& path);

  int fd() const { return fd_.get(); }
  // Never waits; false if the message did not go: the other side is gone or does not read.
  bool send(const ControlMessage& message, int fd0 = -1, int fd1 = -1) const;

  enum class Received { Packet, Nothing, End };
  // Never waits. End: also for what is no packet at all.
  Received receive(ControlPacket& into) const;
  // Until there is something to receive, or the end.
  bool waitReadable(int timeoutMs) const;
  // Until the other side has ended.
  bool waitEnd(int timeoutMs) const;
  // The end, for both sides. The descriptor lives until nobody has it any more.
  void end() const;

 private:
  const Descriptor fd_;
};

}  // namespace rnic
