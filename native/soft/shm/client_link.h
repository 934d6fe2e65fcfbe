// The client's side of a shared-memory link: tells the node's engine of the client's queue pairs, completion queues,
// channels and registered memory, lends it the queues, and takes them back when the link ends. A watcher thread sees the
// end, so that what is pending completes even if the client's own thread never looks.
//
// Threads: the client's own, and the watcher's for end().
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../connection.h"
#include "control.h"

namespace rnic {

class ClientLink final : public RemoteNic, public KeyMirror, public std::enable_shared_from_this<ClientLink> {
 public:
  // The listener has still to accept. `channel` is signalled when the state changes.
  static std::shared_ptr<ClientLink> connect(const std::string& path, std::vector<std::shared_ptr<QueuePair>> qps,
                                             std::shared_ptr<Channel> channel);
  ~ClientLink() override;

  Connection::State state();
  size_t qpCount() const { return qpCount_; }
  void close();

  void wake() override;
  bool modify(const QueuePair& qp, QpState next, uint32_t access) override;
  void remove(const QueuePair& qp) override;

  void addRegion(uint32_t pd, uint32_t key, const RegionRecord& region) override;
  void removeRegion(uint32_t pd, uint32_t key) override;
  void addWindow(uint32_t pd, uint32_t keyBase) override;
  void removeWindow(uint32_t pd, uint32_t keyBase) override;

  // The node is gone, or this side has left.
  void end();
  int fd() const { return socket_->fd(); }

 private:
  ClientLink(std::shared_ptr<ControlSocket> socket, std::shared_ptr<Channel> channel, size_t qpCount);
  void introduce(const std::vector<std::shared_ptr<QueuePair>>& qps);
  uint32_t channelId(const std::shared_ptr<Channel>& channel);
  uint32_t srqId(const std::shared_ptr<ReceiveQueue>& srq);
  uint32_t cqId(const std::shared_ptr<CompletionQueue>& cq);
  void askToRemove(const ControlMessage& message);
  // Ask and wait for the reply; throws what the node refused. False if the link has ended.
  bool ask(const ControlMessage& message, int fd0 = -1, int fd1 = -1);
  void heard(const ControlMessage& message);
  // Take what the node has said without being asked.
  void listen();

  const std::shared_ptr<ControlSocket> socket_;
  const std::shared_ptr<Channel> channel_;
  const size_t qpCount_;
  std::mutex askMutex_;
  std::mutex endMutex_;
  bool ended_ = false;  // under endMutex_, as the loans
  std::atomic<Connection::State> state_{Connection::State::Connecting};
  std::vector<std::shared_ptr<QueuePair>> qps_;
  std::vector<std::shared_ptr<ProtectionDomain>> pds_;
  std::map<std::shared_ptr<CompletionQueue>, uint32_t> cqs_;
  std::map<std::shared_ptr<ReceiveQueue>, uint32_t> srqs_;
  std::map<std::shared_ptr<Channel>, uint32_t> channels_;
};

}  // namespace rnic
