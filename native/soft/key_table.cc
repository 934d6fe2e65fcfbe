#include "key_table.h"

#include <algorithm>

#include "error.h"
#include "spin_lock.h"

namespace rnic {

namespace {

constexpr uint32_t MAX_THREADS = 1024;
// Freed indices rest until so many have been freed after them.
constexpr size_t RESTING_KEYS = 4096;
HazardSlot slots[MAX_THREADS];
std::atomic<uint32_t> slotsInUse{0};  // none at or above this was ever taken

// The slot of a thread, given back when the thread ends.
struct SlotOwner {
  HazardSlot* slot = nullptr;
  SlotOwner() {
    for (uint32_t i = 0; i < MAX_THREADS; i++) {
      bool expected = false;
      if (!slots[i].taken.compare_exchange_strong(expected, true)) continue;
      uint32_t seen = slotsInUse.load();
      while (seen <= i && !slotsInUse.compare_exchange_weak(seen, i + 1)) {
      }
      slot = &slots[i];
      return;
    }
  }
  ~SlotOwner() {
    if (slot != nullptr) slot->taken.store(false);
  }
};

}  // namespace

HazardSlot* threadHazardSlot() {
  thread_local SlotOwner owner;
  return owner.slot;
}

void waitForAccesses() {
  const uint32_t count = slotsInUse.load(std::memory_order_seq_cst);
  for (uint32_t i = 0; i < count; i++) {
    const HazardSlot& slot = slots[i];
    const auto busy = [&] {
      return slot.remote.load(std::memory_order_seq_cst) != nullptr || slot.arriving.load(std::memory_order_seq_cst);
    };
    if (!busy()) continue;
    // After busy(): of an access that it did not see, the previous one counts as over here.
    const uint64_t over = slot.over.load(std::memory_order_seq_cst);
    Backoff backoff;
    while (busy() && slot.over.load(std::memory_order_seq_cst) == over) backoff.pause();
  }
}

KeyTable::KeyTable(uint32_t maxRegions, uint32_t maxWindows)
    : maxRegions_(maxRegions), maxWindows_(maxWindows), chunks_(new std::atomic<KeyEntry*>[MAX_KEYS / CHUNK]) {
  for (uint32_t i = 0; i < MAX_KEYS / CHUNK; i++) chunks_[i].store(nullptr, std::memory_order_relaxed);
}

KeyTable::~KeyTable() {
  for (uint32_t i = 0; i < MAX_KEYS / CHUNK; i++) delete[] chunks_[i].load(std::memory_order_relaxed);
}

void KeyTable::begin(KeyEntry& entry, KeyEntry::Kind kind, uint32_t pd) {
  (kind == KeyEntry::Kind::Region ? regions_ : windows_)++;
  entry.kind = kind;
  entry.pd = pd;
}

uint32_t KeyTable::take(KeyEntry::Kind kind, uint32_t pd) {
  if (kind == KeyEntry::Kind::Region && regions_ >= maxRegions_) {
    throw VerbsError(VerbsError::Kind::Limit, "the device has no memory region left");
  }
  if (kind == KeyEntry::Kind::Window && windows_ >= maxWindows_) {
    throw VerbsError(VerbsError::Kind::Limit, "the device has no memory window left");
  }
  uint32_t index;
  if (used_ < MAX_KEYS && free_.size() < RESTING_KEYS) {
    index = used_++;
    makeEntry(index);
  } else {
    // There are more places than regions and windows.
    index = free_.front();
    free_.pop_front();
  }
  begin(*find(index), kind, pd);
  return index;
}

KeyEntry& KeyTable::makeEntry(uint32_t index) {
  std::atomic<KeyEntry*>& chunk = chunks_[index >> CHUNK_BITS];
  if (chunk.load(std::memory_order_relaxed) == nullptr) chunk.store(new KeyEntry[CHUNK], std::memory_order_release);
  return *find(index);
}

KeyEntry& KeyTable::takeAt(uint32_t index, KeyEntry::Kind kind, uint32_t pd) {
  if (index == 0 || index >= MAX_LINK_KEYS) {
    throw VerbsError(VerbsError::Kind::Limit, "another process's key table is larger than this NIC takes");
  }
  KeyEntry& entry = makeEntry(index);
  if (entry.kind != KeyEntry::Kind::Free) throw VerbsError(VerbsError::Kind::Type, "the key is in use");
  begin(entry, kind, pd);
  return entry;
}

void KeyTable::give(uint32_t index) {
  KeyEntry& entry = *find(index);
  (entry.kind == KeyEntry::Kind::Region ? regions_ : windows_)--;
  entry.kind = KeyEntry::Kind::Free;
  entry.memory.reset();
  // Indices that another process's table gave are not this one's to use.
  if (index < used_) free_.push_back(index);
}

void KeyTable::WindowRun::begin() {
  if (requests_++ == MOST) end();
  if (begun_) return;
  table_.mutex_.lock();
  begun_ = true;
  requests_ = 1;
}

void KeyTable::WindowRun::finish() {
  settle();
  table_.mutex_.unlock();
  begun_ = false;
}

void KeyTable::WindowRun::kill(KeyEntry& entry) {
  entry.live.store(0, std::memory_order_seq_cst);
  killed_[killedCount_++] = &entry;
}

bool KeyTable::WindowRun::isUnsettled(const KeyEntry* entry) const {
  return entry != nullptr && std::find(killed_, killed_ + killedCount_, entry) != killed_ + killedCount_;
}

void KeyTable::WindowRun::settle() {
  if (killedCount_ == 0) return;
  const uint32_t count = slotsInUse.load(std::memory_order_seq_cst);
  for (uint32_t i = 0; i < count; i++) {
    Backoff backoff;
    while (isUnsettled(slots[i].remote.load(std::memory_order_seq_cst)) ||
           isUnsettled(slots[i].local.load(std::memory_order_seq_cst))) {
      backoff.pause();
    }
  }
  killedCount_ = 0;
}

void KeyTable::WindowRun::unbind(KeyEntry& window) {
  if (window.live.load(std::memory_order_relaxed) == 0) return;
  kill(window);
  table_.find(window.region)->windows--;
}

void KeyTable::openRegion(KeyEntry& entry, uint32_t key, const RegionRecord& region) {
  entry.tag = static_cast<uint8_t>(key);
  entry.start.store(region.iova, std::memory_order_relaxed);
  entry.length = region.length;
  entry.base.store(region.memory->data() + region.offset, std::memory_order_relaxed);
  entry.access = region.access | LOCAL_READ;
  entry.windows = 0;
  entry.memory = region.memory;
  entry.live.store(KeyEntry::LIVE | key, std::memory_order_seq_cst);
}

uint32_t KeyTable::addRegion(const RegionRecord& region, uint32_t pd) {
  std::lock_guard<std::mutex> lock(mutex_);
  const uint32_t index = take(KeyEntry::Kind::Region, pd);
  KeyEntry& entry = *find(index);
  const uint32_t key = index << KEY_TAG_BITS | static_cast<uint8_t>(entry.tag + 1);
  openRegion(entry, key, region);
  return key;
}

void KeyTable::addRegionAt(uint32_t key, const RegionRecord& region, uint32_t pd) {
  std::lock_guard<std::mutex> lock(mutex_);
  openRegion(takeAt(key >> KEY_TAG_BITS, KeyEntry::Kind::Region, pd), key, region);
}

void KeyTable::addWindowAt(uint32_t keyBase, uint32_t pd) {
  std::lock_guard<std::mutex> lock(mutex_);
  takeAt(keyBase >> KEY_TAG_BITS, KeyEntry::Kind::Window, pd).tag = 0;
}

void KeyTable::removeRegion(uint32_t pd, uint32_t key) {
  WindowRun run(*this);
  run.begin();
  KeyEntry* entry = find(key >> KEY_TAG_BITS);
  if (entry == nullptr || entry->kind != KeyEntry::Kind::Region || entry->pd != pd || entry->tag != (key & 0xff)) {
    throw VerbsError(VerbsError::Kind::Closed, "the region is closed");
  }
  if (entry->windows > 0) throw VerbsError(VerbsError::Kind::Busy, "windows are bound to the region");
  run.kill(*entry);
  run.settle();
  give(key >> KEY_TAG_BITS);
}

uint32_t KeyTable::addWindow(uint32_t pd) {
  std::lock_guard<std::mutex> lock(mutex_);
  const uint32_t index = take(KeyEntry::Kind::Window, pd);
  find(index)->tag = 0;
  return index << KEY_TAG_BITS;
}

void KeyTable::removeWindow(uint32_t pd, uint32_t keyBase) {
  WindowRun run(*this);
  run.begin();
  KeyEntry* entry = find(keyBase >> KEY_TAG_BITS);
  if (entry == nullptr || entry->kind != KeyEntry::Kind::Window || entry->pd != pd) {
    throw VerbsError(VerbsError::Kind::Closed, "the window is closed");
  }
  run.unbind(*entry);
  run.settle();
  give(keyBase >> KEY_TAG_BITS);
}

bool KeyTable::WindowRun::bind(uint32_t pd, uint32_t rkey, uint32_t regionKey, uint64_t start, uint64_t length,
                               uint32_t rights) {
  begin();
  KeyEntry* window = table_.find(rkey >> KEY_TAG_BITS);
  KeyEntry* region = table_.find(regionKey >> KEY_TAG_BITS);
  const uint8_t tag = static_cast<uint8_t>(rkey);
  if (window == nullptr || window->kind != KeyEntry::Kind::Window || window->pd != pd || window->tag == tag) return false;
  if (region == nullptr || region->kind != KeyEntry::Kind::Region || region->pd != pd ||
      region->live.load(std::memory_order_relaxed) != (KeyEntry::LIVE | regionKey) ||
      (region->access & access::MW_BIND) == 0) {
    return false;
  }
  if ((rights & ~access::REMOTE) != 0) return false;
  const bool writes = (rights & (access::REMOTE_WRITE | access::REMOTE_ATOMIC)) != 0;
  if (writes && (region->access & access::LOCAL_WRITE) == 0) return false;
  const uint64_t regionStart = region->start.load(std::memory_order_relaxed);
  if (length == 0 || start < regionStart || length > region->length ||
      start - regionStart > region->length - length) {
    return false;
  }
  unbind(*window);
  // Its fields change only while it is in no slot.
  if (isUnsettled(window)) settle();
  window->tag = tag;
  window->start.store(start, std::memory_order_relaxed);
  window->length = length;
  window->base.store(region->base.load(std::memory_order_relaxed) + (start - regionStart), std::memory_order_relaxed);
  window->access = rights;
  window->region = regionKey >> KEY_TAG_BITS;
  region->windows++;
  // Who sees the key sees the fields. The order of this and what other threads do matters to nobody: nobody has the key yet.
  window->live.store(KeyEntry::LIVE | rkey, std::memory_order_release);
  return true;
}

bool KeyTable::WindowRun::invalidate(uint32_t pd, uint32_t rkey) {
  begin();
  KeyEntry* window = table_.find(rkey >> KEY_TAG_BITS);
  if (window == nullptr || window->kind != KeyEntry::Kind::Window || window->pd != pd ||
      window->live.load(std::memory_order_relaxed) != (KeyEntry::LIVE | rkey)) {
    return false;
  }
  unbind(*window);
  return true;
}

bool KeyTable::isOf(uint32_t pd, uint32_t key) {
  std::lock_guard<std::mutex> lock(mutex_);
  const KeyEntry* entry = find(key >> KEY_TAG_BITS);
  return entry != nullptr && entry->kind != KeyEntry::Kind::Free && entry->pd == pd;
}

}  // namespace rnic
