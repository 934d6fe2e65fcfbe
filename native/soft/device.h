#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "key_table.h"

namespace rnic {

// A software RNIC: a key table and counts of what was made from it.
struct Device {
  explicit Device(bool isShared)
      : shared(isShared), keys(isShared ? MAX_LINK_MR : MAX_MR, isShared ? MAX_LINK_MW : MAX_MW) {}

  // Its memory and rings can be passed to other processes, as connections over shared memory need.
  const bool shared;
  KeyTable keys;
  std::atomic<uint32_t> nextPd{1};
  std::atomic<uint32_t> pds{0};
  std::atomic<uint32_t> qps{0};
  std::atomic<uint32_t> cqs{0};
  std::atomic<uint32_t> srqs{0};
};

// A NIC in another process that knows a protection domain's regions and windows too. What it refuses it throws; to remove
// what it does not have is no error.
class KeyMirror {
 public:
  virtual ~KeyMirror() = default;
  virtual void addRegion(uint32_t pd, uint32_t key, const RegionRecord& region) = 0;
  virtual void removeRegion(uint32_t pd, uint32_t key) = 0;
  virtual void addWindow(uint32_t pd, uint32_t keyBase) = 0;
  virtual void removeWindow(uint32_t pd, uint32_t keyBase) = 0;
};

struct ProtectionDomain {
  explicit ProtectionDomain(std::shared_ptr<Device> device);
  ~ProtectionDomain();

  // See KeyTable.
  uint32_t addRegion(const std::shared_ptr<HostMemory>& memory, uint64_t offset, uint64_t length, uint64_t iova,
                     uint32_t rights);
  void removeRegion(uint32_t key);
  uint32_t addWindow();
  void removeWindow(uint32_t keyBase);
  // With the key that another process's domain has given it.
  void addRegionAt(uint32_t key, const RegionRecord& region);
  void addWindowAt(uint32_t keyBase);

  // Tell it of what there is and of every change from now on; the owner's thread.
  void addMirror(std::shared_ptr<KeyMirror> mirror);
  void removeMirror(const KeyMirror& mirror);

  const std::shared_ptr<Device> device;
  const uint32_t number;
  // Regions, windows, shared receive queues and queue pairs in it.
  std::atomic<uint32_t> users{0};

 private:
  // Of a shared device: what a new mirror has to know.
  std::map<uint32_t, RegionRecord> regions_;
  std::set<uint32_t> windows_;
  std::vector<std::shared_ptr<KeyMirror>> mirrors_;
};

}  // namespace rnic
