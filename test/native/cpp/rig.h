// What the tests build from: sides with memory and queues, pairs that are connected, requests in a line each.
#pragma once

#include <memory>
#include <optional>

#include "../../../native/soft/connection.h"
#include "../../../native/soft/error.h"
#include "check.h"

namespace rig {

using namespace rnic;

constexpr uint32_t ALL = access::ALL;
constexpr size_t MEMORY_BYTES = 65536;

// Polls a completion queue as its owner does.
class Poller {
 public:
  explicit Poller(std::shared_ptr<CompletionQueue> cq) : cq_(std::move(cq)) {}
  std::optional<Cqe> poll();
  // How many completions there were.
  int drain();

 private:
  const std::shared_ptr<CompletionQueue> cq_;
  uint32_t polled_ = 0;
};

std::shared_ptr<CompletionQueue> newCq(uint32_t depth, std::shared_ptr<Channel> channel = nullptr, bool shared = false);

std::shared_ptr<ReceiveQueue> newReceives(uint32_t depth, bool shared = false);

// A queue pair with completion queues of its own, for one thread.
struct Pair {
  Pair(const std::shared_ptr<ProtectionDomain>& pd, uint32_t depth = 16, uint32_t cqDepth = 64);
  ~Pair() { qp->close(); }

  // Into the send ring, for the next doorbell.
  void post(const Wqe& wqe);
  void postRecv(uint64_t wrId, uint32_t lkey, uint64_t address, uint32_t length);
  // Post signalled, ring, give the completion's status.
  WcStatus run(Wqe wqe);
  Cqe runForCompletion(Wqe wqe);
  // From any state to RTS; what was there before is gone.
  void recover();

  std::shared_ptr<CompletionQueue> sendCq;
  std::shared_ptr<CompletionQueue> recvCq;
  Poller sends;
  Poller receives;
  std::shared_ptr<QueuePair> qp;
};

// In memory now; 0 under the sanitizers, which keep what was freed for a while and look for leaks themselves.
uint64_t residentBytes();

// A device of its own with one registered memory.
struct Side {
  explicit Side(size_t bytes = MEMORY_BYTES, bool shared = false);
  ~Side();

  uint8_t* bytes() const { return memory->data(); }
  std::atomic<uint64_t>& word(uint64_t address) const {
    return *reinterpret_cast<std::atomic<uint64_t>*>(memory->data() + address);
  }

  std::shared_ptr<Device> device;
  std::shared_ptr<ProtectionDomain> pd;
  std::shared_ptr<HostMemory> memory;
  // Both keys of a region over all of the memory, with addresses from 0.
  uint32_t key;
};

// A client's pair connected to one of a node's.
struct Link {
  Link(const Side& client, const Side& node);
  // Both ends, after a refusal.
  void recover();

  Pair client;
  Pair node;
};

Wqe read(uint32_t lkey, uint64_t local, uint32_t length, uint32_t rkey, uint64_t remote);
Wqe write(uint32_t lkey, uint64_t local, uint32_t length, uint32_t rkey, uint64_t remote);
Wqe cas(uint32_t lkey, uint64_t local, uint32_t rkey, uint64_t remote, uint64_t expected, uint64_t desired);
Wqe faa(uint32_t lkey, uint64_t local, uint32_t rkey, uint64_t remote, uint64_t addend);
Wqe send(uint32_t lkey, uint64_t local, uint32_t length);
Wqe bind(uint32_t rkey, uint32_t lkey, uint64_t start, uint64_t length, uint32_t rights);
Wqe invalidate(uint32_t rkey);

}  // namespace rig
