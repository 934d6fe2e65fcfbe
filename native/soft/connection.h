// Who is connected to whom, within the process.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "channel.h"
#include "queue_pair.h"

namespace rnic {

class Connection;

class Listener : public std::enable_shared_from_this<Listener> {
 public:
  static std::shared_ptr<Listener> open(std::shared_ptr<Channel> channel);
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
  std::mutex mutex_;
  bool open_ = true;
  std::deque<std::shared_ptr<Connection>> offered_;
  std::deque<std::shared_ptr<Connection>> ended_;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  enum class State { Connecting, Established, Rejected, Closed };
  enum class Side { Client, Listener };

  static std::shared_ptr<Connection> request(const std::string& address, std::vector<std::shared_ptr<QueuePair>> qps,
                                             std::shared_ptr<Channel> channel);
  void accept(std::vector<std::shared_ptr<QueuePair>> qps);
  void reject();
  void close(Side side);

  State state();
  size_t qpCount() const { return qpCount_; }

  const uint64_t id;

 private:
  Connection(std::shared_ptr<Listener> listener, std::vector<std::shared_ptr<QueuePair>> qps,
             std::shared_ptr<Channel> channel);

  const std::shared_ptr<Listener> listener_;
  const std::shared_ptr<Channel> clientChannel_;
  const size_t qpCount_;
  std::mutex mutex_;
  State state_ = State::Connecting;
  std::vector<std::shared_ptr<QueuePair>> client_;
  std::vector<std::shared_ptr<QueuePair>> server_;
};

}  // namespace rnic
