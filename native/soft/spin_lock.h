#pragma once

#include <sched.h>

#include <atomic>

namespace rnic {

inline void cpuRelax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins a while, then lets others run: the holder may be waiting for this very core.
class Backoff {
 public:
  void pause() {
    if (++spins_ < 64) {
      cpuRelax();
    } else {
      sched_yield();
    }
  }

 private:
  int spins_ = 0;
};

// For critical sections of some instructions.
class SpinLock {
 public:
  void lock() {
    Backoff backoff;
    while (locked_.exchange(true, std::memory_order_acquire)) backoff.pause();
  }
  void unlock() { locked_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> locked_{false};
};

}  // namespace rnic
