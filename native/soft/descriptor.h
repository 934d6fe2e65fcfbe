// File descriptors and who closes them.
#pragma once

#include <cstdint>
#include <memory>

namespace rnic {

// A descriptor that is closed unless it is taken.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  // Of a file that another process made, has the other end of, or can put other descriptors into. Closing it may take as
  // long as that process likes (a file system of its own, a socket that lingers), so another thread does it.
  static Descriptor foreign(int fd);
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_), foreign_(other.foreign_) { other.fd_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor() { close(); }

  // It has turned out to be harmless.
  void noLongerForeign();

  int get() const { return fd_; }
  bool has() const { return fd_ >= 0; }
  bool isForeign() const { return has() && foreign_; }

  // Foreign ones that are open, with those that wait to be closed, may be half of what the process may have open: whether
  // there may be one more.
  static bool roomForForeign();

 private:
  void close();

  int fd_ = -1;
  bool foreign_ = false;
};

}  // namespace rnic
