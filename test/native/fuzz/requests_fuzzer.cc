// Rings with anything in them: two clients whose rings, counters and states follow from the input, a node with windows
// for the first of them. After each input every octet of the node that no window of write access covers is as it was.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "../../../native/soft/error.h"
#include "../../../native/soft/queue_pair.h"
#include "script.h"

using namespace rnic;

namespace {

constexpr uint32_t DEPTH = 16;
constexpr size_t BYTES = 16384;
constexpr uint8_t CANARY = 0xa5;
constexpr uint32_t STORM = 256;

uint64_t requests = 0;
// --requests=N: the run ends when it has executed so many.
uint64_t enough = UINT64_MAX;

void print() { std::fprintf(stderr, "%llu work requests\n", static_cast<unsigned long long>(requests)); }

void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

struct Range {
  uint64_t start;
  uint64_t length;
};

// Where the node's windows lie in its memory; its receive buffers come after them.
constexpr Range WRITABLE = {1000, 100};
constexpr Range READABLE = {2048, 1024};
constexpr Range ATOMIC = {4096, 64};
constexpr Range OTHERS = {5120, 128};
constexpr Range BUFFERS = {8192, 1024};
// Outside of it neither side may be touched at all.
constexpr Range REGION = {512, BYTES - 1024};

struct End {
  explicit End(const std::shared_ptr<ProtectionDomain>& pd)
      : sendCq(std::make_shared<CompletionQueue>(DEPTH, false, nullptr)),
        recvCq(std::make_shared<CompletionQueue>(DEPTH, false, nullptr)),
        qp(std::make_shared<QueuePair>(pd, sendCq, recvCq, Ring<Wqe>(DEPTH, false),
                                       std::make_shared<ReceiveQueue>(Ring<RecvWqe>(DEPTH, false)))) {}
  ~End() { qp->close(); }

  std::shared_ptr<CompletionQueue> sendCq;
  std::shared_ptr<CompletionQueue> recvCq;
  std::shared_ptr<QueuePair> qp;
};

struct Domain {
  explicit Domain(const std::shared_ptr<Device>& device) : pd(std::make_shared<ProtectionDomain>(device)) {}
  ~Domain() {
    for (const uint32_t window : windows) pd->removeWindow(window);
    for (const uint32_t region : regions) pd->removeRegion(region);
  }

  uint32_t region(const std::shared_ptr<HostMemory>& memory, uint32_t rights) {
    // Not aligned, and not at the address that it has in the memory.
    regions.push_back(pd->addRegion(memory, REGION.start, REGION.length, REGION.start, rights));
    return regions.back();
  }
  uint32_t window(uint32_t region, const Range& range, uint32_t rights) {
    windows.push_back(pd->addWindow());
    const uint32_t key = windows.back() | 7;
    if (!pd->device->keys.bind(pd->number, key, region, range.start, range.length, rights)) fail("no window");
    return key;
  }

  const std::shared_ptr<ProtectionDomain> pd;
  std::vector<uint32_t> regions;
  std::vector<uint32_t> windows;
};

class World {
 public:
  World()
      : node_(nodeDevice()), other_(nodeDevice()), client_(clientDevice()), nodeMemory_(memory()), clientMemory_(memory()) {
    // The region itself grants nothing to others.
    const uint32_t region = node_.region(nodeMemory_, access::LOCAL_WRITE | access::MW_BIND);
    const uint32_t others = other_.region(nodeMemory_, access::LOCAL_WRITE | access::MW_BIND);
    nodeKey_ = region;
    keys_.push_back(node_.window(region, WRITABLE, access::REMOTE_WRITE | access::REMOTE_READ));
    keys_.push_back(node_.window(region, READABLE, access::REMOTE_READ));
    keys_.push_back(node_.window(region, ATOMIC, access::REMOTE_ATOMIC));
    keys_.push_back(other_.window(others, OTHERS, access::REMOTE));
    keys_.push_back(region);
    keys_.push_back(client_.region(clientMemory_, access::ALL));
    keys_.push_back(client_.window(keys_.back(), WRITABLE, access::REMOTE));
    keys_.push_back(0);
    for (int i = 0; i < 2; i++) {
      ends_.push_back(std::make_unique<End>(client_.pd));
      ends_.push_back(std::make_unique<End>(node_.pd));
      QueuePair::connect(ends_[2 * i]->qp, ends_[2 * i + 1]->qp);
      postReceives(*ends_[2 * i + 1]->qp);
    }
  }

  void run(Script& script) {
    while (!script.atEnd()) {
      const auto act = static_cast<Act>(script.octet() % static_cast<uint8_t>(Act::COUNT));
      const uint8_t which = script.octet();
      End& end = *ends_[2 * (which & 1)];
      End& peer = *ends_[2 * (which & 1) + 1];
      try {
        perform(act, which >> 1, end, peer, script);
      } catch (const VerbsError&) {
        // What a state can't become.
      }
    }
    for (size_t i = 0; i < ends_.size(); i += 2) ring(*ends_[i]);
  }

  void check() const {
    uint64_t from = 0;
    for (const Range& writable : {WRITABLE, ATOMIC, BUFFERS, Range{BYTES, 0}}) {
      expectCanary(*nodeMemory_, from, writable.start, "the node's memory was changed outside of its windows");
      from = writable.start + writable.length;
    }
    const char* const outside = "memory outside of a region was changed";
    expectCanary(*clientMemory_, 0, REGION.start, outside);
    expectCanary(*clientMemory_, REGION.start + REGION.length, BYTES, outside);
  }

 private:
  static const std::shared_ptr<Device>& nodeDevice() {
    static const auto device = std::make_shared<Device>(false);
    return device;
  }
  static const std::shared_ptr<Device>& clientDevice() {
    static const auto device = std::make_shared<Device>(false);
    return device;
  }
  static std::shared_ptr<HostMemory> memory() {
    auto memory = std::make_shared<HostMemory>(BYTES);
    std::memset(memory->data(), CANARY, BYTES);
    return memory;
  }

  static void expectCanary(const HostMemory& memory, uint64_t from, uint64_t to, const char* what) {
    static const std::vector<uint8_t> canary(BYTES, CANARY);
    if (std::memcmp(memory.data() + from, canary.data(), to - from) != 0) fail(what);
  }

  static void ring(End& end) {
    const uint32_t before = end.qp->sent();
    end.qp->doorbell();
    // Of a wild counter the RNIC believes as much as the ring holds.
    requests += std::min(end.qp->sent() - before, DEPTH);
  }

  template <typename Entry>
  static void put(const Ring<Entry>& ring, const Entry& entry) {
    const uint32_t count = ring.userCounter().load();
    std::memcpy(ring.entry(count), &entry, sizeof entry);
    ring.userCounter().store(count + 1);
  }

  void postReceives(const QueuePair& qp) const {
    for (uint32_t i = 0; i < DEPTH; i++) {
      RecvWqe wqe{};
      wqe.localAddr = BUFFERS.start + 64 * i;
      wqe.lkey = nodeKey_;
      wqe.length = 64;
      put(qp.receives->ring, wqe);
    }
  }

  uint32_t key(Script& script) const {
    const uint8_t which = script.octet();
    const uint32_t found = keys_[which % keys_.size()];
    return which < 200 ? found : found ^ script.number<uint32_t>();
  }

  // Near the beginning or the end of one of the ranges, or anywhere.
  static uint64_t address(Script& script) {
    static const Range ranges[] = {WRITABLE, READABLE, ATOMIC, OTHERS, BUFFERS, REGION, {0, BYTES}};
    const uint8_t which = script.octet();
    if (which >= 224) return script.number<uint64_t>();
    const Range& range = ranges[which % 7];
    const int8_t distance = static_cast<int8_t>(script.octet());
    return range.start + ((which & 16) != 0 ? range.length : 0) + static_cast<uint64_t>(int64_t{distance});
  }

  static uint32_t length(Script& script) {
    const uint8_t which = script.octet();
    if (which < 128) return which;
    return which < 240 ? script.number<uint16_t>() : script.number<uint32_t>();
  }

  void perform(Act act, uint8_t more, End& end, End& peer, Script& script) {
    QueuePair& qp = *end.qp;
    switch (act) {
      case Act::RawRequest:
        return put(qp.sendRing, script.number<Wqe>());
      case Act::Request: {
        Wqe wqe{};
        wqe.opcode = static_cast<Opcode>(more % 11);
        wqe.sendFlags = script.octet();
        wqe.rkey = key(script);
        wqe.lkey = key(script);
        wqe.remoteAddr = address(script);
        wqe.localAddr = address(script);
        wqe.length = length(script);
        if (wqe.opcode == Opcode::CMP_AND_SWP || wqe.opcode == Opcode::FETCH_AND_ADD) wqe.length = 8;
        wqe.compareAdd = length(script);
        wqe.bindAccess = script.octet();
        wqe.imm = key(script);
        return put(qp.sendRing, wqe);
      }
      case Act::RawReceive:
        return put(qp.receives->ring, script.number<RecvWqe>());
      case Act::Receive: {
        RecvWqe wqe{};
        wqe.lkey = key(script);
        wqe.localAddr = address(script);
        wqe.length = length(script);
        return put(qp.receives->ring, wqe);
      }
      case Act::Ring:
        return ring(end);
      case Act::SendCounter:
        return qp.sendRing.userCounter().store(script.number<uint32_t>());
      case Act::ReceiveCounter:
        return qp.receives->ring.userCounter().store(script.number<uint32_t>());
      case Act::QueueCounters: {
        const Ring<Cqe>& ring = (more & 1) != 0 ? end.sendCq->ring : end.recvCq->ring;
        ring.userCounter().store(script.number<uint32_t>());
        return ring.nicCounter().store(script.number<uint32_t>());
      }
      case Act::Poll:
        end.sendCq->ring.userCounter().store(end.sendCq->pushed());
        return end.recvCq->ring.userCounter().store(end.recvCq->pushed());
      case Act::Overwrite: {
        const uint32_t place = script.number<uint16_t>() % (DEPTH * sizeof(Wqe) - 16);
        return script.bytes(reinterpret_cast<uint8_t*>(qp.sendRing.entry(0)) + place, 16);
      }
      case Act::Modify:
        return qp.modify(static_cast<QpState>(script.octet()), script.octet());
      case Act::Recover:
        for (End* const each : {&end, &peer}) {
          for (const QpState state : {QpState::RESET, QpState::INIT, QpState::RTR, QpState::RTS}) {
            each->qp->modify(state, access::REMOTE);
          }
          each->sendCq->ring.userCounter().store(each->sendCq->pushed());
          each->recvCq->ring.userCounter().store(each->recvCq->pushed());
        }
        return postReceives(*peer.qp);
      case Act::Storm:
        return storm(script.number<uint32_t>(), end, peer);
      case Act::COUNT:
        return;
    }
  }

  // Coverage needs few requests; that nothing else happens is shown by many.
  void storm(uint32_t seed, End& end, End& peer) {
    std::minstd_rand random(seed);
    std::vector<uint8_t> bytes(STORM * 32);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random() >> 8);
    Script script(bytes.data(), bytes.size());
    for (uint32_t i = 0; i < STORM; i++) {
      perform(Act::Request, script.octet(), end, peer, script);
      if (i % 4 != 3) continue;
      ring(end);
      if (end.qp->state() == QpState::RTS) perform(Act::Poll, 0, end, peer, script);
      if (end.qp->state() != QpState::RTS) perform(Act::Recover, 0, end, peer, script);
    }
  }

  // Closed in reverse: the ends first.
  Domain node_;
  Domain other_;
  Domain client_;
  std::shared_ptr<HostMemory> nodeMemory_;
  std::shared_ptr<HostMemory> clientMemory_;
  uint32_t nodeKey_ = 0;
  std::vector<uint32_t> keys_;
  std::vector<std::unique_ptr<End>> ends_;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  constexpr char OPTION[] = "--requests=";
  for (int i = 1; i < *count; i++) {
    const char* const argument = (*arguments)[i];
    if (std::strncmp(argument, OPTION, sizeof OPTION - 1) == 0) {
      enough = std::strtoull(argument + sizeof OPTION - 1, nullptr, 10);
    }
  }
  std::atexit(print);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Script script(data, size);
  World world;
  world.run(script);
  world.check();
  if (requests >= enough) {
    enough = UINT64_MAX;
    print();
    // What libFuzzer takes for the wish that it ends without a finding.
    std::raise(SIGUSR1);
  }
  return 0;
}
