#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace rnic {

constexpr size_t MAX_NUMA_NODES = 1024;

// Where the pages of memory come from.
struct PageOptions {
  // Of the system's pool of huge pages of this size; 0: ordinary pages, joined to larger ones where the kernel can.
  size_t hugePageBytes = 0;
  // Of this NUMA node only; negative: of any.
  int numaNode = -1;
};

// Pages of memory. Regions, rings and the ArrayBuffers over them share it and unmap it when all are gone.
class HostMemory {
 public:
  // Anonymous and zero-filled. Throws VerbsError::Limit if there are no such pages.
  explicit HostMemory(size_t bytes, const PageOptions& options = {});
  ~HostMemory();
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  // Zero-filled, in a file without a name that can be passed to another process and never changes its size.
  static std::shared_ptr<HostMemory> shared(size_t bytes);
  // Part of a file that another process made with shared(). Throws if touching it could ever fault: not memory, not sealed
  // against shrinking, too short. Throws, too, when the process has as many of them as it can spare mappings for. The
  // descriptor stays the caller's.
  static std::shared_ptr<HostMemory> foreign(int fd, uint64_t offset, uint64_t bytes);

  // A number by which the process's other threads find it for as long as somebody has it. Once per memory.
  static uint32_t publish(const std::shared_ptr<HostMemory>& memory);
  // Throws if nobody has it any more.
  static std::shared_ptr<HostMemory> published(uint32_t number);

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  // -1 if it can't be shared.
  int fd() const { return fd_; }

 private:
  HostMemory(uint8_t* data, size_t bytes) : data_(data), bytes_(bytes), mappedBytes_(bytes) {}

  uint8_t* data_;
  size_t bytes_;
  size_t mappedBytes_;  // from data_ on, in whole pages
  size_t before_ = 0;  // mapped bytes before data_, as mappings begin at a page
  int fd_ = -1;
  bool foreign_ = false;
};

}  // namespace rnic
