#include "connection.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

namespace ibv {

using rnic::VerbsError;

namespace {

constexpr char PREFIX[] = "ib:";
// Pairs that one connection may have.
constexpr size_t MAX_PAIRS = 256;
// Clients that have connected and not yet said all; each has so long for it.
constexpr size_t MAX_ARRIVING = 64;
constexpr double HELLO_SECONDS = 5;
// connect() waits so long itself; over a longer way the channel goes on with it.
constexpr int CONNECT_POLL_MS = 20;
// A host that is gone is noticed after some 4 s.
constexpr int KEEPALIVE_SECONDS = 1;
constexpr int KEEPALIVE_PROBES = 3;

// Unlike the software RNIC's, so that a process that uses both has no identity twice.
std::atomic<uint64_t> nextId{uint64_t{1} << 32};

// The message, in either direction; little-endian, as all hosts that this runs on are.
constexpr uint32_t MAGIC = 0x42495650;
constexpr uint16_t VERSION = 1;
enum class Type : uint16_t { Request = 1, Accept = 2, Reject = 3 };
struct Header {
  uint32_t magic;
  uint16_t version;
  Type type;
  uint16_t pairs;
  uint16_t lid;
  uint8_t linkLayer;
  uint8_t mtu;
  uint16_t reserved;
  uint8_t gid[16];
};
static_assert(sizeof(Header) == 32);
struct PairEntry {
  uint32_t qpNum;
  uint32_t psn;
};
static_assert(sizeof(PairEntry) == 8);
constexpr size_t MAX_MESSAGE = sizeof(Header) + MAX_PAIRS * sizeof(PairEntry);

double now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

std::vector<uint8_t> message(Type type, const Device& device, const std::vector<std::shared_ptr<QueuePair>>& qps) {
  Header header{};
  header.magic = MAGIC;
  header.version = VERSION;
  header.type = type;
  header.pairs = static_cast<uint16_t>(qps.size());
  header.lid = device.port.lid;
  header.linkLayer = device.port.linkLayer;
  header.mtu = static_cast<uint8_t>(device.port.activeMtu);
  const Gid gid = device.gid(device.gidIndex);
  std::memcpy(header.gid, gid.raw, sizeof header.gid);
  std::vector<uint8_t> bytes(sizeof header + qps.size() * sizeof(PairEntry));
  std::memcpy(bytes.data(), &header, sizeof header);
  for (size_t i = 0; i < qps.size(); i++) {
    const PairEntry entry{qps[i]->qpNum(), qps[i]->psn()};
    std::memcpy(bytes.data() + sizeof header + i * sizeof entry, &entry, sizeof entry);
  }
  return bytes;
}

enum class Parsed { Incomplete, Wrong, Complete };

// Nothing in it is believed before it is checked.
Parsed parse(const std::vector<uint8_t>& bytes, bool isRequest, const Device& device, Offer& into) {
  if (bytes.size() < sizeof(Header)) return Parsed::Incomplete;
  Header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != MAGIC || header.version != VERSION || header.pairs > MAX_PAIRS) return Parsed::Wrong;
  if (!isRequest && header.type == Type::Reject) {
    into.accepted = false;
    return Parsed::Complete;
  }
  if (header.type != (isRequest ? Type::Request : Type::Accept) || header.pairs == 0) return Parsed::Wrong;
  if (header.linkLayer != device.port.linkLayer || header.mtu < 1 || header.mtu > 5) return Parsed::Wrong;
  const size_t whole = sizeof header + header.pairs * sizeof(PairEntry);
  if (bytes.size() < whole) return Parsed::Incomplete;
  if (bytes.size() > whole) return Parsed::Wrong;
  for (size_t i = 0; i < header.pairs; i++) {
    PairEntry entry;
    std::memcpy(&entry, bytes.data() + sizeof header + i * sizeof entry, sizeof entry);
    // 0 and 1 are the port's own pairs.
    if (entry.qpNum < 2 || entry.qpNum > 0xffffff || entry.psn > 0xffffff) return Parsed::Wrong;
    RemotePair pair{entry.qpNum, entry.psn, header.lid, header.mtu, {}};
    std::memcpy(pair.gid.raw, header.gid, sizeof header.gid);
    into.pairs.push_back(pair);
  }
  return Parsed::Complete;
}

// False if the other side is gone or says too much.
bool receiveInto(int fd, std::vector<uint8_t>& inbox) {
  for (;;) {
    uint8_t bytes[512];
    const ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    inbox.insert(inbox.end(), bytes, bytes + got);
    if (inbox.size() > MAX_MESSAGE) return false;
  }
}

// Fits into an empty socket buffer, so it goes whole or the connection is broken.
bool sendWhole(int fd, const std::vector<uint8_t>& bytes) {
  return send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

void setUp(int fd) {
  const int on = 1;
  const int seconds = KEEPALIVE_SECONDS;
  const int probes = KEEPALIVE_PROBES;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

// Calls `use` with the addresses that ib:HOST:PORT means until one gives a socket.
template <typename F>
Socket resolve(const std::string& address, bool passive, F use) {
  const size_t colon = address.rfind(':');
  if (address.rfind(PREFIX, 0) != 0 || colon < sizeof PREFIX - 1 || colon + 1 == address.size()) {
    throw VerbsError(passive ? VerbsError::Kind::Type : VerbsError::Kind::NoListener,
                     "an address of an RDMA device has the form ib:HOST:PORT, not " + address);
  }
  std::string host = address.substr(sizeof PREFIX - 1, colon - (sizeof PREFIX - 1));
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found);
  if (error != 0) {
    throw VerbsError(VerbsError::Kind::NoListener, address + " can't be resolved: " + gai_strerror(error));
  }
  Socket result;
  int reason = 0;
  for (const addrinfo* one = found; one != nullptr && result.fd() < 0; one = one->ai_next) {
    Socket candidate(socket(one->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (candidate.fd() >= 0 && use(candidate.fd(), *one)) {
      result = std::move(candidate);
    } else {
      reason = errno;
    }
  }
  freeaddrinfo(found);
  if (result.fd() < 0) {
    throw VerbsError(passive ? VerbsError::Kind::Limit : VerbsError::Kind::NoListener,
                     (passive ? "can't listen at " : "nobody listens at ") + address + ": " + std::strerror(reason));
  }
  return result;
}

std::string boundAddress(int fd) {
  sockaddr_storage name{};
  socklen_t length = sizeof name;
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length);
  getnameinfo(reinterpret_cast<sockaddr*>(&name), length, host, sizeof host, port, sizeof port,
              NI_NUMERICHOST | NI_NUMERICSERV);
  const std::string name6 = std::string("[") + host + "]";
  return PREFIX + (name.ss_family == AF_INET6 ? name6 : std::string(host)) + ":" + port;
}

// Takes all pairs for one connection or none: each may be in one only, and once.
void claimAll(const std::vector<std::shared_ptr<QueuePair>>& qps) {
  for (size_t i = 0; i < qps.size(); i++) {
    if (qps[i]->claim()) continue;
    while (i > 0) qps[--i]->unclaim();
    throw VerbsError(VerbsError::Kind::Type, "a queue pair to connect must be new, and named once");
  }
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = other.fd_;
    other.fd_ = -1;
  }
  return *this;
}

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

std::shared_ptr<Connection> Connection::request(const std::shared_ptr<Device>& device, const std::string& address,
                                                std::vector<std::shared_ptr<QueuePair>> qps,
                                                std::shared_ptr<EventChannel> channel) {
  if (qps.empty() || qps.size() > MAX_PAIRS) {
    throw VerbsError(VerbsError::Kind::Type, "a connection has 1 to " + std::to_string(MAX_PAIRS) + " queue pairs");
  }
  for (const auto& qp : qps) {
    if (qp->pd->device != device) throw VerbsError(VerbsError::Kind::Type, "the queue pairs are of another device");
  }
  Socket socket = resolve(address, false, [](int fd, const addrinfo& to) {
    if (::connect(fd, to.ai_addr, to.ai_addrlen) == 0) return true;
    if (errno != EINPROGRESS) return false;
    // On one host this says whether somebody listens.
    pollfd writable{fd, POLLOUT, 0};
    int error = 0;
    socklen_t length = sizeof error;
    if (poll(&writable, 1, CONNECT_POLL_MS) > 0) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    errno = error;
    return error == 0;
  });
  setUp(socket.fd());
  claimAll(qps);
  std::shared_ptr<Connection> connection(new Connection(std::move(socket), std::move(qps), std::move(channel)));
  connection->watchPairs();
  connection->watch(true);
  connection->progress();
  return connection;
}

Connection::Connection(Socket socket, std::vector<std::shared_ptr<QueuePair>> qps, std::shared_ptr<EventChannel> channel)
    : id(nextId++), isServer_(false), channel_(std::move(channel)), socket_(std::move(socket)), qps_(std::move(qps)) {}

Connection::Connection(Socket socket, Offer offer, std::shared_ptr<EventChannel> channel)
    : id(nextId++), isServer_(true), channel_(std::move(channel)), socket_(std::move(socket)), offer_(std::move(offer)) {
  watch(false);
}

Connection::~Connection() { close(); }

void Connection::watch(bool forWriting) {
  channel_->watch(socket_.fd(), forWriting, [this] {
    progress();
    // It signals the channel itself.
    return false;
  });
}

void Connection::watchPairs() {
  for (const auto& qp : qps_) qp->connectionIs([this] { progress(); });
}

void Connection::accept(std::vector<std::shared_ptr<QueuePair>> qps) {
  if (!isServer_) throw VerbsError(VerbsError::Kind::Type, "the listener's side accepts a connection");
  progress();
  if (state_ == State::Closed) throw VerbsError(VerbsError::Kind::Closed, "the client has gone away");
  if (state_ != State::Connecting) throw VerbsError(VerbsError::Kind::Closed, "the connection was answered before");
  if (qps.size() != offer_.pairs.size()) {
    throw VerbsError(VerbsError::Kind::Range, "the client brought " + std::to_string(offer_.pairs.size()) + " queue pairs");
  }
  claimAll(qps);
  qps_ = std::move(qps);
  watchPairs();
  try {
    for (size_t i = 0; i < qps_.size(); i++) qps_[i]->connect(offer_.pairs[i]);
  } catch (...) {
    finish(State::Closed);
    throw;
  }
  state_ = State::Established;
  wasEstablished_ = true;
  if (!sendWhole(socket_.fd(), message(Type::Accept, *qps_[0]->pd->device, qps_))) {
    finish(State::Closed);
    throw VerbsError(VerbsError::Kind::Closed, "the client has gone away");
  }
}

void Connection::reject() {
  if (!isServer_) throw VerbsError(VerbsError::Kind::Type, "the listener's side rejects a connection");
  if (state_ != State::Connecting) return;
  Header header{};
  header.magic = MAGIC;
  header.version = VERSION;
  header.type = Type::Reject;
  std::vector<uint8_t> bytes(sizeof header);
  std::memcpy(bytes.data(), &header, sizeof header);
  sendWhole(socket_.fd(), bytes);
  finish(State::Rejected);
}

void Connection::close() {
  if (state_ == State::Connecting || state_ == State::Established) finish(State::Closed);
}

void Connection::finish(State state) {
  state_ = state;
  channel_->unwatch(socket_.fd());
  socket_ = Socket();
  for (const auto& qp : qps_) {
    qp->connectionIs({});
    if (state == State::Rejected) {
      qp->unclaim();
    } else {
      qp->end();
    }
  }
  qps_.clear();
}

void Connection::progress() {
  const State before = state_;
  if (before != State::Connecting && before != State::Established) return;
  if (!isServer_ && before == State::Connecting) {
    progressClient();
  } else {
    // Nothing is said any more: whatever comes is the end.
    std::vector<uint8_t> inbox;
    if (!receiveInto(socket_.fd(), inbox) || !inbox.empty()) finish(State::Closed);
  }
  if (state_ != before) channel_->signal();
}

void Connection::progressClient() {
  const Device& device = *qps_[0]->pd->device;
  if (!sent_) {
    pollfd writable{socket_.fd(), POLLOUT, 0};
    if (poll(&writable, 1, 0) == 0) return;
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(socket_.fd(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0 || !sendWhole(socket_.fd(), message(Type::Request, device, qps_))) {
      finish(State::Closed);
      return;
    }
    sent_ = true;
    watch(false);
  }
  const bool open = receiveInto(socket_.fd(), inbox_);
  Offer offer;
  const Parsed parsed = parse(inbox_, false, device, offer);
  if (parsed == Parsed::Incomplete && open) return;
  // A listener that closes says no more than that.
  if (parsed == Parsed::Incomplete || (parsed == Parsed::Complete && !offer.accepted)) {
    finish(State::Rejected);
    return;
  }
  if (parsed == Parsed::Wrong || offer.pairs.size() != qps_.size()) {
    finish(State::Closed);
    return;
  }
  try {
    for (size_t i = 0; i < qps_.size(); i++) qps_[i]->connect(offer.pairs[i]);
    state_ = State::Established;
  } catch (const VerbsError&) {
    finish(State::Closed);
  }
}

Listener::Listener(std::shared_ptr<Device> device, const std::string& address, std::shared_ptr<EventChannel> channel)
    : device_(std::move(device)), channel_(std::move(channel)),
      socket_(resolve(address.empty() ? "ib:127.0.0.1:0" : address, true,
                      [](int fd, const addrinfo& to) {
                        const int on = 1;
                        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
                        return bind(fd, to.ai_addr, to.ai_addrlen) == 0 && listen(fd, MAX_ARRIVING) == 0;
                      })),
      address_(boundAddress(socket_.fd())) {
  channel_->watch(socket_.fd(), false, [this] { return progress(); });
}

Listener::~Listener() {
  channel_->unwatch(socket_.fd());
  for (auto& entry : arriving_) channel_->unwatch(entry.first);
  for (auto& connection : offered_) connection->reject();
}

// True if a connection is there to be taken.
bool Listener::progress() {
  const double time = now();
  bool offered = false;
  // Also for a caller that asks again and again and never waits for the channel.
  for (auto entry = arriving_.begin(); entry != arriving_.end();) {
    const int fd = entry->first;
    const bool late = entry->second.deadline < time;
    ++entry;
    if (late) {
      forget(fd);
    } else {
      offered |= progressArriving(fd);
    }
  }
  for (;;) {
    Socket socket(accept4(socket_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    const int fd = socket.fd();
    if (fd < 0) break;
    if (arriving_.size() == MAX_ARRIVING) forget(longestArriving());
    setUp(fd);
    arriving_.emplace(fd, Arriving{std::move(socket), {}, time + HELLO_SECONDS});
    channel_->watch(fd, false, [this, fd] { return progressArriving(fd); });
    offered |= progressArriving(fd);
  }
  return offered;
}

void Listener::forget(int fd) {
  channel_->unwatch(fd);
  arriving_.erase(fd);
}

int Listener::longestArriving() const {
  const auto first = std::min_element(arriving_.begin(), arriving_.end(), [](const auto& one, const auto& other) {
    return one.second.deadline < other.second.deadline;
  });
  return first->first;
}

bool Listener::progressArriving(int fd) {
  Arriving& client = arriving_.at(fd);
  const bool open = receiveInto(fd, client.inbox);
  Offer offer;
  const Parsed parsed = parse(client.inbox, true, *device_, offer);
  if (open && parsed == Parsed::Incomplete) return false;
  Socket socket = std::move(client.socket);
  forget(fd);
  if (!open || parsed == Parsed::Wrong) return false;
  offered_.push_back(std::make_shared<Connection>(std::move(socket), std::move(offer), channel_));
  return true;
}

std::shared_ptr<Connection> Listener::nextConnection() {
  progress();
  while (!offered_.empty()) {
    auto connection = std::move(offered_.front());
    offered_.pop_front();
    connection->progress();
    // The client may have gone away meanwhile.
    if (connection->state() != Connection::State::Connecting) continue;
    given_[connection->id] = connection;
    return connection;
  }
  return nullptr;
}

std::shared_ptr<Connection> Listener::nextDisconnection() {
  for (auto entry = given_.begin(); entry != given_.end();) {
    const auto connection = entry->second.lock();
    if (connection != nullptr) connection->progress();
    const bool ended = connection == nullptr || (connection->state() != Connection::State::Connecting &&
                                                 connection->state() != Connection::State::Established);
    if (ended) {
      entry = given_.erase(entry);
      if (connection != nullptr && connection->wasEstablished()) return connection;
    } else {
      ++entry;
    }
  }
  return nullptr;
}

}  // namespace ibv
