// Aligned 8-byte words of memory that several pairs read and write at once.
#include "rig.h"

using namespace rig;

TEST(aligned_words_never_tear) {
  Side node;
  const uint64_t rounds = 20000 * check::options().scale;
  for (uint64_t at = 0; at < 512; at += 8) node.word(at) = 0;
  check::parallel(4, [&](int index) {
    auto random = check::random(200 + index);
    Side side;
    Link link(side, node);
    for (uint64_t round = 0; round < rounds; round++) {
      const uint64_t half = random() & UINT32_MAX;
      // Not only whole words: the pieces at both ends must leave the words between them whole.
      const uint64_t from = random() % 256;
      const uint32_t length = static_cast<uint32_t>(random() % 257);
      if (index < 2) {
        for (uint64_t at = 0; at < 512; at += 8) side.word(at).store(half << 32 | half, std::memory_order_relaxed);
        const uint64_t aligned = from & ~uint64_t{7};
        CHECK(link.client.run(write(side.key, aligned, length & ~7u, node.key, aligned)) == WcStatus::SUCCESS);
      } else {
        CHECK(link.client.run(read(side.key, from, length, node.key, from)) == WcStatus::SUCCESS);
        for (uint64_t at = (from + 7) & ~uint64_t{7}; at + 8 <= from + length; at += 8) {
          const uint64_t word = side.word(at).load(std::memory_order_relaxed);
          CHECK(word >> 32 == (word & UINT32_MAX));
        }
      }
    }
  });
}

TEST(atomics_of_different_pairs_are_atomic_with_each_other) {
  Side node;
  node.word(8) = 0;
  const uint64_t rounds = 20000 * check::options().scale;
  constexpr int THREADS = 4;
  check::parallel(THREADS, [&](int index) {
    Side side;
    Link link(side, node);
    for (uint64_t round = 0; round < rounds; round++) {
      if (index % 2 == 0) {
        CHECK(link.client.run(faa(side.key, 0, node.key, 8, 1)) == WcStatus::SUCCESS);
        continue;
      }
      uint64_t expected = side.word(0);
      for (;;) {
        CHECK(link.client.run(cas(side.key, 0, node.key, 8, expected, expected + 1)) == WcStatus::SUCCESS);
        if (side.word(0) == expected) break;
        expected = side.word(0);
      }
    }
  });
  CHECK(node.word(8) == THREADS * rounds);
}
