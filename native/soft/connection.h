// Who is connected to whom. A listener serves clients of its own process and, if it has a UnixServer, of others.
#pragma once

#include <sys/socket.h>

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "channel.h"
#include "queue_pair.h"

namespace rnic {

class Connection;
class UnixServer;

// Takes all pairs for one connection or none: each may be in one only, and once.
class QueuePairClaim {
 public:
  // Throws if one is not new.
  explicit QueuePairClaim(const std::vector<std::shared_ptr<QueuePair>>& qps);
  ~QueuePairClaim() { release(); }
  // The connection has them now.
  void keep() { claimed_ = 0; }

 private:
  void release();

  const std::vector<std::shared_ptr<QueuePair>>& qps_;
  size_t claimed_ = 0;
};

// How a connection's client hears what became of it. Called on the listener's thread.
class ClientSide {
 public:
  virtual ~ClientSide() = default;
  virtual void answered(bool accepted) = 0;
  // The listener's side closed it.
  virtual void ended() = 0;
  // The process, as the kernel vouches for it; pid 0 if it is this one.
  virtual ucred peer() const { return {}; }
};

class Listener : public std::enable_shared_from_this<Listener> {
 public:
  static std::shared_ptr<Listener> open(std::shared_ptr<Channel> channel);
  // At unix:PATH, served by so many engines. See UnixServer.
  static std::shared_ptr<Listener> openUnix(std::shared_ptr<Channel> channel, const std::string& path,
                                            uint32_t engines);
  ~Listener();
  // Null if nobody listens there.
  static std::shared_ptr<Listener> find(const std::string& address);

  std::shared_ptr<Connection> nextConnection();
  std::shared_ptr<Connection> nextDisconnection();
  // No new connections; those that wait for an answer are rejected.
  void close();

  const std::string address;

 private:
  friend class Connection;
  Listener(std::string address, std::shared_ptr<Channel> channel);
  bool offer(std::shared_ptr<Connection> connection);
  void ended(std::shared_ptr<Connection> connection);

  const std::shared_ptr<Channel> channel_;
  std::unique_ptr<UnixServer> unixServer_;
  std::mutex mutex_;
  bool open_ = true;
  std::deque<std::shared_ptr<Connection>> offered_;
  std::deque<std::shared_ptr<Connection>> ended_;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  enum class State { Connecting, Established, Rejected, Closed };
  enum class Side { Client, Listener };

  // To a listener of this process.
  static std::shared_ptr<Connection> request(const std::string& address, std::vector<std::shared_ptr<QueuePair>> qps,
                                             std::shared_ptr<Channel> channel);
  // Throws NoListener if it is closed.
  static std::shared_ptr<Connection> offer(const std::shared_ptr<Listener>& listener,
                                           std::vector<std::shared_ptr<QueuePair>> qps,
                                           std::shared_ptr<ClientSide> client);
  void accept(std::vector<std::shared_ptr<QueuePair>> qps);
  void reject();
  void close(Side side);

  State state();
  size_t qpCount() const { return qpCount_; }
  ucred peer() const { return clientSide_->peer(); }

  const uint64_t id;
  static uint64_t newId();

 private:
  Connection(std::shared_ptr<Listener> listener, std::vector<std::shared_ptr<QueuePair>> qps,
             std::shared_ptr<ClientSide> client);

  const std::shared_ptr<Listener> listener_;
  const std::shared_ptr<ClientSide> clientSide_;
  const size_t qpCount_;
  std::mutex mutex_;
  State state_ = State::Connecting;
  std::vector<std::shared_ptr<QueuePair>> client_;
  std::vector<std::shared_ptr<QueuePair>> server_;
};

}  // namespace rnic
