// A node with clients of other processes, as these tests play them: one that is honest and must not notice what the others
// do. What no window covers stays as it was, and at the end the node has given back all that it took.
#pragma once

#include <cstring>
#include <map>

#include "../../../native/soft/shm/client_link.h"
#include "hostile_peer.h"

namespace rig {

constexpr uint64_t PAGE = 4096;
constexpr uint64_t HONEST = 0;
constexpr uint64_t HOSTILE = 8 * PAGE;
constexpr uint64_t NODE_BYTES = 16 * PAGE;
constexpr uint8_t CANARY = 0xa5;
constexpr uint32_t TAG = 7;

struct Resources {
  int descriptors = 0;
  int mappings = 0;  // of shared memory
  // Of anything.
  bool operator>(const Resources& other) const {
    return descriptors > other.descriptors || mappings > other.mappings;
  }
};

Resources resources();

inline void sleepMs(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// What serves one client: a protection domain of its own, and a window on one page.
struct Service {
  Service(const Side& side, uint64_t page, size_t count)
      : pd(std::make_shared<ProtectionDomain>(side.device)),
        region(pd->addRegion(side.memory, 0, NODE_BYTES, 0, access::LOCAL_WRITE | access::MW_BIND)),
        window(pd->addWindow()) {
    CHECK(side.device->keys.bind(pd->number, window | TAG, region, page, PAGE, access::REMOTE));
    for (size_t i = 0; i < count; i++) {
      pairs.push_back(std::make_unique<Pair>(pd));
      for (int k = 0; k < 16; k++) pairs[i]->postRecv(k, region, page, 64);
    }
  }
  ~Service() {
    pairs.clear();
    pd->removeWindow(window);
    pd->removeRegion(region);
  }

  const std::shared_ptr<ProtectionDomain> pd;
  const uint32_t region;
  const uint32_t window;
  std::vector<std::unique_ptr<Pair>> pairs;
};

class Node {
 public:
  Node() : side_(NODE_BYTES), channel_(std::make_shared<Channel>(false)) {
    std::memset(side_.bytes(), CANARY, NODE_BYTES);
    listener_ = Listener::openUnix(channel_, path, 2);
    thread_ = std::thread([this] { serve(); });
  }
  ~Node() {
    stop_ = true;
    channel_->signal();
    thread_.join();
    listener_->close();
    expectCanaries();
  }

  // The key of the client that was accepted last.
  uint32_t key() const { return key_; }
  int clients() const { return clients_; }

  void expectCanaries() const {
    for (uint64_t at = 0; at < NODE_BYTES; at++) {
      const bool granted = (at >= HONEST && at < HONEST + PAGE) || (at >= HOSTILE && at < HOSTILE + PAGE);
      CHECK(granted || side_.bytes()[at] == CANARY);
    }
  }

  const std::string path = "/tmp/rnic-test-" + std::to_string(getpid()) + ".sock";

 private:
  void serve() {
    std::map<uint64_t, std::pair<std::shared_ptr<Connection>, std::unique_ptr<Service>>> services;
    const auto recover = [](Pair& pair) {
      try {
        if (pair.qp->state() == QpState::ERR) pair.recover();
      } catch (const VerbsError&) {
        // Its client has failed it again meanwhile.
      }
    };
    while (!stop_) {
      channel_->wait(200e3);
      while (const auto connection = listener_->nextConnection()) {
        // The first client is the honest one.
        if (connection->qpCount() == 0) {
          connection->reject();
          continue;
        }
        auto service = std::make_unique<Service>(side_, key_ == 0 ? HONEST : HOSTILE, connection->qpCount());
        key_ = service->window | TAG;
        std::vector<std::shared_ptr<QueuePair>> qps;
        for (const auto& pair : service->pairs) qps.push_back(pair->qp);
        try {
          connection->accept(qps);
        } catch (const VerbsError&) {
          continue;
        }
        services[connection->id] = {connection, std::move(service)};
      }
      while (const auto gone = listener_->nextDisconnection()) services.erase(gone->id);
      for (auto& [id, service] : services) {
        for (const auto& pair : service.second->pairs) recover(*pair);
      }
      clients_ = static_cast<int>(services.size());
    }
    for (auto& [id, service] : services) service.first->close(Connection::Side::Listener);
  }

  Side side_;
  std::shared_ptr<Channel> channel_;
  std::shared_ptr<Listener> listener_;
  std::atomic<uint32_t> key_{0};
  std::atomic<int> clients_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Writes and reads back until told to stop; nothing may fail.
class Honest {
 public:
  explicit Honest(const Node& node) : side_(MEMORY_BYTES, true), pair_(side_.pd), channel_(std::make_shared<Channel>(true)) {
    link_ = ClientLink::connect(node.path, {pair_.qp}, channel_);
    while (link_->state() == Connection::State::Connecting) channel_->wait(1e6);
    CHECK(link_->state() == Connection::State::Established);
    key_ = node.key();
    thread_ = std::thread([this] { work(); });
  }
  ~Honest() {
    // It is served while and after the others do what they like.
    for (const uint64_t before = done_; done_ == before;) std::this_thread::yield();
    stop_ = true;
    thread_.join();
    link_->close();
  }

 private:
  void work() {
    auto random = check::random(600);
    while (!stop_) {
      const uint64_t value = random();
      side_.word(0) = value;
      const uint64_t at = HONEST + random() % (PAGE / 8) * 8;
      CHECK(run(write(side_.key, 0, 8, key_, at)) == WcStatus::SUCCESS);
      CHECK(run(read(side_.key, 8, 8, key_, at)) == WcStatus::SUCCESS);
      CHECK(side_.word(8) == value);
      done_++;
    }
  }

  WcStatus run(Wqe wqe) {
    wqe.sendFlags = send_flag::SIGNALED;
    pair_.post(wqe);
    pair_.qp->doorbell();
    for (int i = 0;; i++) {
      if (const auto done = pair_.sends.poll()) return done->status;
      // The others need the processor too.
      if (i < 100) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    }
  }

  Side side_;
  Pair pair_;
  std::shared_ptr<Channel> channel_;
  std::shared_ptr<ClientLink> link_;
  uint32_t key_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> done_{0};
  std::thread thread_;
};

// Run beside an honest client; afterwards the node has what it had before.
void besideAnHonestClient(const std::function<void(Node&)>& attack);

inline uint64_t rounds(uint64_t count) { return count * check::options().scale; }

}  // namespace rig
