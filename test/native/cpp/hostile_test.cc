// Clients of the shared-memory link that do what they like, beside an honest one that must not notice: each of its
// operations succeeds. What no window covers stays as it was, and at the end the node has given back all that it took.
#include <dirent.h>
#include <sys/eventfd.h>

#include <fstream>
#include <map>

#include "../../../native/soft/shm/client_link.h"
#include "hostile_peer.h"

using namespace rig;

namespace {

constexpr uint64_t PAGE = 4096;
constexpr uint64_t HONEST = 0;
constexpr uint64_t HOSTILE = 8 * PAGE;
constexpr uint64_t NODE_BYTES = 16 * PAGE;
constexpr uint8_t CANARY = 0xa5;
constexpr uint32_t TAG = 7;

struct Resources {
  int descriptors = 0;
  int mappings = 0;  // of shared memory
};

Resources resources() {
  Resources found;
  DIR* const directory = opendir("/proc/self/fd");
  while (readdir(directory) != nullptr) found.descriptors++;
  closedir(directory);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) found.mappings += line.find("memfd:") != std::string::npos;
  return found;
}

void sleepMs(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// What serves one client: a protection domain of its own, and a window on one page.
struct Service {
  Service(const Side& side, uint64_t page)
      : pd(std::make_shared<ProtectionDomain>(side.device)),
        region(pd->addRegion(side.memory, 0, NODE_BYTES, 0, access::LOCAL_WRITE | access::MW_BIND)),
        window(pd->addWindow()), pair(pd) {
    CHECK(side.device->keys.bind(pd->number, window | TAG, region, page, PAGE, access::REMOTE));
    for (int i = 0; i < 16; i++) pair.postRecv(i, region, page, 64);
  }
  ~Service() {
    pair.qp->close();
    pd->removeWindow(window);
    pd->removeRegion(region);
  }

  const std::shared_ptr<ProtectionDomain> pd;
  const uint32_t region;
  const uint32_t window;
  Pair pair;
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
        auto service = std::make_unique<Service>(side_, key_ == 0 ? HONEST : HOSTILE);
        if (connection->qpCount() != 1) {
          connection->reject();
          continue;
        }
        key_ = service->window | TAG;
        try {
          connection->accept({service->pair.qp});
        } catch (const VerbsError&) {
          continue;
        }
        services[connection->id] = {connection, std::move(service)};
      }
      while (const auto gone = listener_->nextDisconnection()) services.erase(gone->id);
      for (auto& [id, service] : services) recover(service.second->pair);
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
void besideAnHonestClient(const std::function<void(Node&)>& attack) {
  // The thread that watches links, and its descriptor, are made once.
  static const bool warm = [] {
    Node node;
    Honest honest(node);
    return true;
  }();
  CHECK(warm);
  const Resources atFirst = resources();
  {
    Node node;
    {
      Honest honest(node);
      const Resources before = resources();
      attack(node);
      node.expectCanaries();
      // The engines learn of ends on their own threads.
      for (int i = 0; i < 2000 && (node.clients() > 1 || resources().descriptors > before.descriptors); i++) sleepMs(10);
      const Resources after = resources();
      CHECK(node.clients() == 1);
      CHECK(after.descriptors == before.descriptors);
      CHECK(after.mappings <= before.mappings);
    }
  }
  for (int i = 0; i < 2000 && resources().descriptors > atFirst.descriptors; i++) sleepMs(10);
  CHECK(resources().descriptors <= atFirst.descriptors);
}

uint64_t rounds(uint64_t count) { return count * check::options().scale; }

}  // namespace

TEST(a_client_that_dies_at_any_step_of_the_handshake_is_forgotten) {
  besideAnHonestClient([](Node& node) {
    for (uint64_t round = 0; round < rounds(8); round++) {
      for (int steps = 0; steps <= HostilePeer::HANDSHAKE; steps++) {
        HostilePeer peer(node.path);
        for (int step = 0; step < steps; step++) CHECK(peer.shake(step));
      }
    }
  });
}

TEST(clients_that_say_nothing_keep_nobody_out_for_long) {
  besideAnHonestClient([](Node& node) {
    std::vector<std::unique_ptr<HostilePeer>> silent;
    for (int i = 0; i < 100; i++) silent.push_back(std::make_unique<HostilePeer>(node.path));
    sleepMs(100);
    silent.clear();
    for (;;) {
      HostilePeer peer(node.path);
      if (peer.connect()) break;
      sleepMs(10);
    }
  });
}

TEST(wrong_descriptors_are_refused) {
  besideAnHonestClient([](Node& node) {
    const auto unsealed = Descriptor(memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    CHECK(ftruncate(unsealed.get(), 1 << 20) == 0);
    const auto small = HostMemory::shared(64);
    const auto event = Descriptor(eventfd(0, EFD_CLOEXEC));
    const auto file = Descriptor(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    for (uint64_t round = 0; round < rounds(8); round++) {
      HostilePeer peer(node.path);
      CHECK(peer.shake(0) && peer.shake(1) && peer.shake(2));
      const uint32_t ring = HostilePeer::DEPTH;
      for (const int fd : {unsealed.get(), small->fd(), event.get(), file.get(), peer.channel()}) {
        CHECK(peer.ask({ControlType::ADD_CQ, 5, {0, ring, 0}, {}}, {fd}) != 0u);
        CHECK(peer.ask({ControlType::ADD_SRQ, 5, {HostilePeer::PD, ring, 0}, {}}, {fd}) != 0u);
        CHECK(peer.ask({ControlType::ADD_QP, 5, {HostilePeer::PD, 0, 0, ring, ring, 0, 0, CONTROL_NONE}, {}}, {fd, fd}) !=
              0u);
        CHECK(peer.ask({ControlType::ADD_REGION, 1 << 8, {HostilePeer::PD, ALL}, {0, 4096, 0}}, {fd}) != 0u);
        if (fd == peer.channel()) continue;
        CHECK(peer.ask({ControlType::ADD_CHANNEL, 5, {}, {}}, {fd}) != 0u);
      }
      CHECK(peer.ask({ControlType::ADD_CQ, 5, {0, ring, 0}, {}}) != 0u);
      CHECK(peer.ask({ControlType::ADD_CHANNEL, 5, {}, {}}) != 0u);
      // More than a message may have: the end.
      const ControlMessage message{ControlType::ADD_CHANNEL, 6, {}, {}};
      const int fd = peer.channel();
      CHECK(peer.say(&message, sizeof message, {fd, fd, fd, fd, fd, fd, fd, fd}));
      CHECK(!peer.hear());
    }
  });
}

TEST(memory_that_its_client_takes_away_harms_the_client_only) {
  besideAnHonestClient([](Node& node) {
    for (uint64_t round = 0; round < rounds(20); round++) {
      HostilePeer peer(node.path);
      CHECK(peer.connect());
      const int fds[] = {peer.memory().fd(), peer.sends().memory()->fd(), peer.receives().memory()->fd(),
                         peer.cq().memory()->fd()};
      for (int i = 0; i < 50; i++) {
        for (const int fd : fds) {
          CHECK(ftruncate(fd, 0) != 0 && ftruncate(fd, 1 << 20) != 0);
          fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 16);
        }
        peer.post(write(HostilePeer::REGION, 0, 4096, node.key(), HOSTILE));
        peer.post(read(HostilePeer::REGION, 0, 4096, node.key(), HOSTILE));
        CHECK(peer.wake());
      }
    }
  });
}

TEST(rings_may_hold_anything_and_change_while_they_are_read) {
  uint64_t requests = 0;
  besideAnHonestClient([&](Node& node) {
    auto random = check::random(700);
    for (uint64_t round = 0; round < rounds(4); round++) {
      HostilePeer peer(node.path);
      CHECK(peer.connect());
      const uint32_t key = node.key();
      std::atomic<bool> stop{false};
      // The engine reads what this thread writes: neither is synchronised with the other.
      std::thread scribbler([&] {
        auto own = check::random(10000 + round);
        while (!stop) {
          const uint64_t at = own() % (HostilePeer::DEPTH * sizeof(Wqe) / 8);
          reinterpret_cast<std::atomic<uint64_t>*>(peer.sends().entry(0))[at].store(own(), std::memory_order_relaxed);
          if (own() % 64 == 0) peer.cq().userCounter().store(static_cast<uint32_t>(own()));
          if (own() % 1024 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
          if (own() % 64 == 0) peer.receives().userCounter().store(static_cast<uint32_t>(own()));
        }
      });
      uint32_t before = 0;
      for (int batch = 0; batch < 200; batch++) {
        for (uint32_t i = 0; i < HostilePeer::DEPTH; i++) {
          Wqe wqe = write(HostilePeer::REGION, random() % 8192, random() % 8192, key, HOSTILE - 64 + random() % 8192);
          wqe.opcode = static_cast<Opcode>(random() % 11);
          if (wqe.opcode == Opcode::CMP_AND_SWP || wqe.opcode == Opcode::FETCH_AND_ADD) wqe.length = 8;
          wqe.sendFlags = static_cast<uint8_t>(random() % 16);
          wqe.compareAdd = random() % 8192;
          wqe.bindAccess = static_cast<uint16_t>(random() % 32);
          wqe.imm = key;
          peer.post(wqe);
        }
        if (random() % 16 == 0) peer.sends().userCounter().store(static_cast<uint32_t>(random()));
        if (!peer.wake()) break;
        for (int i = 0; i < 100 && peer.sends().nicCounter() != peer.sends().userCounter(); i++) std::this_thread::yield();
        const uint32_t done = peer.sends().nicCounter();
        requests += std::min(done - before, HostilePeer::DEPTH);
        before = done;
        if (!peer.recover()) break;
      }
      stop = true;
      scribbler.join();
    }
  });
  std::printf("   %llu work requests\n", static_cast<unsigned long long>(requests));
}

TEST(messages_may_be_anything) {
  besideAnHonestClient([](Node& node) {
    auto random = check::random(900);
    for (uint64_t round = 0; round < rounds(100); round++) {
      HostilePeer peer(node.path);
      const int steps = random() % (HostilePeer::HANDSHAKE + 1);
      for (int step = 0; step < steps; step++) CHECK(peer.shake(step));
      for (int i = 0; i < 50; i++) {
        std::array<uint64_t, 16> octets;
        for (uint64_t& word : octets) word = random() % 2 == 0 ? random() % 8 : random();
        octets[0] = (1 + random() % 16) | (random() % 4) << 32;
        const size_t size = random() % 16 == 0 ? random() % sizeof octets : sizeof(ControlMessage);
        const int fds[] = {peer.memory().fd(), peer.channel(), peer.sends().memory()->fd()};
        const int fd = fds[random() % 3];
        if (!(random() % 2 == 0 ? peer.say(octets.data(), size, {}) : peer.say(octets.data(), size, {fd, fd}))) break;
      }
    }
  });
}
