#include "device.h"

#include "error.h"

namespace rnic {

ProtectionDomain::ProtectionDomain(std::shared_ptr<Device> owner)
    : device(std::move(owner)), number(device->nextPd++) {
  if (++device->pds > MAX_PD) {
    device->pds--;
    throw VerbsError(VerbsError::Kind::Limit, "the device has no protection domain left");
  }
}

ProtectionDomain::~ProtectionDomain() { device->pds--; }

uint32_t ProtectionDomain::addRegion(const std::shared_ptr<HostMemory>& memory, uint64_t offset, uint64_t length,
                                     uint64_t iova, uint32_t rights) {
  if (length == 0 || offset > memory->bytes() || length > memory->bytes() - offset || iova > UINT64_MAX - length) {
    throw VerbsError(VerbsError::Kind::Range, "the region is empty or not within the memory");
  }
  if ((rights & ~access::ALL) != 0) throw VerbsError(VerbsError::Kind::Range, "unknown access flags");
  const bool remoteWrites = (rights & (access::REMOTE_WRITE | access::REMOTE_ATOMIC)) != 0;
  if (remoteWrites && (rights & access::LOCAL_WRITE) == 0) {
    throw VerbsError(VerbsError::Kind::Range, "remote write and atomic access need LOCAL_WRITE");
  }
  const uint32_t key = device->keys.addRegion(memory, offset, length, iova, rights, number);
  users++;
  return key;
}

void ProtectionDomain::removeRegion(uint32_t key) {
  device->keys.removeRegion(number, key);
  users--;
}

uint32_t ProtectionDomain::addWindow() {
  const uint32_t keyBase = device->keys.addWindow(number);
  users++;
  return keyBase;
}

void ProtectionDomain::removeWindow(uint32_t keyBase) {
  device->keys.removeWindow(number, keyBase);
  users--;
}

}  // namespace rnic
