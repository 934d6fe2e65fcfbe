// Clients of the shared-memory link that do what they like.
#include <sys/eventfd.h>

#include "hostile_node.h"

using namespace rig;

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

// Not hostile, but many: a process that connects, works and leaves, again and again, at the same node.
TEST(clients_that_come_and_go_leave_nothing) {
  besideAnHonestClient([](Node& node) {
    Side side(MEMORY_BYTES, true);
    const auto channel = std::make_shared<Channel>(true);
    const auto comeAndGo = [&] {
      Pair pair(side.pd);
      const auto link = ClientLink::connect(node.path, {pair.qp}, channel);
      while (link->state() == Connection::State::Connecting) channel->wait(1e6);
      CHECK(link->state() == Connection::State::Established);
      // In a domain of its own the node's first key is this one.
      pair.post(write(side.key, 0, 8, node.key(), HOSTILE));
      pair.qp->doorbell();
      link->close();
    };
    for (uint64_t round = 0; round < rounds(100); round++) comeAndGo();
    const uint64_t resident = residentBytes();
    for (uint64_t round = 0; round < rounds(400); round++) comeAndGo();
    CHECK(residentBytes() < resident + (16 << 20));
    CHECK(side.device->qps == 0 && side.pd->users == 1);
  });
}

TEST(listeners_that_come_and_go_leave_nothing) {
  const std::string path = "/tmp/rnic-test-listener-" + std::to_string(getpid()) + ".sock";
  const auto channel = std::make_shared<Channel>(false);
  Listener::openUnix(channel, path, 2)->close();
  const Resources before = resources();
  for (uint64_t round = 0; round < rounds(200); round++) {
    const auto listener = Listener::openUnix(channel, path, 2);
    if (round % 2 == 0) CHECK(HostilePeer(path).shake(0));
    listener->close();
  }
  for (int i = 0; i < 2000 && resources() > before; i++) sleepMs(10);
  CHECK(!(resources() > before));
}
