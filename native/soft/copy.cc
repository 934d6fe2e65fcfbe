#include "copy.h"

#include <cstring>

#if defined(__SANITIZE_THREAD__)
#define RNIC_WORDS_ONLY true
#else
#define RNIC_WORDS_ONLY false
#endif

namespace rnic {

namespace {

template <typename T>
void readOne(uint8_t*& local, const uint8_t*& remote, uint64_t& length) {
  const T value = __atomic_load_n(reinterpret_cast<const T*>(remote), __ATOMIC_RELAXED);
  std::memcpy(local, &value, sizeof value);
  local += sizeof value;
  remote += sizeof value;
  length -= sizeof value;
}

template <typename T>
void writeOne(uint8_t*& remote, const uint8_t*& local, uint64_t& length) {
  T value;
  std::memcpy(&value, local, sizeof value);
  __atomic_store_n(reinterpret_cast<T*>(remote), value, __ATOMIC_RELAXED);
  local += sizeof value;
  remote += sizeof value;
  length -= sizeof value;
}

bool misaligned(const uint8_t* pointer) { return (reinterpret_cast<uintptr_t>(pointer) & 7) != 0; }

}  // namespace

void copyFromRemote(uint8_t* local, const uint8_t* remote, uint64_t length) {
  if (!RNIC_WORDS_ONLY && length > SMALL_COPY) {
    std::memmove(local, remote, length);
    return;
  }
  while (length > 0 && misaligned(remote)) readOne<uint8_t>(local, remote, length);
  while (length >= 8) readOne<uint64_t>(local, remote, length);
  while (length > 0) readOne<uint8_t>(local, remote, length);
}

void copyToRemote(uint8_t* remote, const uint8_t* local, uint64_t length) {
  if (!RNIC_WORDS_ONLY && length > SMALL_COPY) {
    std::memmove(remote, local, length);
    return;
  }
  while (length > 0 && misaligned(remote)) writeOne<uint8_t>(remote, local, length);
  while (length >= 8) writeOne<uint64_t>(remote, local, length);
  while (length > 0) writeOne<uint8_t>(remote, local, length);
}

}  // namespace rnic
