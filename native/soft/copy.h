#pragma once

#include <cstdint>
#include <cstring>

namespace rnic {

// Between memory that others read and write at the same time (`remote`) and a local buffer. Up to SMALL_COPY bytes an
// aligned 8-byte word of the remote side is read or written whole. The two may overlap.
constexpr uint64_t SMALL_COPY = 256;

// In one piece; the thread sanitizer would take it for a race.
#if defined(__SANITIZE_THREAD__)
constexpr uint64_t WORDWISE_COPY = UINT64_MAX;
#else
constexpr uint64_t WORDWISE_COPY = SMALL_COPY;
#endif

namespace copying {

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

inline bool misaligned(const uint8_t* pointer) { return (reinterpret_cast<uintptr_t>(pointer) & 7) != 0; }

}  // namespace copying

inline void copyFromRemote(uint8_t* local, const uint8_t* remote, uint64_t length) {
  if (length > WORDWISE_COPY) {
    std::memmove(local, remote, length);
    return;
  }
  while (length > 0 && copying::misaligned(remote)) copying::readOne<uint8_t>(local, remote, length);
  while (length >= 8) copying::readOne<uint64_t>(local, remote, length);
  while (length > 0) copying::readOne<uint8_t>(local, remote, length);
}

inline void copyToRemote(uint8_t* remote, const uint8_t* local, uint64_t length) {
  if (length > WORDWISE_COPY) {
    std::memmove(remote, local, length);
    return;
  }
  while (length > 0 && copying::misaligned(remote)) copying::writeOne<uint8_t>(remote, local, length);
  while (length >= 8) copying::writeOne<uint64_t>(remote, local, length);
  while (length > 0) copying::writeOne<uint8_t>(remote, local, length);
}

}  // namespace rnic
