#include "control.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

namespace rnic {

std::shared_ptr<ControlSocket> ControlSocket::connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    throw VerbsError(VerbsError::Kind::Range, "the path of a socket has 1 to 107 bytes");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  Descriptor fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.has()) throw VerbsError(VerbsError::Kind::Limit, "no descriptor left for a connection");
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    throw VerbsError(VerbsError::Kind::NoListener, "nobody listens at unix:" + path + ": " + std::strerror(errno));
  }
  return std::make_shared<ControlSocket>(std::move(fd));
}

bool ControlSocket::send(const ControlMessage& message, int fd0, int fd1) const {
  iovec bytes{const_cast<ControlMessage*>(&message), sizeof message};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(CONTROL_FDS * sizeof(int))] = {};
  const int fds[CONTROL_FDS] = {fd0, fd1};
  const size_t count = fd0 < 0 ? 0 : fd1 < 0 ? 1 : 2;
  if (count > 0) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* const part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(count * sizeof(int));
    std::memcpy(CMSG_DATA(part), fds, count * sizeof(int));
  }
  ssize_t sent;
  do {
    sent = sendmsg(fd_.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == sizeof message;
}

ControlSocket::Received ControlSocket::receive(ControlPacket& into) const {
  into.fds = {};
  iovec bytes{&into.message, sizeof into.message};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  // Room for all that can come: what does not fit, the kernel closes at once, on this thread.
  alignas(cmsghdr) char control[CMSG_SPACE(MOST_FDS * sizeof(int))];
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t got;
  do {
    got = recvmsg(fd_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? Received::Nothing : Received::End;
  size_t count = 0;
  bool tooMany = false;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t fds = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < fds; i++) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      Descriptor owned = Descriptor::foreign(fd);
      if (count < CONTROL_FDS) {
        into.fds[count++] = std::move(owned);
      } else {
        tooMany = true;
      }
    }
  }
  if (tooMany || got != sizeof into.message || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    into.fds = {};
    return Received::End;
  }
  return Received::Packet;
}

namespace {
/** Signals, of a profiler or of a child's end, only interrupt it: each time it waits for what is left. */
bool waitFor(int fd, short events, int timeoutMs) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point until = Clock::now() + std::chrono::milliseconds(timeoutMs);
  pollfd poll{fd, events, 0};
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    const int count = ::poll(&poll, 1, left > 0 ? static_cast<int>(left) : 0);
    if (count >= 0 || errno != EINTR) return count > 0;
  }
}
}  // namespace

bool ControlSocket::waitReadable(int timeoutMs) const { return waitFor(fd_.get(), POLLIN, timeoutMs); }

bool ControlSocket::waitEnd(int timeoutMs) const { return waitFor(fd_.get(), POLLRDHUP, timeoutMs); }

void ControlSocket::end() const { shutdown(fd_.get(), SHUT_RDWR); }

}  // namespace rnic
