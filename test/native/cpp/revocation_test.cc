// Revocation is final: threads write through a window as fast as they can while its key ends again and again. What they
// write says under which binding; from the completion of the revocation on, nothing of an ended binding may appear.
#include <atomic>

#include "rig.h"

using namespace rig;

namespace {

constexpr int WRITERS = 3;
constexpr uint64_t RANGE_BYTES = 16384 + 4096;  // longer than what is copied under one look at the key
constexpr uint64_t COPIED_BYTES = RANGE_BYTES / 10;
constexpr int RANGES = 3;
constexpr uint64_t FREE = UINT64_MAX;  // in words that no live binding has written
constexpr int BINDS_PER_WINDOW = 250;

// The thread sanitizer looks at each access that it is told of, which takes it as long as some copies. So it is told of no
// more than it needs to judge every transfer by: these look at all words behind its back.
__attribute__((no_sanitize("thread"))) void fill(uint64_t* words, uint64_t count, uint64_t value) {
  for (uint64_t i = 0; i < count; i++) __atomic_store_n(words + i, value, __ATOMIC_RELAXED);
}

// The first word that is neither of the two; `count` if there is none. Words that are `taken` become FREE.
__attribute__((no_sanitize("thread"))) uint64_t takeWords(uint64_t* words, uint64_t count, uint64_t taken) {
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t found = __atomic_load_n(words + i, __ATOMIC_RELAXED);
    if (found == FREE) continue;
    if (found != taken) return i;
    __atomic_store_n(words + i, FREE, __ATOMIC_RELAXED);
  }
  return count;
}

__attribute__((no_sanitize("thread"))) bool equal(uint64_t* words, uint64_t* others, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    if (__atomic_load_n(words + i, __ATOMIC_RELAXED) != __atomic_load_n(others + i, __ATOMIC_RELAXED)) return false;
  }
  return true;
}

struct Binding {
  std::atomic<uint64_t> number{0};
  std::atomic<uint32_t> rkey{0};
  std::atomic<uint64_t> start{0};
};

class Arena {
 public:
  Arena() : node_(RANGES * RANGE_BYTES), peer_(RANGE_BYTES), link_(peer_, node_), other_(node_.pd->addWindow()) {
    for (uint64_t at = 0; at < RANGES * RANGE_BYTES; at += 8) node_.word(at) = FREE;
  }

  void run(uint64_t revocations) {
    std::vector<std::thread> writers;
    for (int i = 0; i < WRITERS; i++) writers.emplace_back([this, i] { hammer(i); });
    revoke(revocations);
    stop_ = true;
    for (std::thread& writer : writers) writer.join();
    for (int range = 0; range < RANGES; range++) expectFree(range);
    // How often depends on who gets the cores.
    CHECK(written_ > 0);
    CHECK(refused_ > 0);
  }

 private:
  // Writes the number of the binding through its key until it is refused, then again through the next.
  void hammer(int index) {
    auto random = check::random(100 + index);
    Side side(RANGE_BYTES);
    Link link(side, node_);
    uint64_t written = 0;
    uint64_t refused = 0;
    uint64_t ended = 0;
    while (!stop_) {
      const uint64_t number = binding_.number.load();
      const uint32_t rkey = binding_.rkey.load();
      const uint64_t start = binding_.start.load();
      if (binding_.number.load() != number || number == 0 || number == ended) {
        std::this_thread::yield();
        continue;
      }
      const uint64_t length = 8u << random() % 12;
      const auto bytes = static_cast<uint32_t>(random() % 16 == 0 ? RANGE_BYTES : std::min(length, RANGE_BYTES));
      fill(reinterpret_cast<uint64_t*>(side.bytes()), bytes / 8, number);
      WcStatus status = WcStatus::SUCCESS;
      while (status == WcStatus::SUCCESS && !stop_) {
        status = link.client.run(write(side.key, 0, bytes, rkey, start));
        if (status == WcStatus::SUCCESS) written++;
      }
      if (status == WcStatus::SUCCESS) break;
      CHECK(status == WcStatus::REM_ACCESS_ERR);
      refused++;
      ended = number;
      link.recover();
    }
    written_ += written;
    refused_ += refused;
  }

  // Prints how far it has come: a long run takes minutes.
  void revoke(uint64_t revocations) {
    auto random = check::random(99);
    uint32_t window = 0;
    int binds = BINDS_PER_WINDOW;
    uint64_t revoked = 0;
    uint64_t printed = 0;
    while (revoked < revocations) {
      if (revoked - printed >= 100000) {
        printed = revoked;
        std::printf("   %llu revocations\n", static_cast<unsigned long long>(revoked));
        std::fflush(stdout);
      }
      if (binds == BINDS_PER_WINDOW) {
        if (window != 0) node_.pd->removeWindow(window);
        revoked += ended();
        window = node_.pd->addWindow();
        binds = 0;
      }
      const int range = static_cast<int>(random() % RANGES);
      if (range != live_) expectFree(range);
      const uint32_t rkey = window | static_cast<uint32_t>(++binds);
      // If the window is bound this moves it, maybe to where it is.
      CHECK(link_.node.run(bind(rkey, node_.key, range * RANGE_BYTES, RANGE_BYTES, access::REMOTE_WRITE)) ==
            WcStatus::SUCCESS);
      revoked += ended();
      live_ = range;
      number_++;
      binding_.number = 0;
      binding_.rkey = rkey;
      binding_.start = range * RANGE_BYTES;
      binding_.number = number_;
      await();
      const uint32_t way = random() % 4;
      if (way < 2) continue;
      if (way == 2) CHECK(link_.node.run(invalidate(rkey)) == WcStatus::SUCCESS);
      if (way == 3) invalidateAmongOthers(rkey, range, random() % 2 != 0);
      revoked += ended();
      expectFree(range);
    }
    if (live_ >= 0) node_.pd->removeWindow(window);
    ended();
    node_.pd->removeWindow(other_);
  }

  // In one run of window work, unsignalled; maybe with a bind that can't wait for its end. The requests after it copy the
  // range, from its end, as writers come from its start: nothing may change there any more.
  void invalidateAmongOthers(uint32_t rkey, int range, bool rebind) {
    for (int i = 0; i < (rebind ? 2 : 1); i++) {
      otherTag_++;
      link_.node.post(bind(other_ | otherTag_, node_.key, 0, 8, access::REMOTE_WRITE));
      if (i == 0 && rebind) link_.node.post(invalidate(rkey));
      link_.node.post(invalidate(other_ | otherTag_));
    }
    if (!rebind) link_.node.post(invalidate(rkey));
    for (uint64_t at = RANGE_BYTES - COPIED_BYTES; at > 0; at -= COPIED_BYTES) {
      link_.node.post(write(node_.key, range * RANGE_BYTES + at, COPIED_BYTES, peer_.key, at));
    }
    CHECK(link_.node.run(write(node_.key, range * RANGE_BYTES, COPIED_BYTES, peer_.key, 0)) == WcStatus::SUCCESS);
    CHECK(equal(words(range), reinterpret_cast<uint64_t*>(peer_.bytes()), RANGE_BYTES / 8));
  }

  // Until somebody has written through the binding, or for a while.
  void await() {
    for (int i = 0; i < 2000 && word(live_, 0).load(std::memory_order_relaxed) != number_; i++) cpuRelax();
  }

  // The binding has ended: take away what was written under it. Whether there was one.
  bool ended() {
    if (live_ < 0) return false;
    CHECK(takeWords(words(live_), RANGE_BYTES / 8, number_) == RANGE_BYTES / 8);
    tell(live_);
    live_ = -1;
    return true;
  }

  void expectFree(int range) {
    CHECK(takeWords(words(range), RANGE_BYTES / 8, FREE) == RANGE_BYTES / 8);
    tell(range);
  }

  // Accesses for the thread sanitizer to compare with those of the transfers: every transfer covers one of them, as all
  // begin where the range does.
  void tell(int range) {
    for (uint64_t at = 0; at < RANGE_BYTES; at += at < 256 ? 8 : 512) {
      CHECK(word(range, at).load(std::memory_order_relaxed) == FREE);
    }
  }

  std::atomic<uint64_t>& word(int range, uint64_t at) { return node_.word(range * RANGE_BYTES + at); }
  uint64_t* words(int range) { return reinterpret_cast<uint64_t*>(node_.bytes() + range * RANGE_BYTES); }

  Side node_;
  Side peer_;
  Link link_;
  const uint32_t other_;  // a window that nobody writes through
  uint8_t otherTag_ = 0;
  Binding binding_;
  int live_ = -1;  // range of the live binding
  uint64_t number_ = 0;  // of the youngest binding
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> written_{0};
  std::atomic<uint64_t> refused_{0};
};

}  // namespace

TEST(no_byte_changes_under_an_ended_key) { Arena().run(10000 * check::options().scale); }
