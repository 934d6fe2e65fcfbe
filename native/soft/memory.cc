#include "memory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "error.h"

namespace rnic {

namespace {
constexpr size_t HUGE_PAGE = size_t{2} << 20;
constexpr uint64_t PAGE = 4096;
// Of the kernel's interface; older headers lack them.
constexpr int HUGE_PAGE_SHIFT = 26;
constexpr int POPULATE_WRITE = 23;
constexpr int MPOL_BIND = 2;
// Linux lets a process have 65,530 mappings unless told otherwise; without one malloc() fails too.
constexpr uint32_t MAX_FOREIGN = 16384;
std::atomic<uint32_t> foreignMappings{0};
std::mutex publishedMutex;
std::map<uint32_t, std::weak_ptr<HostMemory>> publishedMemory;
uint32_t nextPublished = 1;
constexpr int SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

[[noreturn]] void noMemory(size_t bytes) {
  throw VerbsError(VerbsError::Kind::Limit, "no " + std::to_string(bytes) + " bytes of memory: " + std::strerror(errno));
}

[[noreturn]] void noHugePages(size_t bytes, size_t page, int error) {
  throw VerbsError(VerbsError::Kind::Limit, "no huge pages of " + std::to_string(page >> 20) + " MiB for " +
                                                std::to_string(bytes) + " bytes: the system's pool of them is too small (" +
                                                std::strerror(error) + ")");
}

// The pages of a range that nobody has touched yet come from this node and no other.
void bindToNode(void* start, size_t bytes, int node) {
  constexpr size_t WORD_BITS = 8 * sizeof(unsigned long);
  unsigned long mask[MAX_NUMA_NODES / WORD_BITS] = {};
  mask[static_cast<size_t>(node) / WORD_BITS] = 1UL << (static_cast<size_t>(node) % WORD_BITS);
  // The kernel takes one bit less than it is told.
  if (syscall(SYS_mbind, start, bytes, MPOL_BIND, mask, MAX_NUMA_NODES + 1, 0) == 0) return;
  throw VerbsError(VerbsError::Kind::Limit, "memory can't be bound to NUMA node " + std::to_string(node) + ": " +
                                                (errno == EINVAL ? "there is no such node" : std::strerror(errno)));
}

// The pool may have pages, and this node, or this control group, none: then the first touch would be fatal.
void takeHugePages(void* start, size_t bytes, size_t page) {
  if (madvise(start, bytes, POPULATE_WRITE) == 0) return;
  // Linux before 5.14 does not know how to take them in advance.
  if (errno != EINVAL) noHugePages(bytes, page, errno);
}
}  // namespace

HostMemory::HostMemory(size_t bytes, const PageOptions& options) : bytes_(bytes), mappedBytes_(bytes) {
  if (bytes == 0) throw VerbsError(VerbsError::Kind::Range, "memory must have at least one byte");
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  const size_t page = options.hugePageBytes;
  if (page == 0) {
    flags |= MAP_NORESERVE;
  } else {
    // Without MAP_NORESERVE: that the pool has pages enough is settled now, not at the first touch by a signal.
    flags |= MAP_HUGETLB | __builtin_ctzll(page) << HUGE_PAGE_SHIFT;
    mappedBytes_ = (bytes + page - 1) / page * page;
  }
  void* mapped = mmap(nullptr, mappedBytes_, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (mapped == MAP_FAILED && page != 0) noHugePages(bytes, page, errno);
  if (mapped == MAP_FAILED) noMemory(bytes);
  data_ = static_cast<uint8_t*>(mapped);
  try {
    if (options.numaNode >= 0) bindToNode(mapped, mappedBytes_, options.numaNode);
    if (page != 0) takeHugePages(mapped, mappedBytes_, page);
  } catch (...) {
    munmap(mapped, mappedBytes_);
    throw;
  }
  // Random access to much memory on 4 KiB pages is one TLB miss after another. Where the kernel can't, nothing is lost.
  if (page == 0 && bytes >= HUGE_PAGE) madvise(mapped, bytes, MADV_HUGEPAGE);
}

std::shared_ptr<HostMemory> HostMemory::shared(size_t bytes) {
  if (bytes == 0) throw VerbsError(VerbsError::Kind::Range, "memory must have at least one byte");
  const int fd = memfd_create("patronus", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw VerbsError(VerbsError::Kind::Limit, std::string("no memory to share: ") + std::strerror(errno));
  void* mapped = MAP_FAILED;
  if (ftruncate(fd, static_cast<off_t>(bytes)) == 0 && fcntl(fd, F_ADD_SEALS, SEALS) == 0) {
    mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  }
  if (mapped == MAP_FAILED) {
    close(fd);
    noMemory(bytes);
  }
  std::shared_ptr<HostMemory> memory(new HostMemory(static_cast<uint8_t*>(mapped), bytes));
  memory->fd_ = fd;
  return memory;
}

std::shared_ptr<HostMemory> HostMemory::foreign(int fd, uint64_t offset, uint64_t bytes) {
  struct stat status;
  struct statfs system;
  // First what only memory files have: to ask about another file may mean to ask another process, which need not answer.
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    throw VerbsError(VerbsError::Kind::Type, "the descriptor is not shared memory that is sealed against shrinking");
  }
  // On tmpfs a page is there as soon as it is touched; on hugetlbfs it may not be, and then the toucher dies.
  if (fstatfs(fd, &system) != 0 || system.f_type != TMPFS_MAGIC || fstat(fd, &status) != 0 ||
      !S_ISREG(status.st_mode)) {
    throw VerbsError(VerbsError::Kind::Type, "the descriptor is not shared memory");
  }
  const auto size = static_cast<uint64_t>(status.st_size);
  if (bytes == 0 || offset > size || bytes > size - offset) {
    throw VerbsError(VerbsError::Kind::Range, "the shared memory is shorter than said");
  }
  if (foreignMappings.fetch_add(1) >= MAX_FOREIGN) {
    foreignMappings--;
    throw VerbsError(VerbsError::Kind::Limit, "the process has mapped as much foreign memory as it can");
  }
  const uint64_t before = offset % PAGE;
  void* mapped = mmap(nullptr, before + bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
                      static_cast<off_t>(offset - before));
  if (mapped == MAP_FAILED) {
    foreignMappings--;
    throw VerbsError(VerbsError::Kind::Limit, std::string("the memory can't be mapped: ") + std::strerror(errno));
  }
  // A child of this process has no business with it, and dumps of this process need not hold it.
  madvise(mapped, before + bytes, MADV_DONTFORK);
  std::shared_ptr<HostMemory> memory(new HostMemory(static_cast<uint8_t*>(mapped) + before, bytes));
  memory->before_ = before;
  memory->foreign_ = true;
  return memory;
}

HostMemory::~HostMemory() {
  munmap(data_ - before_, before_ + mappedBytes_);
  if (fd_ >= 0) close(fd_);
  if (foreign_) foreignMappings--;
}

uint32_t HostMemory::publish(const std::shared_ptr<HostMemory>& memory) {
  std::lock_guard<std::mutex> lock(publishedMutex);
  for (auto entry = publishedMemory.begin(); entry != publishedMemory.end();) {
    entry = entry->second.expired() ? publishedMemory.erase(entry) : std::next(entry);
  }
  publishedMemory[nextPublished] = memory;
  return nextPublished++;
}

std::shared_ptr<HostMemory> HostMemory::published(uint32_t number) {
  std::lock_guard<std::mutex> lock(publishedMutex);
  const auto found = publishedMemory.find(number);
  auto memory = found == publishedMemory.end() ? nullptr : found->second.lock();
  if (memory == nullptr) throw VerbsError(VerbsError::Kind::Closed, "nobody has the memory any more");
  return memory;
}

}  // namespace rnic
