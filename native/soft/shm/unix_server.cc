#include "unix_server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
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

// A full queue of those who want to connect is somebody's, too.
bool somebodyListens(const sockaddr_un& address) {
  const Descriptor fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
         (errno != ECONNREFUSED && errno != ENOENT);
}

// Held by whoever makes, replaces or removes the socket of a path, so that of two servers at once one sees the other. The
// file of the lock is gone with it.
class PathLock {
 public:
  explicit PathLock(const std::string& path) : file_(path + ".lock") {
    for (int i = 0; i < ATTEMPTS; i++) {
      Descriptor fd(open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
      if (!fd.has()) {
        throw VerbsError(VerbsError::Kind::Type, "can't listen at unix:" + path + ": " + std::strerror(errno));
      }
      // Who held it before may have removed the file: then the lock is that of a new one.
      struct stat held;
      struct stat there;
      if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0 && fstat(fd.get(), &held) == 0 && stat(file_.c_str(), &there) == 0 &&
          held.st_ino == there.st_ino && held.st_dev == there.st_dev) {
        fd_ = std::move(fd);
        return;
      }
      usleep(ATTEMPT_US);
    }
    throw VerbsError(VerbsError::Kind::Busy, "others keep the lock of unix:" + path);
  }
  ~PathLock() { unlink(file_.c_str()); }
  PathLock(const PathLock&) = delete;
  PathLock& operator=(const PathLock&) = delete;

 private:
  // Those who have it need some system calls for what they do.
  static constexpr int ATTEMPTS = 5000;
  static constexpr int ATTEMPT_US = 1000;

  const std::string file_;
  Descriptor fd_;
};

bool isSocket(const std::string& path, struct stat& status) {
  return lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode);
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
  // Until it listens: before, it looks like one that nobody listens at any more.
  const PathLock lock(path_);
  bool bound = bindTo(listening_.get(), address);
  struct stat status;
  if (!bound && errno == EADDRINUSE && isSocket(path_, status)) {
    if (somebodyListens(address)) throw VerbsError(VerbsError::Kind::Busy, "somebody listens at unix:" + path_);
    unlink(path_.c_str());
    bound = bindTo(listening_.get(), address);
  }
  if (!bound || listen(listening_.get(), SOMAXCONN) != 0) {
    throw VerbsError(VerbsError::Kind::Type, "can't listen at unix:" + path_ + ": " + std::strerror(errno));
  }
  if (isSocket(path_, status)) file_ = status.st_ino;
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
  removeSocket();
  listening_ = Descriptor();
  for (const auto& engine : engines_) engine->stop();
}

// While it listens, nobody replaces it; but it may have been removed by hand, and another be there now.
void UnixServer::removeSocket() const {
  struct stat status;
  if (isSocket(path_, status) && status.st_ino == file_) unlink(path_.c_str());
}

void UnixServer::run(const std::shared_ptr<Listener>& listener) {
  size_t next = 0;
  std::vector<std::weak_ptr<ServedClient>> shaking;
  for (;;) {
    pollfd polls[2] = {{listening_.get(), POLLIN, 0}, {closing_.get(), POLLIN, 0}};
    if (poll(polls, 2, -1) < 0 && errno != EINTR) return;
    if (polls[1].revents != 0) return;
    if (polls[0].revents == 0) continue;
    Descriptor fd = Descriptor::foreign(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
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
    for (const auto& engine : engines_) clients += engine->clients();
    size_t ofProcess = 0;
    shaking.erase(std::remove_if(shaking.begin(), shaking.end(),
                                 [&](const std::weak_ptr<ServedClient>& each) {
                                   const auto client = each.lock();
                                   if (client == nullptr || !client->shakingHands()) return true;
                                   ofProcess += client->peer().pid == peer.pid;
                                   return false;
                                 }),
                  shaking.end());
    if (clients >= MAX_LINK_CLIENTS || shaking.size() >= MAX_LINK_HANDSHAKES || ofProcess >= MAX_PROCESS_HANDSHAKES ||
        !Descriptor::roomForForeign()) {
      continue;
    }
    auto socket = std::make_shared<ControlSocket>(std::move(fd));
    shaking.push_back(engines_[next++ % engines_.size()]->add(std::move(socket), peer, listener));
  }
}

}  // namespace rnic
