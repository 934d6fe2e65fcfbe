// Descriptors of hostile clients: ones that take for ever to close, and more than the process may have.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>

#include "../../../native/soft/shm/engine.h"
#include "hostile_node.h"

using namespace rig;

namespace {

// A TCP connection whose end `lingering` keeps whoever closes it last until the other end is gone.
struct Lingering {
  Lingering() {
    const Descriptor listening(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    CHECK(bind(listening.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(listening.get(), 1) == 0);
    CHECK(getsockname(listening.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    lingering = Descriptor(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    CHECK(connect(lingering.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    other = Descriptor(accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const linger option{1, 600};
    CHECK(setsockopt(lingering.get(), SOL_SOCKET, SO_LINGER, &option, sizeof option) == 0);
    const std::vector<char> bytes(1 << 16);
    while (send(lingering.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
    }
  }

  Descriptor lingering;
  Descriptor other;
};

}  // namespace

// As a channel, as memory, as one of too many, in the queue of a channel, and in a message that the node never looks at. The
// client has closed its own, so the node has the last. Nothing here returns before the time is over if it closes them itself.
TEST(descriptors_that_take_for_ever_to_close_keep_nobody_waiting) {
  const int before = resources().descriptors;
  {
    const auto listener = Listener::open(std::make_shared<Channel>(false));
    const auto engine = Engine::start();
    std::vector<Descriptor> others;
    for (int way = 0; way < 5; way++) {
      int ends[2];
      CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
      const Descriptor client(ends[0]);
      auto socket = std::make_shared<ControlSocket>(Descriptor::foreign(ends[1]));
      const auto served = std::make_shared<ServedClient>(std::move(socket), ucred{}, listener, engine);
      Lingering tcp;
      const int fd = tcp.lingering.get();
      const auto say = [&](ControlType type, std::initializer_list<int> fds) {
        ControlMessage message{type, 5, {type == ControlType::HELLO ? CONTROL_VERSION : 0, 16, 0}, {}};
        CHECK(sendWith(client.get(), &message, sizeof message, fds));
      };
      say(ControlType::HELLO, {});
      if (way == 0) say(ControlType::ADD_CHANNEL, {fd});
      if (way == 1) say(ControlType::ADD_CQ, {fd});
      if (way == 2) say(ControlType::ADD_CHANNEL, {fd, fd, fd, fd});
      if (way == 3) {
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        const Descriptor inner(ends[0]);
        const Descriptor outer(ends[1]);
        CHECK(sendWith(inner.get(), "", 1, {fd}));
        say(ControlType::ADD_CHANNEL, {outer.get()});
      }
      say(ControlType::DISCONNECT, {});
      if (way == 4) say(ControlType::ADD_CHANNEL, {fd});
      others.push_back(std::move(tcp.other));
      tcp.lingering = Descriptor();
      CHECK(!served->takeMessages());
      served->drop();
    }
    listener->close();
    engine->stop();
  }
  for (int i = 0; i < 2000 && resources().descriptors > before; i++) sleepMs(10);
  CHECK(resources().descriptors <= before);
}

TEST(clients_leave_the_node_half_of_its_descriptors) {
  besideAnHonestClient([](Node& node) {
    rlimit limit{};
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    const rlimit before = limit;
    limit.rlim_cur = 512;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    {
      std::vector<std::unique_ptr<HostilePeer>> peers;
      constexpr uint32_t LIMIT = 1 + static_cast<uint32_t>(VerbsError::Kind::Limit);
      std::optional<uint32_t> reply = 0u;
      while (reply == 0u) {
        peers.push_back(std::make_unique<HostilePeer>(node.path));
        HostilePeer& peer = *peers.back();
        CHECK(peer.shake(0));
        for (uint32_t id = 0; id < 60 && reply == 0u; id++) {
          reply = peer.ask({ControlType::ADD_CHANNEL, id, {}, {}}, {peer.channel()});
        }
      }
      CHECK(reply == LIMIT);
      // Its link has ended with it.
      CHECK(!peers.back()->hear());
      CHECK(resources().descriptors < 512);
    }
    // What they had comes back.
    for (;;) {
      HostilePeer peer(node.path);
      if (peer.connect()) break;
      sleepMs(1);
    }
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
  });
}
