#include "rig.h"

using namespace rig;

namespace {

Cqe entryOf(uint32_t producer, uint64_t count) {
  Cqe entry{};
  entry.qpNum = producer;
  entry.wrId = count;
  return entry;
}

}  // namespace

TEST(a_queue_keeps_the_order_of_each_producer) {
  constexpr int PRODUCERS = 3;
  const uint64_t each = 50000 * check::options().scale;
  const auto cq = newCq(256);
  std::atomic<uint64_t> polled{0};
  std::atomic<uint64_t> claimed{0};
  std::thread consumer([&] {
    Poller poller(cq);
    uint64_t next[PRODUCERS] = {};
    while (polled < PRODUCERS * each) {
      const auto entry = poller.poll();
      if (!entry) {
        std::this_thread::yield();
        continue;
      }
      CHECK(entry->qpNum < PRODUCERS && entry->wrId == next[entry->qpNum]++);
      polled++;
    }
    CHECK(!poller.poll());
  });
  check::parallel(PRODUCERS, [&](int index) {
    for (uint64_t i = 0; i < each; i++) {
      // As pairs do whose owner has no more requests under way than the queue has room for.
      while (claimed++ - polled >= 250) {
        claimed--;
        std::this_thread::yield();
      }
      CHECK(cq->push(entryOf(index, i)));
    }
  });
  consumer.join();
}

TEST(a_queue_that_overflows_is_broken_and_keeps_what_it_has) {
  const auto cq = newCq(8);
  Poller poller(cq);
  std::atomic<int> taken{0};
  check::parallel(3, [&](int index) {
    for (int i = 0; i < 8; i++) {
      if (cq->push(entryOf(index, i))) taken++;
    }
  });
  CHECK(taken == 8);
  CHECK(poller.drain() == 8);
  CHECK(!cq->push(entryOf(0, 0)));
}

TEST(a_pair_whose_queue_overflows_fails) {
  Side client;
  Side node;
  Pair one(client.pd, 16, 4);
  Pair other(node.pd, 16, 4);
  QueuePair::connect(one.qp, other.qp);
  for (int i = 0; i < 6; i++) {
    Wqe wqe = write(client.key, 0, 8, node.key, 8 * i);
    wqe.sendFlags = send_flag::SIGNALED;
    one.post(wqe);
  }
  for (int i = 0; i < 8; i++) client.word(0) = 1;
  one.qp->doorbell();
  CHECK(one.qp->state() == QpState::ERR && other.qp->state() == QpState::RTS);
  CHECK(one.sends.drain() == 4);
  // The fifth was executed, its completion found no room; the sixth was not.
  CHECK(node.word(32) == 1 && node.word(40) == 0);

  for (int i = 0; i < 5; i++) other.postRecv(i, node.key, 0, 8);
  Pair sender(client.pd);
  const auto again = std::make_unique<Pair>(node.pd, 16, 4);
  QueuePair::connect(sender.qp, again->qp);
  for (int i = 0; i < 5; i++) again->postRecv(i, node.key, 0, 8);
  for (int i = 0; i < 5; i++) CHECK(sender.run(send(client.key, 0, 8)) == WcStatus::SUCCESS);
  CHECK(again->qp->state() == QpState::ERR);
  CHECK(again->receives.drain() == 4);
}

static void armedQueueWakes(bool shared) {
  const auto channel = std::make_shared<Channel>(shared);
  const auto cq = newCq(64, channel);
  const uint64_t count = 20000 * check::options().scale;
  std::atomic<uint64_t> polled{0};
  std::thread consumer([&] {
    Poller poller(cq);
    const auto take = [&] {
      const bool any = poller.poll().has_value();
      if (any) polled++;
      return any;
    };
    while (polled < count) {
      if (take()) continue;
      cq->ring.nicCounter().store(1, std::memory_order_seq_cst);
      if (take()) continue;
      // Nothing of what is timed here is expected to come near this.
      CHECK(channel->wait(20e9));
    }
  });
  auto random = check::random(300);
  for (uint64_t i = 0; i < count; i++) {
    while (i - polled >= 1 + random() % 4) std::this_thread::yield();
    CHECK(cq->push(entryOf(1, i)));
  }
  consumer.join();
}

TEST(an_armed_queue_always_wakes) { armedQueueWakes(false); }
TEST(an_armed_queue_with_a_shared_channel_always_wakes) { armedQueueWakes(true); }

TEST(a_full_channel_takes_more_signals) {
  for (const bool shared : {false, true}) {
    Channel channel(shared);
    for (int i = 0; i < 100000; i++) channel.signal();
    CHECK(channel.wait(0));
    CHECK(!channel.wait(0));
    channel.signal();
    CHECK(channel.wait(20e9));
  }
}
