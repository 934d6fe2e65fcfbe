// Two owners fail, reset and close their pairs while they send to each other, and a third ends the connection.
#include "rig.h"

using namespace rig;

namespace {

constexpr uint64_t LIVES = 4000;

// One end. Its receive buffers carry the number of the life they were posted in: from one RESET to the next.
class End {
 public:
  explicit End(int index) : random_(check::random(400 + index)), pair_(side_.pd, 16, 1024) {}

  Pair& pair() { return pair_; }
  Side& side() { return side_; }

  void live(const Side& other, uint64_t lives) {
    while (life_ < lives) {
      if (random_() % 4 == 0) pair_.qp->modify(QpState::ERR, 0);
      while (!begin()) {
      }
      for (int i = random_() % 12; i > 0; i--) request(other);
      look();
    }
  }

 private:
  // False if the other end has failed the pair before it was ready.
  bool begin() {
    pair_.qp->modify(QpState::RESET, 0);
    pair_.sends.drain();
    pair_.receives.drain();
    life_++;
    pair_.qp->modify(QpState::INIT, access::REMOTE);
    for (int i = 0; i < 8; i++) pair_.postRecv(life_, side_.key, 1024 + 64 * i, 64);
    // Nobody can have a reason to fail it yet.
    pair_.qp->modify(QpState::RTR, access::REMOTE);
    try {
      pair_.qp->modify(QpState::RTS, access::REMOTE);
    } catch (const VerbsError&) {
      CHECK(pair_.qp->state() == QpState::ERR);
      look();
      return false;
    }
    return true;
  }

  void request(const Side& other) {
    const uint64_t which = random_() % 16;
    Wqe wqe = which < 8 ? send(side_.key, 0, 64) : write(side_.key, 0, 64, other.key, 4096);
    if (which == 8) wqe.rkey ^= 1;
    if (which == 9) wqe.length = MEMORY_BYTES + 1;
    wqe.sendFlags = send_flag::SIGNALED;
    wqe.wrId = life_;
    if (pair_.qp->state() == QpState::ERR) return;
    pair_.post(wqe);
    pair_.qp->doorbell();
    const auto done = pair_.sends.poll();
    CHECK(done && done->wrId == life_);
    look();
  }

  // Every completion belongs to this life, and buffers are flushed only if the pair has failed in it.
  void look() {
    while (const auto done = pair_.receives.poll()) {
      CHECK(done->wrId == life_);
      if (done->status == WcStatus::WR_FLUSH_ERR) CHECK(pair_.qp->state() == QpState::ERR);
    }
  }

  std::mt19937_64 random_;
  Side side_;
  Pair pair_;
  uint64_t life_ = 0;
};

}  // namespace

TEST(a_reset_leaves_nothing_of_the_life_before) {
  End one(0);
  End other(1);
  QueuePair::connect(one.pair().qp, other.pair().qp);
  const uint64_t lives = LIVES * check::options().scale;
  check::parallel(2, [&](int index) { index == 0 ? one.live(other.side(), lives) : other.live(one.side(), lives); });
}

TEST(a_connection_ends_from_both_sides_at_once) {
  const auto channel = std::make_shared<Channel>(false);
  const auto listener = Listener::open(channel);
  Side client;
  Side node;
  const uint64_t rounds = 300 * check::options().scale;
  for (uint64_t round = 0; round < rounds; round++) {
    Pair clientPair(client.pd);
    auto nodePair = std::make_unique<Pair>(node.pd);
    for (int i = 0; i < 8; i++) nodePair->postRecv(i, node.key, 0, 64);
    const auto connection = Connection::request(listener->address, {clientPair.qp}, channel);
    const auto accepted = listener->nextConnection();
    CHECK(accepted == connection);
    accepted->accept({nodePair->qp});
    check::parallel(3, [&](int index) {
      auto random = check::random(round * 3 + index);
      if (index == 0) {
        for (int i = random() % 64; i > 0; i--) clientPair.run(send(client.key, 64, 8));
        connection->close(Connection::Side::Client);
      } else if (index == 1) {
        for (int i = random() % 64; i > 0; i--) nodePair->run(write(node.key, 1024, 8, client.key, 0));
        if (random() % 2 == 0) nodePair->qp->close();
      } else {
        for (int i = random() % 64; i > 0; i--) std::this_thread::yield();
        connection->close(Connection::Side::Listener);
      }
    });
    CHECK(connection->state() == Connection::State::Closed);
    CHECK(clientPair.qp->state() == QpState::ERR && nodePair->qp->state() == QpState::ERR);
    CHECK(nodePair->receives.drain() == 8);
    while (listener->nextDisconnection() != nullptr) {
    }
  }
  listener->close();
}
