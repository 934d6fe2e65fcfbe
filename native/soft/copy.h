#pragma once

#include <cstdint>

namespace rnic {

// Between memory that others read and write at the same time (`remote`) and a local buffer. Up to SMALL_COPY bytes an
// aligned 8-byte word of the remote side is read or written whole. The two may overlap.
constexpr uint64_t SMALL_COPY = 256;
void copyFromRemote(uint8_t* local, const uint8_t* remote, uint64_t length);
void copyToRemote(uint8_t* remote, const uint8_t* local, uint64_t length);

}  // namespace rnic
