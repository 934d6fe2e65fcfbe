#pragma once

#include <cstddef>
#include <cstdint>

namespace rnic {

// Anonymous pages, zero-filled. Regions, rings and the ArrayBuffers over them share it and unmap it when all are gone.
class HostMemory {
 public:
  explicit HostMemory(size_t bytes);
  ~HostMemory();
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  uint8_t* data_;
  size_t bytes_;
};

}  // namespace rnic
