// Revocation is final: threads write through a window as fast as they can while its key ends again and again. What they
// write says under which binding; from the completion of the revocation on, nothing of an ended binding may appear.
#include <atomic>

#include "rig.h"

using namespace rig;

namespace {

constexpr int WRITERS = 3;
constexpr uint64_t RANGE_BYTES = 16384 + 4096;  // longer than what is copied under one look at the key
constexpr int RANGES = 3;
constexpr uint64_t FREE = UINT64_MAX;  // in words that no live binding has written
constexpr int BINDS_PER_WINDOW = 250;

struct Binding {
  std::atomic<uint64_t> number{0};
  std::atomic<uint32_t> rkey{0};
  std::atomic<uint64_t> start{0};
};

class Arena {
 public:
  Arena() : node_(RANGES * RANGE_BYTES), peer_(4096), link_(peer_, node_) {
    for (uint64_t at = 0; at < RANGES * RANGE_BYTES; at += 8) node_.word(at) = FREE;
  }

  void run(uint64_t revocations) {
    std::vector<std::thread> writers;
    for (int i = 0; i < WRITERS; i++) writers.emplace_back([this, i] { hammer(i); });
    revoke(revocations);
    stop_ = true;
    for (std::thread& writer : writers) writer.join();
    for (int range = 0; range < RANGES; range++) expectFree(range);
    CHECK(written_ > revocations / 10);
    CHECK(refused_ > revocations / 10);
  }

 private:
  // Writes the number of the binding through its key until it is refused, then again through the next.
  void hammer(int index) {
    auto random = check::random(100 + index);
    Side side(RANGE_BYTES);
    Link link(side, node_);
    uint64_t written = 0;
    uint64_t refused = 0;
    while (!stop_) {
      const uint64_t number = binding_.number.load();
      const uint32_t rkey = binding_.rkey.load();
      const uint64_t start = binding_.start.load();
      if (binding_.number.load() != number || number == 0) continue;
      const uint64_t length = 8u << random() % 12;
      const uint64_t words = std::min<uint64_t>(length, RANGE_BYTES);
      for (uint64_t at = 0; at < words; at += 8) side.word(at).store(number, std::memory_order_relaxed);
      const uint32_t bytes = static_cast<uint32_t>(random() % 16 == 0 ? RANGE_BYTES : words);
      for (uint64_t at = words; at < bytes; at += 8) side.word(at).store(number, std::memory_order_relaxed);
      WcStatus status = WcStatus::SUCCESS;
      while (status == WcStatus::SUCCESS && !stop_) {
        status = link.client.run(write(side.key, 0, bytes, rkey, start));
        if (status == WcStatus::SUCCESS) written++;
      }
      if (status == WcStatus::SUCCESS) break;
      CHECK(status == WcStatus::REM_ACCESS_ERR);
      refused++;
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
      if (random() % 2 != 0) continue;
      CHECK(link_.node.run(invalidate(rkey)) == WcStatus::SUCCESS);
      revoked += ended();
      expectFree(range);
    }
    if (live_ >= 0) node_.pd->removeWindow(window);
    ended();
  }

  // Until somebody has written through the binding, or for a while.
  void await() {
    for (int i = 0; i < 2000 && word(live_, 0).load(std::memory_order_relaxed) != number_; i++) cpuRelax();
  }

  // The binding has ended: take away what was written under it. Whether there was one.
  bool ended() {
    if (live_ < 0) return false;
    for (uint64_t at = 0; at < RANGE_BYTES; at += 8) {
      const uint64_t found = word(live_, at).load(std::memory_order_relaxed);
      if (found == FREE) continue;
      CHECK(found == number_);
      word(live_, at).store(FREE, std::memory_order_relaxed);
    }
    live_ = -1;
    return true;
  }

  void expectFree(int range) {
    for (uint64_t at = 0; at < RANGE_BYTES; at += 8) CHECK(word(range, at).load(std::memory_order_relaxed) == FREE);
  }

  std::atomic<uint64_t>& word(int range, uint64_t at) { return node_.word(range * RANGE_BYTES + at); }

  Side node_;
  Side peer_;
  Link link_;
  Binding binding_;
  int live_ = -1;  // range of the live binding
  uint64_t number_ = 0;  // of the youngest binding
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> written_{0};
  std::atomic<uint64_t> refused_{0};
};

}  // namespace

TEST(no_byte_changes_under_an_ended_key) { Arena().run(10000 * check::options().scale); }
