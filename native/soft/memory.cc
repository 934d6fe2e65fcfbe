#include "memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "error.h"

namespace rnic {

namespace {
constexpr size_t HUGE_PAGE = size_t{2} << 20;
}

HostMemory::HostMemory(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) throw VerbsError(VerbsError::Kind::Range, "memory must have at least one byte");
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    throw VerbsError(VerbsError::Kind::Limit,
                     "no " + std::to_string(bytes) + " bytes of memory: " + std::strerror(errno));
  }
  data_ = static_cast<uint8_t*>(mapped);
  // Random access to much memory on 4 KiB pages is one TLB miss after another. Where the kernel can't, nothing is lost.
  if (bytes >= HUGE_PAGE) madvise(mapped, bytes, MADV_HUGEPAGE);
}

HostMemory::~HostMemory() { munmap(data_, bytes_); }

}  // namespace rnic
