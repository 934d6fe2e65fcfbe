#pragma once

#include <atomic>
#include <memory>

#include "key_table.h"

namespace rnic {

// A software RNIC: a key table and counts of what was made from it.
struct Device {
  explicit Device(bool shared) : shared(shared) {}

  // Its memory and rings can be passed to other processes, as connections over shared memory need.
  const bool shared;
  KeyTable keys;
  std::atomic<uint32_t> nextPd{1};
  std::atomic<uint32_t> pds{0};
  std::atomic<uint32_t> qps{0};
  std::atomic<uint32_t> cqs{0};
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

  const std::shared_ptr<Device> device;
  const uint32_t number;
  // Regions, windows and queue pairs in it.
  std::atomic<uint32_t> users{0};
};

}  // namespace rnic
