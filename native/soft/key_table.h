// The keys of a device, and how an access and the end of a permission meet.
//
// Invariant: when a revocation has ended, no access under the old key touches memory any more.
// An accessor publishes the entry in a hazard slot of its thread, then looks whether the key is live, then copies, then
// clears the slot. A revoker makes the key dead, then waits until no slot holds the entry; for several keys at once, if
// it makes them all dead first: to look at the slots of threads on other cores is dear. All of these are sequentially
// consistent, so either the accessor sees the dead key, or the revoker sees the slot and waits; also if the slot has held
// the entry since an access before. For the same reason the
// fields of an entry, written only while it is dead and in no slot, are never read half old and half new.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

#include "memory.h"
#include "verbs.h"

namespace rnic {

struct RegionRecord {
  std::shared_ptr<HostMemory> memory;
  uint64_t offset;
  uint64_t length;
  uint64_t iova;
  uint32_t access;
};

struct KeyEntry {
  enum class Kind : uint8_t { Free, Region, Window };

  // 0, or LIVE | key.
  std::atomic<uint64_t> live{0};
  static constexpr uint64_t LIVE = uint64_t{1} << 32;

  // Read by accessors while live; `start` and `base` also by hints, which may see them change.
  std::atomic<uint64_t> start{0};
  uint64_t length = 0;
  std::atomic<uint8_t*> base{nullptr};  // where `start` is in memory
  uint32_t access = 0;
  uint32_t pd = 0;

  // Under the table's lock only.
  Kind kind = Kind::Free;
  uint8_t tag = 0;           // of the last key
  uint32_t windows = 0;      // region: windows bound to it
  uint32_t region = 0;       // bound window: index of its region, which has the memory and outlives the binding
  std::shared_ptr<HostMemory> memory;  // of a region
};

// What the threads that execute work requests are accessing.
struct alignas(64) HazardSlot {
  std::atomic<bool> taken{false};
  std::atomic<const KeyEntry*> remote{nullptr};
  std::atomic<const KeyEntry*> local{nullptr};
  // A message takes a receive buffer, is written there and completed.
  std::atomic<bool> arriving{false};
  // Runs of accesses that are over.
  std::atomic<uint64_t> over{0};
  void countOver() { over.store(over.load(std::memory_order_relaxed) + 1, std::memory_order_release); }
};

// The accesses of a thread that follow each other under one publication: the next one to the same key finds its hazard in
// place and only looks whether the key is still live, two loads. To publish is a locked instruction. A run ends with the
// first access that fails, before anything that takes a lock or waits for hazards, and after a few accesses or a long one:
// nobody waits for it much longer than for a single access. Messages are such accesses too.
class AccessRun {
 public:
  explicit AccessRun(HazardSlot* slot) : slot_(slot) {}
  ~AccessRun() { end(); }
  AccessRun(const AccessRun&) = delete;
  AccessRun& operator=(const AccessRun&) = delete;

  std::atomic<const KeyEntry*>& remote() const { return slot_->remote; }
  std::atomic<const KeyEntry*>& local() const { return slot_->local; }
  void announceMessage() const {
    if (!slot_->arriving.load(std::memory_order_relaxed)) slot_->arriving.store(true, std::memory_order_seq_cst);
  }
  // An access of so many bytes is over.
  void count(uint64_t bytes) {
    if (++accesses_ == MOST || bytes > LONG) end();
  }
  void end() {
    accesses_ = 0;
    if (slot_ == nullptr) return;
    slot_->remote.store(nullptr, std::memory_order_release);
    slot_->local.store(nullptr, std::memory_order_release);
    slot_->arriving.store(false, std::memory_order_release);
    slot_->countOver();
  }

 private:
  static constexpr uint32_t MOST = 32;
  static constexpr uint64_t LONG = 4096;
  HazardSlot* const slot_;
  uint32_t accesses_ = 0;
};

// Wait until no access under way now is under way any more. Who changes first what accessors look at once more after they
// published their hazard, waits for all who saw it as it was.
void waitForAccesses();

// The calling thread's slot; nullptr if too many threads have one.
HazardSlot* threadHazardSlot();

// The right to be the source of a local buffer: every region grants it, no window does. Beside the flags of access.
constexpr uint32_t LOCAL_READ = access::ALL + 1;

class KeyTable {
 public:
  KeyTable(uint32_t maxRegions, uint32_t maxWindows);
  ~KeyTable();
  KeyTable(const KeyTable&) = delete;
  KeyTable& operator=(const KeyTable&) = delete;

  // Both keys of a new region.
  uint32_t addRegion(const RegionRecord& region, uint32_t pd);
  // A new region with this key, or a new window at this place, as another process's table has it. Such a table is used
  // with these calls only. Throws if the place is taken or beyond MAX_LINK_KEYS.
  void addRegionAt(uint32_t key, const RegionRecord& region, uint32_t pd);
  void addWindowAt(uint32_t keyBase, uint32_t pd);
  // Throws Busy while windows are bound to it.
  void removeRegion(uint32_t pd, uint32_t key);
  // The index of a new, unbound window, shifted.
  uint32_t addWindow(uint32_t pd);
  void removeWindow(uint32_t pd, uint32_t keyBase);

  // Work requests on windows, one after the other, under one lock and with one wait for accesses at the end. What ends
  // keys waits for hazards, so this thread must have published none.
  class WindowRun {
   public:
    explicit WindowRun(KeyTable& table) : table_(table) {}
    ~WindowRun() { end(); }
    WindowRun(const WindowRun&) = delete;
    WindowRun& operator=(const WindowRun&) = delete;

    bool bind(uint32_t pd, uint32_t rkey, uint32_t regionKey, uint64_t start, uint64_t length, uint32_t access);
    bool invalidate(uint32_t pd, uint32_t rkey);
    // When this has returned the keys that were ended are. Nobody may hear of it before.
    void end() {
      if (begun_) finish();
    }

   private:
    friend class KeyTable;
    static constexpr uint32_t MOST = 32;
    void begin();
    void finish();
    void kill(KeyEntry& entry);
    void unbind(KeyEntry& window);
    // Wait for the accesses under the keys that were killed.
    void settle();
    bool isUnsettled(const KeyEntry* entry) const;

    KeyTable& table_;
    bool begun_ = false;
    uint32_t requests_ = 0;
    uint32_t killedCount_ = 0;
    const KeyEntry* killed_[MOST];
  };
  // A run of one.
  bool bind(uint32_t pd, uint32_t rkey, uint32_t regionKey, uint64_t start, uint64_t length, uint32_t access) {
    return WindowRun(*this).bind(pd, rkey, regionKey, start, length, access);
  }
  bool invalidate(uint32_t pd, uint32_t rkey) { return WindowRun(*this).invalidate(pd, rkey); }

  // Whether the key's index is a region's or a window's of this domain; the tag may be an old one.
  bool isOf(uint32_t pd, uint32_t key);

  // Begin to bring what a later access will need into the cache. Only a hint: it touches nothing and grants nothing.
  void prefetch(uint32_t key, uint64_t address, uint32_t length) const {
    const KeyEntry* entry = find(key >> KEY_TAG_BITS);
    if (entry == nullptr) return;
    const uintptr_t target = reinterpret_cast<uintptr_t>(entry->base.load(std::memory_order_relaxed)) +
                             (address - entry->start.load(std::memory_order_relaxed));
    __builtin_prefetch(reinterpret_cast<const void*>(target));
    if (length > 64) __builtin_prefetch(reinterpret_cast<const void*>(target + 64));
  }

  // Where [address, address + length) is, if `key` admits `need` there to `pd`; nullptr else. The memory stays valid
  // until the caller clears the hazard, which it does in any case.
  uint8_t* resolve(std::atomic<const KeyEntry*>& hazard, uint32_t key, uint32_t pd, uint64_t address, uint64_t length,
                   uint32_t need) const {
    const KeyEntry* entry = find(key >> KEY_TAG_BITS);
    if (entry == nullptr) return nullptr;
    if (hazard.load(std::memory_order_relaxed) != entry) hazard.store(entry, std::memory_order_seq_cst);
    if (entry->live.load(std::memory_order_seq_cst) != (KeyEntry::LIVE | key)) return nullptr;
    if (entry->pd != pd || (entry->access & need) != need) return nullptr;
    const uint64_t start = entry->start.load(std::memory_order_relaxed);
    if (address < start || length > entry->length || address - start > entry->length - length) return nullptr;
    return entry->base.load(std::memory_order_relaxed) + (address - start);
  }

 private:
  static constexpr uint32_t CHUNK_BITS = 12;
  static constexpr uint32_t CHUNK = 1 << CHUNK_BITS;

  KeyEntry* find(uint32_t index) const {
    const uint32_t chunk = index >> CHUNK_BITS;
    if (chunk >= MAX_KEYS / CHUNK) return nullptr;
    KeyEntry* entries = chunks_[chunk].load(std::memory_order_acquire);
    return entries == nullptr ? nullptr : entries + (index & (CHUNK - 1));
  }
  uint32_t take(KeyEntry::Kind kind, uint32_t pd);
  void begin(KeyEntry& entry, KeyEntry::Kind kind, uint32_t pd);
  KeyEntry& takeAt(uint32_t index, KeyEntry::Kind kind, uint32_t pd);
  KeyEntry& makeEntry(uint32_t index);
  static void openRegion(KeyEntry& entry, uint32_t key, const RegionRecord& region);
  void give(uint32_t index);

  const uint32_t maxRegions_;
  const uint32_t maxWindows_;
  std::mutex mutex_;
  uint32_t regions_ = 0;
  uint32_t windows_ = 0;
  std::unique_ptr<std::atomic<KeyEntry*>[]> chunks_;
  uint32_t used_ = 1;  // index 0 stays free: key 0 is never valid
  // First in, first out, so that an index rests as long as possible before it is used again.
  std::deque<uint32_t> free_;
};

}  // namespace rnic
