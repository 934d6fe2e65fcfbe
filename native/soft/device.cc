#include "device.h"

#include <algorithm>

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

namespace {
void checkRegion(const RegionRecord& region) {
  const size_t bytes = region.memory->bytes();
  if (region.length == 0 || region.offset > bytes || region.length > bytes - region.offset ||
      region.iova > UINT64_MAX - region.length) {
    throw VerbsError(VerbsError::Kind::Range, "the region is empty or not within the memory");
  }
  if ((region.access & ~access::ALL) != 0) throw VerbsError(VerbsError::Kind::Range, "unknown access flags");
  const bool remoteWrites = (region.access & (access::REMOTE_WRITE | access::REMOTE_ATOMIC)) != 0;
  if (remoteWrites && (region.access & access::LOCAL_WRITE) == 0) {
    throw VerbsError(VerbsError::Kind::Range, "remote write and atomic access need LOCAL_WRITE");
  }
}
}  // namespace

uint32_t ProtectionDomain::addRegion(const std::shared_ptr<HostMemory>& memory, uint64_t offset, uint64_t length,
                                     uint64_t iova, uint32_t rights) {
  const RegionRecord region{memory, offset, length, iova, rights};
  checkRegion(region);
  const uint32_t key = device->keys.addRegion(region, number);
  try {
    for (const auto& mirror : mirrors_) mirror->addRegion(number, key, region);
  } catch (const VerbsError&) {
    for (const auto& mirror : mirrors_) mirror->removeRegion(number, key);
    device->keys.removeRegion(number, key);
    throw;
  }
  if (device->shared) regions_[key] = region;
  users++;
  return key;
}

void ProtectionDomain::removeRegion(uint32_t key) {
  for (const auto& mirror : mirrors_) mirror->removeRegion(number, key);
  device->keys.removeRegion(number, key);
  regions_.erase(key);
  users--;
}

uint32_t ProtectionDomain::addWindow() {
  const uint32_t keyBase = device->keys.addWindow(number);
  try {
    for (const auto& mirror : mirrors_) mirror->addWindow(number, keyBase);
  } catch (const VerbsError&) {
    for (const auto& mirror : mirrors_) mirror->removeWindow(number, keyBase);
    device->keys.removeWindow(number, keyBase);
    throw;
  }
  if (device->shared) windows_.insert(keyBase);
  users++;
  return keyBase;
}

void ProtectionDomain::removeWindow(uint32_t keyBase) {
  for (const auto& mirror : mirrors_) mirror->removeWindow(number, keyBase);
  device->keys.removeWindow(number, keyBase);
  windows_.erase(keyBase);
  users--;
}

void ProtectionDomain::addRegionAt(uint32_t key, const RegionRecord& region) {
  checkRegion(region);
  device->keys.addRegionAt(key, region, number);
  users++;
}

void ProtectionDomain::addWindowAt(uint32_t keyBase) {
  device->keys.addWindowAt(keyBase, number);
  users++;
}

void ProtectionDomain::addMirror(std::shared_ptr<KeyMirror> mirror) {
  for (const auto& [key, region] : regions_) mirror->addRegion(number, key, region);
  for (const uint32_t keyBase : windows_) mirror->addWindow(number, keyBase);
  mirrors_.push_back(std::move(mirror));
}

void ProtectionDomain::removeMirror(const KeyMirror& mirror) {
  mirrors_.erase(std::remove_if(mirrors_.begin(), mirrors_.end(),
                                [&](const auto& each) { return each.get() == &mirror; }),
                 mirrors_.end());
}

}  // namespace rnic
