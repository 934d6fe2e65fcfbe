// Connection set-up over TCP: the client sends how its queue pairs are reached, the listener answers with its own. The
// TCP connection then stays, silent: its end is the end of the connection. Nothing blocks, nothing has a thread: all of
// it goes on when its channel is waited for or watched, or when it is asked for its state.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "queue_pair.h"

namespace ibv {

// A socket that closes itself.
class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();

  int fd() const { return fd_; }

 private:
  int fd_;
};

// What one side tells the other.
struct Offer {
  std::vector<RemotePair> pairs;
  bool accepted = true;
};

class Connection {
 public:
  enum class State { Connecting, Established, Rejected, Closed };

  // The client's side. Throws VerbsError::NoListener for an address where surely nobody listens.
  static std::shared_ptr<Connection> request(const std::shared_ptr<Device>& device, const std::string& address,
                                             std::vector<std::shared_ptr<QueuePair>> qps,
                                             std::shared_ptr<EventChannel> channel);
  // The listener's side, made when the client's offer has come.
  Connection(Socket socket, Offer offer, std::shared_ptr<EventChannel> channel);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void accept(std::vector<std::shared_ptr<QueuePair>> qps);
  void reject();
  void close();
  // Look for what has come; signals the channel if that changes the state.
  void progress();
  State state() const { return state_; }
  size_t qpCount() const { return isServer_ ? offer_.pairs.size() : qps_.size(); }
  bool wasEstablished() const { return wasEstablished_; }

  const uint64_t id;

 private:
  Connection(Socket socket, std::vector<std::shared_ptr<QueuePair>> qps, std::shared_ptr<EventChannel> channel);
  void progressClient();
  void watch(bool forWriting);
  void watchPairs();
  void finish(State state);

  const bool isServer_;
  const std::shared_ptr<EventChannel> channel_;
  Socket socket_;
  State state_ = State::Connecting;
  bool sent_ = false;
  bool wasEstablished_ = false;
  std::vector<uint8_t> inbox_;
  Offer offer_;
  std::vector<std::shared_ptr<QueuePair>> qps_;
};

class Listener {
 public:
  // `address`: ib:HOST:PORT; empty for a port of the loopback interface that the kernel chooses.
  Listener(std::shared_ptr<Device> device, const std::string& address, std::shared_ptr<EventChannel> channel);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  const std::string& address() const { return address_; }
  std::shared_ptr<Connection> nextConnection();
  std::shared_ptr<Connection> nextDisconnection();

 private:
  struct Arriving {
    Socket socket;
    std::vector<uint8_t> inbox;
    double deadline;
  };

  bool progress();
  bool progressArriving(int fd);
  void forget(int fd);
  int longestArriving() const;

  const std::shared_ptr<Device> device_;
  const std::shared_ptr<EventChannel> channel_;
  Socket socket_;
  std::string address_;
  std::unordered_map<int, Arriving> arriving_;
  std::deque<std::shared_ptr<Connection>> offered_;
  // Given out, and not closed here.
  std::unordered_map<uint64_t, std::weak_ptr<Connection>> given_;
};

}  // namespace ibv
