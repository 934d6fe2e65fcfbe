#include "unix_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace rnic {

namespace {

sockaddr_un addressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    throw VerbsError(VerbsError::Kind::Range, "the path of a socket has 1 to 107 bytes");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

bool somebodyListens(const std::string& path) {
  try {
    ControlSocket::connect(path);
    return true;
  } catch (const VerbsError& error) {
    return error.kind != VerbsError::Kind::NoListener;
  }
}

bool bindTo(int fd, const sockaddr_un& address) {
  return bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace

UnixServer::UnixServer(std::string path, uint32_t engines)
    : path_(std::move(path)), closing_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (engines == 0 || engines > MAX_ENGINES) {
    throw VerbsError(VerbsError::Kind::Range, "engineThreads must be 1 to " + std::to_string(MAX_ENGINES));
  }
  const sockaddr_un address = addressOf(path_);
  listening_ = Descriptor(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listening_.has() || !closing_.has()) {
    throw VerbsError(VerbsError::Kind::Limit, "no descriptor left for a listener");
  }
  // The file is made with these rights.
  fchmod(listening_.get(), 0600);
  bool bound = bindTo(listening_.get(), address);
  struct stat status;
  if (!bound && errno == EADDRINUSE && lstat(path_.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) {
    if (somebodyListens(path_)) throw VerbsError(VerbsError::Kind::Busy, "somebody listens at unix:" + path_);
    unlink(path_.c_str());
    bound = bindTo(listening_.get(), address);
  }
  if (!bound || listen(listening_.get(), SOMAXCONN) != 0) {
    throw VerbsError(VerbsError::Kind::Type, "can't listen at unix:" + path_ + ": " + std::strerror(errno));
  }
  for (uint32_t i = 0; i < engines; i++) engines_.push_back(Engine::start());
}

UnixServer::~UnixServer() { close(); }

void UnixServer::open(std::shared_ptr<Listener> listener) {
  thread_ = std::thread([this, listener] { run(listener); });
}

void UnixServer::close() {
  if (!listening_.has()) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(closing_.get(), &one, sizeof one);
  if (thread_.joinable()) thread_.join();
  listening_ = Descriptor();
  unlink(path_.c_str());
  for (const auto& engine : engines_) engine->stop();
}

void UnixServer::run(const std::shared_ptr<Listener>& listener) {
  size_t next = 0;
  for (;;) {
    pollfd polls[2] = {{listening_.get(), POLLIN, 0}, {closing_.get(), POLLIN, 0}};
    if (poll(polls, 2, -1) < 0 && errno != EINTR) return;
    if (polls[1].revents != 0) return;
    if (polls[0].revents == 0) continue;
    Descriptor fd(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.has()) {
      // Out of descriptors, probably; the client waits meanwhile.
      if (errno != EAGAIN && errno != ECONNABORTED) usleep(10000);
      continue;
    }
    ucred peer{};
    socklen_t size = sizeof peer;
    if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) continue;
    if (peer.uid != 0 && peer.uid != geteuid()) continue;
    size_t clients = 0;
    size_t handshakes = 0;
    for (const auto& engine : engines_) {
      clients += engine->clients();
      handshakes += engine->handshakes();
    }
    if (clients >= MAX_LINK_CLIENTS || handshakes >= MAX_LINK_HANDSHAKES) continue;
    engines_[next++ % engines_.size()]->add(std::make_shared<ControlSocket>(std::move(fd)), peer, listener);
  }
}

}  // namespace rnic
