#include "connection.h"

#include <unistd.h>

#include <map>

#include "error.h"
#include "shm/unix_server.h"

namespace rnic {

namespace {
std::mutex listenersMutex;
// Never destroyed: engines outlive main().
auto& listeners = *new std::map<std::string, std::weak_ptr<Listener>>();
uint64_t nextListener = 1;
std::atomic<uint64_t> nextConnectionId{1};

// A client of this process.
class LocalClient final : public ClientSide {
 public:
  explicit LocalClient(std::shared_ptr<Channel> channel) : channel_(std::move(channel)) {}
  void answered(bool) override { channel_->signal(); }
  void ended() override { channel_->signal(); }

 private:
  const std::shared_ptr<Channel> channel_;
};
}  // namespace

QueuePairClaim::QueuePairClaim(const std::vector<std::shared_ptr<QueuePair>>& qps) : qps_(qps) {
  for (const auto& qp : qps_) {
    if (qp->state() != QpState::RESET || !qp->claim()) {
      release();
      throw VerbsError(VerbsError::Kind::Type, "a queue pair to connect must be new, and named once");
    }
    claimed_++;
  }
}

void QueuePairClaim::release() {
  while (claimed_ > 0) qps_[--claimed_]->unclaim();
}

Listener::Listener(std::string name, std::shared_ptr<Channel> channel)
    : address(std::move(name)), channel_(std::move(channel)) {}

std::shared_ptr<Listener> Listener::open(std::shared_ptr<Channel> channel) {
  std::lock_guard<std::mutex> lock(listenersMutex);
  const std::string address = "loopback:" + std::to_string(getpid()) + ":" + std::to_string(nextListener++);
  std::shared_ptr<Listener> listener(new Listener(address, std::move(channel)));
  listeners[address] = listener;
  return listener;
}

std::shared_ptr<Listener> Listener::openUnix(std::shared_ptr<Channel> channel, const std::string& path,
                                             uint32_t engines) {
  auto server = std::make_unique<UnixServer>(path, engines);
  std::shared_ptr<Listener> listener(new Listener("unix:" + path, std::move(channel)));
  listener->unixServer_ = std::move(server);
  listener->unixServer_->open(listener);
  return listener;
}

Listener::~Listener() = default;

std::shared_ptr<Listener> Listener::find(const std::string& address) {
  std::lock_guard<std::mutex> lock(listenersMutex);
  const auto found = listeners.find(address);
  return found == listeners.end() ? nullptr : found->second.lock();
}

bool Listener::offer(std::shared_ptr<Connection> connection) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!open_) return false;
  offered_.push_back(std::move(connection));
  channel_->signal();
  return true;
}

void Listener::ended(std::shared_ptr<Connection> connection) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!open_) return;
  ended_.push_back(std::move(connection));
  channel_->signal();
}

std::shared_ptr<Connection> Listener::nextConnection() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (offered_.empty()) return nullptr;
  std::shared_ptr<Connection> connection = std::move(offered_.front());
  offered_.pop_front();
  return connection;
}

std::shared_ptr<Connection> Listener::nextDisconnection() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (ended_.empty()) return nullptr;
  std::shared_ptr<Connection> connection = std::move(ended_.front());
  ended_.pop_front();
  return connection;
}

void Listener::close() {
  if (unixServer_ != nullptr) unixServer_->close();
  {
    std::lock_guard<std::mutex> lock(listenersMutex);
    listeners.erase(address);
  }
  std::deque<std::shared_ptr<Connection>> offered;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    open_ = false;
    offered.swap(offered_);
    ended_.clear();
  }
  for (const auto& connection : offered) connection->reject();
}

Connection::Connection(std::shared_ptr<Listener> listener, std::vector<std::shared_ptr<QueuePair>> qps,
                       std::shared_ptr<ClientSide> client)
    : id(newId()), listener_(std::move(listener)), clientSide_(std::move(client)),
      qpCount_(qps.size()), client_(std::move(qps)) {}

std::shared_ptr<Connection> Connection::request(const std::string& address,
                                                std::vector<std::shared_ptr<QueuePair>> qps,
                                                std::shared_ptr<Channel> channel) {
  std::shared_ptr<Listener> listener = Listener::find(address);
  if (listener == nullptr) throw VerbsError(VerbsError::Kind::NoListener, "nobody listens at " + address);
  QueuePairClaim claim(qps);
  auto connection = offer(listener, qps, std::make_shared<LocalClient>(std::move(channel)));
  claim.keep();
  return connection;
}

std::shared_ptr<Connection> Connection::offer(const std::shared_ptr<Listener>& listener,
                                              std::vector<std::shared_ptr<QueuePair>> qps,
                                              std::shared_ptr<ClientSide> client) {
  std::shared_ptr<Connection> connection(new Connection(listener, std::move(qps), std::move(client)));
  if (!listener->offer(connection)) {
    throw VerbsError(VerbsError::Kind::NoListener, "nobody listens at " + listener->address);
  }
  return connection;
}

uint64_t Connection::newId() { return nextConnectionId++; }

Connection::State Connection::state() {
  std::lock_guard<std::mutex> lock(mutex_);
  return state_;
}

void Connection::accept(std::vector<std::shared_ptr<QueuePair>> qps) {
  if (qps.size() != qpCount_) throw VerbsError(VerbsError::Kind::Range, "as many queue pairs are needed as came");
  std::lock_guard<std::mutex> lock(mutex_);
  if (state_ != State::Connecting) throw VerbsError(VerbsError::Kind::Closed, "the client is gone");
  QueuePairClaim claim(qps);
  claim.keep();
  server_ = std::move(qps);
  for (size_t i = 0; i < qpCount_; i++) QueuePair::connect(client_[i], server_[i]);
  state_ = State::Established;
  clientSide_->answered(true);
}

void Connection::reject() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (state_ != State::Connecting) return;
  state_ = State::Rejected;
  for (const auto& qp : client_) qp->unclaim();
  client_.clear();
  clientSide_->answered(false);
}

void Connection::close(Side side) {
  std::unique_lock<std::mutex> lock(mutex_);
  const State before = state_;
  if (before == State::Rejected || before == State::Closed) return;
  state_ = State::Closed;
  for (const auto& qp : client_) qp->end();
  for (const auto& qp : server_) qp->end();
  client_.clear();
  server_.clear();
  lock.unlock();
  if (side == Side::Listener) {
    clientSide_->ended();
  } else if (before == State::Established) {
    listener_->ended(shared_from_this());
  }
}

}  // namespace rnic
