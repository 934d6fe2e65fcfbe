// Keys that nobody gave: none is accepted, nothing outside of what was granted changes, others go on.
#include <unordered_set>

#include "hostile_node.h"

using namespace rig;

namespace {

constexpr uint64_t GRANTED = 64;
constexpr uint64_t DISTANCE = 128;  // from one granted range to the next
constexpr int WINDOWS = 256;        // of the forger's own domain, and as many of another

// A region in a domain of its own, and windows on every second 64 bytes of it.
struct Grants {
  Grants(const Side& side, uint64_t from)
      : pd(std::make_shared<ProtectionDomain>(side.device)),
        region(pd->addRegion(side.memory, from, WINDOWS * DISTANCE, 0, access::LOCAL_WRITE | access::MW_BIND)) {
    for (int i = 0; i < WINDOWS; i++) {
      windows.push_back(pd->addWindow());
      keys.push_back(windows[i] | static_cast<uint32_t>(1 + i % 255));
      CHECK(side.device->keys.bind(pd->number, keys[i], region, i * DISTANCE, GRANTED, access::REMOTE));
    }
  }
  ~Grants() {
    for (const uint32_t window : windows) pd->removeWindow(window);
    pd->removeRegion(region);
  }

  const std::shared_ptr<ProtectionDomain> pd;
  const uint32_t region;
  std::vector<uint32_t> windows;
  std::vector<uint32_t> keys;
};

Wqe anyRequest(std::mt19937_64& random, uint32_t lkey, uint32_t rkey, uint64_t address) {
  switch (random() % 4) {
    case 0:
      return read(lkey, 0, 8, rkey, address);
    case 1:
      return write(lkey, 0, 8, rkey, address);
    case 2:
      return cas(lkey, 0, rkey, address, 0xa5a5a5a5a5a5a5a5, 0);
    default:
      return faa(lkey, 0, rkey, address, 1);
  }
}

}  // namespace

// Keys of all bits, of other tags at places that are in use, of another client, and ones that have ended.
TEST(no_forged_key_is_accepted) {
  constexpr uint64_t HALF = WINDOWS * DISTANCE;
  Side node(2 * HALF);
  std::memset(node.bytes(), CANARY, 2 * HALF);
  Grants own(node, 0);
  Grants others(node, HALF);
  const uint64_t forgeries = rounds(20000);
  std::unordered_set<uint32_t> live(own.keys.begin(), own.keys.end());
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> done{0};

  // The other client uses its keys all the time, and nothing of that fails.
  std::thread honest([&] {
    Side side;
    Pair client(side.pd);
    Pair pair(others.pd);
    QueuePair::connect(client.qp, pair.qp);
    auto random = check::random(801);
    while (!stop) {
      const int i = static_cast<int>(random() % WINDOWS);
      side.word(0) = random();
      CHECK(client.run(write(side.key, 0, 8, others.keys[i], i * DISTANCE)) == WcStatus::SUCCESS);
      CHECK(client.run(read(side.key, 8, 8, others.keys[i], i * DISTANCE)) == WcStatus::SUCCESS);
      CHECK(side.word(8) == side.word(0));
      done++;
    }
  });

  Side side;
  std::memset(side.bytes(), 0, MEMORY_BYTES);
  Pair client(side.pd);
  Pair pair(own.pd);
  QueuePair::connect(client.qp, pair.qp);
  auto random = check::random(800);
  uint32_t ended = 0;
  uint64_t refused = 0;
  for (uint64_t i = 0; i < forgeries; i++) {
    const int which = static_cast<int>(random() % WINDOWS);
    if (i % 64 == 0) {
      // The tags go on, so this key and those before it are old ones for a while.
      ended = own.keys[which];
      live.erase(ended);
      own.keys[which] = own.windows[which] | ((ended + 1) & 0xff);
      live.insert(own.keys[which]);
      CHECK(node.device->keys.bind(own.pd->number, own.keys[which], own.region, which * DISTANCE, GRANTED, access::REMOTE));
    }
    uint32_t key = 0;
    switch (random() % 4) {
      case 0:
        key = static_cast<uint32_t>(random());
        break;
      case 1:
        key = own.windows[which] | (random() & 0xff);
        break;
      case 2:
        key = others.keys[which];
        break;
      default:
        key = ended;
    }
    if (live.count(key) != 0) continue;
    CHECK(client.run(anyRequest(random, side.key, key, which * DISTANCE)) == WcStatus::REM_ACCESS_ERR);
    refused++;
    pair.recover();
    client.recover();
  }
  std::printf("   %llu forged keys\n", static_cast<unsigned long long>(refused));
  CHECK(client.run(read(side.key, 0, 8, own.keys[0], 0)) == WcStatus::SUCCESS);
  for (const uint64_t before = done; done == before;) std::this_thread::yield();
  stop = true;
  honest.join();
  for (uint64_t at = 0; at < 2 * HALF; at++) {
    CHECK((at >= HALF && at % DISTANCE < 8) || node.bytes()[at] == CANARY);
  }
}

// Over a link that ends when it is too much, and over the next one, until so many were refused. The pairs share what is
// forgiven, also those that are gone.
TEST(who_forges_keys_is_cut_off) {
  uint64_t refused = 0;
  uint64_t links = 0;
  besideAnHonestClient([&](Node& node) {
    constexpr int PAIRS = 3;
    auto random = check::random(810);
    while (refused < rounds(600)) {
      HostilePeer peer(node.path, PAIRS);
      if (!peer.connect()) continue;
      links++;
      const uint32_t key = node.key();
      int pair = 0;
      for (uint64_t i = 0;; i++) {
        if (i % 100 == 99 && pair + 1 < PAIRS && !peer.removePair(pair++)) break;
        uint32_t forged = 0;
        do {
          forged = static_cast<uint32_t>(random());
        } while (forged >> KEY_TAG_BITS == key >> KEY_TAG_BITS);
        Wqe wqe = anyRequest(random, HostilePeer::REGION, forged, HOSTILE);
        wqe.sendFlags = send_flag::SIGNALED;
        peer.post(wqe, pair);
        const bool there = peer.wake();
        // The node's side needs its time to mend its own end of the pair: until then nobody is there, and no key is looked at.
        if (!there || !peer.recover(pair)) break;
        const auto status = peer.completed();
        if (!status) continue;
        CHECK(*status == WcStatus::REM_ACCESS_ERR || *status == WcStatus::RETRY_EXC_ERR || *status == WcStatus::WR_FLUSH_ERR);
        refused += *status == WcStatus::REM_ACCESS_ERR;
        CHECK(i < 1000000);
      }
    }
  });
  std::printf("   %llu forged keys over %llu links\n", static_cast<unsigned long long>(refused),
              static_cast<unsigned long long>(links));
  CHECK(links > 1);
}
