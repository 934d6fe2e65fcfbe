#include "device.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

#include "../soft/verbs.h"
#include "library.h"

namespace ibv {

using rnic::VerbsError;

namespace {

constexpr uint64_t PAGE = 4096;

std::string reason(int error) { return error == 0 ? "it says no reason" : std::strerror(error); }

[[noreturn]] void noDevice(const std::string& message) { throw VerbsError(VerbsError::Kind::NoDevice, message); }

Context* openByName(const std::string& name) {
  const Library& all = library();
  int count = 0;
  void** const list = all.getDeviceList(&count);
  if (list == nullptr) noDevice("no RDMA device can be opened: the kernel has no RDMA support loaded");
  std::string others;
  Context* context = nullptr;
  bool found = false;
  for (int i = 0; i < count && !found; i++) {
    const char* const candidate = all.getDeviceName(list[i]);
    others += std::string(others.empty() ? "" : ", ") + candidate;
    found = candidate == name;
    if (found) {
      errno = 0;
      context = all.openDevice(list[i]);
    }
  }
  const int error = errno;
  all.freeDeviceList(list);
  if (!found) {
    noDevice("there is no RDMA device " + name + (others.empty() ? "; there is none at all" : "; there are " + others));
  }
  if (context == nullptr) noDevice("the RDMA device " + name + " can't be opened: " + reason(error));
  const int flags = fcntl(context->asyncFd, F_GETFL);
  if (flags >= 0) fcntl(context->asyncFd, F_SETFL, flags | O_NONBLOCK);
  return context;
}

DeviceAttr attributesOf(Context* context) {
  DeviceAttr attr{};
  const int error = library().queryDevice(context, &attr);
  if (error != 0) noDevice("the RDMA device does not tell its attributes: " + reason(error));
  return attr;
}

bool isMapped4(const Gid& gid) {
  static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::memcmp(gid.raw, prefix, sizeof prefix) == 0;
}

}  // namespace

void refused(const char* what, int error) {
  throw VerbsError(VerbsError::Kind::Limit, std::string("the RDMA device refuses ") + what + ": " + reason(error));
}

Device::Device(const DeviceOptions& wanted)
    : context(openByName(wanted.name)), options(wanted), attr(attributesOf(context)), port(queryPort()),
      gidIndex(chooseGid()) {}

Device::~Device() { library().closeDevice(context); }

PortAttr Device::queryPort() const {
  PortAttr result{};
  const int error = library().queryPort(context, options.port, &result);
  if (error != 0) {
    noDevice("the RDMA device " + options.name + " has no port " + std::to_string(options.port) + ": " + reason(error));
  }
  return result;
}

Gid Device::gid(int index) const {
  Gid result{};
  if (library().queryGid(context, options.port, index, &result) != 0) return Gid{};
  return result;
}

int Device::chooseGid() const {
  if (options.gidIndex >= 0) return options.gidIndex;
  int best = 0;
  int bestRank = -1;
  for (int index = 0; index < port.gidTableLength; index++) {
    GidEntry entry{};
    if (library().queryGidEntry == nullptr) {
      entry.gid = gid(index);
    } else if (library().queryGidEntry(context, options.port, index, &entry, 0, sizeof entry) != 0) {
      continue;
    }
    static const Gid none{};
    if (std::memcmp(&entry.gid, &none, sizeof none) == 0) continue;
    const int rank = (entry.type == GID_ROCE_V2 ? 2 : 0) + (isMapped4(entry.gid) ? 1 : 0);
    if (rank > bestRank) {
      best = index;
      bestRank = rank;
    }
  }
  return best;
}

void Device::dropAsyncEvents() {
  AsyncEvent event{};
  while (library().getAsyncEvent(context, &event) == 0) library().ackAsyncEvent(&event);
}

ProtectionDomain::ProtectionDomain(std::shared_ptr<Device> owner)
    : device(std::move(owner)), pd(library().allocPd(device->context)) {
  if (pd == nullptr) refused("a protection domain", errno);
}

ProtectionDomain::~ProtectionDomain() {
  for (auto& entry : windows_) {
    if (entry.second.mw != nullptr) device->context->ops.deallocMw(entry.second.mw);
  }
  for (auto& entry : regions_) library().deregMr(entry.second.mr);
  library().deallocPd(pd);
}

Region& ProtectionDomain::addRegion(const std::shared_ptr<rnic::HostMemory>& memory, uint64_t offset, uint64_t length,
                                    uint64_t iova, uint32_t rights) {
  if (length == 0 || offset > memory->bytes() || length > memory->bytes() - offset) {
    throw VerbsError(VerbsError::Kind::Range, "the region is not within the memory");
  }
  if ((rights & ~rnic::access::ALL) != 0) throw VerbsError(VerbsError::Kind::Range, "unknown access rights");
  // Devices translate whole pages.
  if (iova % PAGE != offset % PAGE) {
    throw VerbsError(VerbsError::Kind::Range, "on an RDMA device a region's address must lie in its page as its memory does");
  }
  errno = 0;
  Mr* const mr = library().regMrIova(pd, memory->data() + offset, length, iova, rights);
  if (mr == nullptr) {
    if (errno == EINVAL) {
      throw VerbsError(VerbsError::Kind::Range, "the RDMA device refuses a region with these rights or of this size");
    }
    refused("a memory region", errno);
  }
  return regions_.emplace(mr->lkey, Region{mr, memory}).first->second;
}

void ProtectionDomain::removeRegion(uint32_t lkey) {
  Region* const region = regionOf(lkey);
  if (region == nullptr) throw VerbsError(VerbsError::Kind::Closed, "the region is closed");
  if (region->windows > 0) throw VerbsError(VerbsError::Kind::Busy, "windows are bound to the region");
  const int error = library().deregMr(region->mr);
  if (error == EINVAL || error == EBUSY) throw VerbsError(VerbsError::Kind::Busy, "windows are bound to the region");
  if (error != 0) refused("the end of a region", error);
  regions_.erase(lkey);
}

uint32_t ProtectionDomain::addWindow() {
  errno = 0;
  Mw* const mw = device->context->ops.allocMw(pd, device->options.windowType);
  if (mw == nullptr) refused("a memory window", errno);
  const uint32_t index = mw->rkey >> rnic::KEY_TAG_BITS;
  windows_.emplace(index, Window{mw});
  return index << rnic::KEY_TAG_BITS;
}

void ProtectionDomain::removeWindow(uint32_t keyBase) {
  Window* const window = windowOf(keyBase);
  if (window == nullptr) throw VerbsError(VerbsError::Kind::Closed, "the window is closed");
  const int error = window->mw == nullptr ? 0 : device->context->ops.deallocMw(window->mw);
  if (error != 0) refused("the end of a window", error);
  unbound(*window);
  windows_.erase(keyBase >> rnic::KEY_TAG_BITS);
}

Window* ProtectionDomain::windowOf(uint32_t rkey) {
  const auto found = windows_.find(rkey >> rnic::KEY_TAG_BITS);
  return found == windows_.end() ? nullptr : &found->second;
}

Region* ProtectionDomain::regionOf(uint32_t lkey) {
  const auto found = regions_.find(lkey);
  return found == regions_.end() ? nullptr : &found->second;
}

void ProtectionDomain::bound(Window& window, uint32_t key, uint32_t lkey, uint32_t qpNum) {
  unbound(window);
  window.used = true;
  window.bound = true;
  window.key = key;
  window.lkey = lkey;
  window.qpNum = qpNum;
  if (Region* const region = regionOf(lkey)) region->windows++;
}

void ProtectionDomain::unbound(Window& window) {
  if (!window.bound) return;
  window.bound = false;
  if (Region* const region = regionOf(window.lkey)) region->windows--;
}

void ProtectionDomain::retireWindowsOf(uint32_t qpNum) {
  for (auto& entry : windows_) {
    Window& window = entry.second;
    if (window.mw == nullptr || window.mw->type != MW_TYPE_2 || !window.bound || window.qpNum != qpNum) continue;
    device->context->ops.deallocMw(window.mw);
    window.mw = nullptr;
    unbound(window);
  }
}

}  // namespace ibv
