// A device of libibverbs, opened by one JavaScript thread, and what protection domains hold. All of it is used by that
// thread only.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "../soft/error.h"
#include "../soft/memory.h"
#include "abi.h"

namespace ibv {

struct DeviceOptions {
  std::string name;
  uint8_t port = 1;
  // Place in the port's table; -1 chooses: RoCE v2 with an IPv4 address, else RoCE v2, else the first.
  int gidIndex = -1;
  // See Window.
  int windowType = MW_TYPE_1;
};

// Throws VerbsError::Limit with what the call was to do and the reason.
[[noreturn]] void refused(const char* what, int error);

class Device {
 public:
  // Throws VerbsError::NoDevice.
  explicit Device(const DeviceOptions& options);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  PortAttr queryPort() const;
  Gid gid(int index) const;
  // Errors of queue pairs are reported here too, and the kernel keeps each report until it is taken.
  void dropAsyncEvents();

  Context* const context;
  const DeviceOptions options;
  const DeviceAttr attr;
  const PortAttr port;
  const int gidIndex;

 private:
  int chooseGid() const;
};

struct Region {
  Mr* mr;
  std::shared_ptr<rnic::HostMemory> memory;
  uint32_t windows = 0;  // bound to it
};

// A memory window. Type 2 is bound by a work request to the queue pair that it is posted on, and only that pair's
// accesses may use it. Type 1 is good for all pairs of the protection domain; binding it anew moves it, and binding it
// to nothing ends its key. The work requests that do so have the same form, so that both can stand in one chain.
struct Window {
  Mw* mw;  // null: ended with the pair that it was bound over
  bool used = false;  // bound at least once
  bool bound = false;
  uint32_t key = 0;       // while bound
  uint32_t lkey = 0;      // of the region that it is bound to
  uint32_t qpNum = 0;     // that it was bound over
};

class ProtectionDomain {
 public:
  explicit ProtectionDomain(std::shared_ptr<Device> device);
  ~ProtectionDomain();
  ProtectionDomain(const ProtectionDomain&) = delete;
  ProtectionDomain& operator=(const ProtectionDomain&) = delete;

  Region& addRegion(const std::shared_ptr<rnic::HostMemory>& memory, uint64_t offset, uint64_t length, uint64_t iova,
                    uint32_t rights);
  void removeRegion(uint32_t lkey);
  uint32_t addWindow();
  void removeWindow(uint32_t keyBase);
  // Null if the key's index is none of this domain's.
  Window* windowOf(uint32_t rkey);
  Region* regionOf(uint32_t lkey);
  void bound(Window& window, uint32_t key, uint32_t lkey, uint32_t qpNum);
  void unbound(Window& window);
  // The pair goes: windows that only it could use end with it. The device takes long over the pair otherwise.
  void retireWindowsOf(uint32_t qpNum);

  const std::shared_ptr<Device> device;
  Pd* const pd;
  uint32_t users = 0;  // queue pairs and shared receive queues
  bool inUse() const { return users > 0 || !regions_.empty() || !windows_.empty(); }

 private:
  std::unordered_map<uint32_t, Region> regions_;  // by lkey
  std::unordered_map<uint32_t, Window> windows_;  // by the key's index
};

}  // namespace ibv
