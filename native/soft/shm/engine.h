// A thread of the node's process that executes the requests of clients of shared-memory links. It polls their rings
// while there is work and POLL_NS longer, then sleeps until a client wakes it.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "control.h"
#include "served_client.h"

namespace rnic {

// Of a listener, over all its engines; those that have not asked to be connected yet, and of these what one process may
// have.
constexpr size_t MAX_LINK_CLIENTS = 4096;
constexpr size_t MAX_LINK_HANDSHAKES = 64;
constexpr size_t MAX_PROCESS_HANDSHAKES = 32;
constexpr uint32_t MAX_ENGINES = 64;

class Engine : public std::enable_shared_from_this<Engine> {
 public:
  // Starts the thread, which ends when the engine was stopped and its last client is gone.
  static std::shared_ptr<Engine> start();
  ~Engine();

  std::shared_ptr<ServedClient> add(std::shared_ptr<ControlSocket> socket, const ucred& peer,
                                    std::shared_ptr<Listener> listener);
  // Look at what other threads ask for.
  void wake();
  void stop();
  size_t clients() const { return clientCount_.load(); }

 private:
  struct Client {
    std::shared_ptr<ServedClient> served;
    uint64_t handshakeUntilNs = 0;
  };

  Engine();
  void run();
  bool progress();
  // Returns whether any came. Waits for so long, -1: for ever.
  bool takeEvents(int timeoutMs);
  void takeNewClients();
  void dropThose();
  void drop(uint64_t id);
  void sleep();
  void count();

  const Descriptor epoll_;
  const Descriptor wakeUp_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<ServedClient>> added_;  // under mutex_
  bool stopped_ = false;                              // under mutex_
  std::atomic<size_t> clientCount_{0};
  std::atomic<size_t> handshakeCount_{0};
  std::unordered_map<uint64_t, Client> clients_;
  std::vector<ServedClient*> polled_;
  uint64_t nextId_ = 1;
  bool looking_ = false;
  bool ending_ = false;
};

}  // namespace rnic
