// A client of the shared-memory link, in the node's process: what the client made in its own process is here a second
// time, over the same rings and the same registered memory, so that the engine executes its requests as those of any
// other queue pair. Everything that comes from the client is checked.
//
// Threads: the engine's, but for answered(), ended(), shakingHands() and the credentials.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <map>
#include <memory>
#include <vector>

#include "../connection.h"
#include "control.h"

namespace rnic {

class Engine;

// Of one client.
constexpr size_t MAX_LINK_QPS = 256;
constexpr size_t MAX_LINK_CQS = 256;
constexpr size_t MAX_LINK_CHANNELS = 64;
constexpr size_t MAX_LINK_PDS = 16;
constexpr uint64_t MAX_LINK_BYTES = uint64_t{4} << 30;

class ServedClient final : public ClientSide, public std::enable_shared_from_this<ServedClient> {
 public:
  ServedClient(std::shared_ptr<ControlSocket> socket, const ucred& peer, std::shared_ptr<Listener> listener,
               std::shared_ptr<Engine> engine);

  int fd() const { return socket_->fd(); }
  // Has not asked to be connected yet. Any thread.
  bool shakingHands() const { return shakingHands_.load(); }
  // Execute some of each pair's requests; whether there were any.
  bool progress();
  // Whether its pairs have work, after saying that the engine sleeps.
  bool fallAsleep();
  void wakeUp();
  // Handle what has come; false if the client is to be dropped.
  bool takeMessages();
  // It is gone or must go. Its memory is unmapped when the listener's side has let go of it too.
  void drop();
  bool endRequested() const { return endRequested_.load(); }

  void answered(bool accepted) override;
  void ended() override;
  ucred peer() const override { return peer_; }

 private:
  void handle(ControlPacket& packet);
  void addChannel(ControlPacket& packet);
  void addCq(ControlPacket& packet);
  void addSrq(ControlPacket& packet);
  void addQp(ControlPacket& packet);
  void addRegion(ControlPacket& packet);
  void removeRegion(const ControlMessage& message);
  void connect(const ControlMessage& message);
  void modify(const ControlMessage& message);
  std::shared_ptr<HostMemory> map(Descriptor& fd, uint64_t offset, uint64_t bytes);
  ProtectionDomain& pd(uint32_t number);
  QueuePair& qp(uint32_t number);

  const ucred peer_;
  const std::shared_ptr<ControlSocket> socket_;
  const std::shared_ptr<Listener> listener_;
  const std::shared_ptr<Engine> engine_;
  const std::shared_ptr<Device> device_;
  bool greeted_ = false;
  uint64_t mappedBytes_ = 0;
  std::map<uint32_t, std::shared_ptr<ProtectionDomain>> pds_;
  std::map<uint32_t, std::shared_ptr<Channel>> channels_;
  std::map<uint32_t, std::shared_ptr<CompletionQueue>> cqs_;
  std::map<uint32_t, std::shared_ptr<ReceiveQueue>> srqs_;
  std::vector<std::shared_ptr<QueuePair>> qps_;
  std::map<uint32_t, uint64_t> regionBytes_;  // by key
  std::shared_ptr<Channel> connectChannel_;
  std::shared_ptr<Connection> connection_;
  std::atomic<bool> shakingHands_{true};
  uint64_t guessesOfRemoved_ = 0;
  uint64_t guessesForgiven_ = 0;
  uint64_t forgivenNs_ = 0;
  std::atomic<bool> endRequested_{false};
};

}  // namespace rnic
