// Clients that connect and go, a listener that accepts, rejects and closes, all at once.
#include "rig.h"

using namespace rig;

TEST(requests_meet_accepts_rejects_and_closes) {
  const auto nodeChannel = std::make_shared<Channel>(false);
  Side node;
  const uint64_t rounds = 1500 * check::options().scale;
  std::atomic<int> clients{2};
  std::mutex listenerMutex;
  std::shared_ptr<Listener> listener = Listener::open(nodeChannel);
  const auto current = [&] {
    std::lock_guard<std::mutex> lock(listenerMutex);
    return listener;
  };
  std::atomic<uint64_t> established{0};
  std::atomic<uint64_t> disconnections{0};

  std::thread server([&] {
    auto random = check::random(500);
    std::vector<std::pair<std::shared_ptr<Connection>, std::unique_ptr<Pair>>> accepted;
    while (clients > 0) {
      nodeChannel->wait(1e6);
      while (const auto connection = current()->nextConnection()) {
        if (random() % 4 == 0) {
          connection->reject();
          continue;
        }
        auto pair = std::make_unique<Pair>(node.pd);
        try {
          connection->accept({pair->qp});
        } catch (const VerbsError& error) {
          CHECK(error.kind == VerbsError::Kind::Closed);
          continue;
        }
        accepted.emplace_back(connection, std::move(pair));
      }
      while (const auto gone = current()->nextDisconnection()) {
        CHECK(gone->state() == Connection::State::Closed);
        disconnections++;
      }
      // Those that their clients have closed are among them: a device has no end of pairs.
      while (!accepted.empty() && (accepted.size() > 1000 || random() % 8 == 0)) {
        accepted.back().first->close(Connection::Side::Listener);
        accepted.pop_back();
      }
      if (random() % 64 == 0) {
        std::lock_guard<std::mutex> lock(listenerMutex);
        listener->close();
        listener = Listener::open(nodeChannel);
      }
    }
    for (const auto& [connection, pair] : accepted) connection->close(Connection::Side::Listener);
  });

  check::parallel(2, [&](int index) {
    auto random = check::random(501 + index);
    Side side;
    const auto channel = std::make_shared<Channel>(false);
    for (uint64_t round = 0; round < rounds; round++) {
      Pair pair(side.pd);
      std::shared_ptr<Connection> connection;
      try {
        connection = Connection::request(current()->address, {pair.qp}, channel);
      } catch (const VerbsError& error) {
        CHECK(error.kind == VerbsError::Kind::NoListener);
        continue;
      }
      if (random() % 4 == 0) {
        connection->close(Connection::Side::Client);
        continue;
      }
      // An answer comes in any case, if only that the listener has closed.
      while (connection->state() == Connection::State::Connecting) CHECK(channel->wait(20e9));
      if (connection->state() == Connection::State::Established) {
        const WcStatus status = pair.run(write(side.key, 0, 64, node.key, 0));
        if (status == WcStatus::SUCCESS) established++;
      }
      connection->close(Connection::Side::Client);
    }
    clients--;
  });
  server.join();
  current()->close();
  CHECK(established > 0 && disconnections > 0);
}

TEST(a_rejected_pair_can_ask_again) {
  const auto channel = std::make_shared<Channel>(false);
  const auto listener = Listener::open(channel);
  Side side;
  Pair pair(side.pd);
  Pair other(side.pd);
  Connection::request(listener->address, {pair.qp}, channel);
  CHECK_REFUSED(Type, Connection::request(listener->address, {pair.qp}, channel));
  listener->nextConnection()->reject();
  const auto again = Connection::request(listener->address, {pair.qp}, channel);
  CHECK_REFUSED(Range, listener->nextConnection()->accept({}));
  again->accept({other.qp});
  CHECK(again->state() == Connection::State::Established);
  again->close(Connection::Side::Client);
  listener->close();
  CHECK_REFUSED(NoListener, Connection::request(listener->address, {}, channel));
}
