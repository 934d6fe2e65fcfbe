// What a client of another process says and passes: messages, descriptors and rings with anything in them, in any order,
// against the node's side of the link. After each input the node's memory outside of the window of write access is as it
// was, and no descriptor is left open.
#include <dirent.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "../../../native/soft/connection.h"
#include "../../../native/soft/shm/engine.h"
#include "script.h"

using namespace rnic;

namespace {

constexpr size_t NODE_BYTES = 16384;
constexpr uint8_t CANARY = 0xa5;
constexpr uint64_t WRITABLE = 1000;
constexpr uint64_t WRITABLE_BYTES = 100;
constexpr uint32_t WINDOW_TAG = 7;
constexpr size_t POOL_BYTES = 65536;
constexpr size_t MOST_PAIRS = 8;

uint64_t messages = 0;

void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

int memfd(size_t bytes, int seals) {
  const int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0 || fcntl(fd, F_ADD_SEALS, seals) != 0) fail("no memory");
  return fd;
}

int openDescriptors() {
  DIR* const directory = opendir("/proc/self/fd");
  int count = 0;
  while (readdir(directory) != nullptr) count++;
  closedir(directory);
  return count;
}

// What a client can pass. The first few are as they should be; the client has mapped them.
struct Pool {
  static constexpr int GOOD = 4;

  Pool() {
    for (int i = 0; i < GOOD; i++) {
      fds.push_back(memfd(POOL_BYTES, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
      memory[i] = static_cast<uint8_t*>(mmap(nullptr, POOL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0));
    }
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) fail("no socket");
    fds.push_back(ends[0]);
    fds.push_back(ends[1]);
    fds.push_back(memfd(POOL_BYTES, F_SEAL_GROW));
    fds.push_back(memfd(POOL_BYTES, F_SEAL_SHRINK | F_SEAL_WRITE));
    fds.push_back(memfd(64, F_SEAL_SHRINK));
    fds.push_back(eventfd(0, EFD_CLOEXEC));
    fds.push_back(open("/dev/zero", O_RDWR | O_CLOEXEC));
    fds.push_back(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    fds.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    fds.push_back(open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }

  std::vector<int> fds;
  uint8_t* memory[GOOD];
};

Pool& pool() {
  static Pool pool;
  return pool;
}

struct Node {
  Node() : engine(Engine::start()), device(std::make_shared<Device>(false)) {}

  const std::shared_ptr<Engine> engine;
  const std::shared_ptr<Device> device;
};

Node& node() {
  static Node node;
  return node;
}

// The node's end of one connection.
struct NodePair {
  explicit NodePair(const std::shared_ptr<ProtectionDomain>& pd)
      : cq(std::make_shared<CompletionQueue>(16, false, nullptr)),
        qp(std::make_shared<QueuePair>(pd, cq, cq, Ring<Wqe>(16, false),
                                       std::make_shared<ReceiveQueue>(Ring<RecvWqe>(16, false)))) {}
  ~NodePair() { qp->close(); }

  std::shared_ptr<CompletionQueue> cq;
  std::shared_ptr<QueuePair> qp;
};

class World {
 public:
  World()
      : channel_(std::make_shared<Channel>(false)), listener_(Listener::open(channel_)),
        pd_(std::make_shared<ProtectionDomain>(node().device)), memory_(std::make_shared<HostMemory>(NODE_BYTES)) {
    std::memset(memory_->data(), CANARY, NODE_BYTES);
    region_ = pd_->addRegion(memory_, 0, NODE_BYTES, 0, access::LOCAL_WRITE | access::MW_BIND);
    window_ = pd_->addWindow();
    if (!node().device->keys.bind(pd_->number, window_ | WINDOW_TAG, region_, WRITABLE, WRITABLE_BYTES,
                                  access::REMOTE_WRITE | access::REMOTE_READ)) {
      fail("no window");
    }
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) fail("no socket");
    client_ = Descriptor(ends[0]);
    served_ = std::make_shared<ServedClient>(std::make_shared<ControlSocket>(Descriptor::foreign(ends[1])), ucred{},
                                             listener_, node().engine);
    for (uint8_t* const memory : pool().memory) std::memset(memory, 0, POOL_BYTES);
  }

  ~World() {
    served_->drop();
    if (connection_ != nullptr) connection_->close(Connection::Side::Listener);
    pairs_.clear();
    listener_->close();
    pd_->removeWindow(window_);
    pd_->removeRegion(region_);
  }

  void run(Script& script) {
    while (!script.atEnd() && there_) perform(script.octet(), script);
  }

  void check() const {
    static const std::vector<uint8_t> canary(NODE_BYTES, CANARY);
    const uint8_t* const bytes = memory_->data();
    const uint64_t after = WRITABLE + WRITABLE_BYTES;
    if (std::memcmp(bytes, canary.data(), WRITABLE) != 0 ||
        std::memcmp(bytes + after, canary.data(), NODE_BYTES - after) != 0) {
      fail("the node's memory was changed outside of its window");
    }
  }

 private:
  void perform(uint8_t act, Script& script) {
    switch (act % 8) {
      case 0:
        return say(likely(script), sizeof(ControlMessage), script);
      case 1:
        return say(script.number<ControlMessage>(), sizeof(ControlMessage), script);
      case 2:
        return say(script.number<ControlMessage>(), script.octet() % (sizeof(ControlMessage) + 1), script);
      case 3:
        served_->progress();
        if ((act & 8) != 0) served_->fallAsleep();
        return;
      case 4:
        return answer((act & 24) != 0);
      case 5: {
        const uint32_t at = script.number<uint16_t>();
        const uint8_t length = script.octet() % 64;
        return script.bytes(pool().memory[(act >> 3) % Pool::GOOD] + std::min<size_t>(at, POOL_BYTES - 64), length);
      }
      case 6:
        return request((act >> 3) % Pool::GOOD, script);
      case 7:
        return nodeSends(script);
    }
  }

  // Small numbers, so that messages fit each other.
  static ControlMessage likely(Script& script) {
    ControlMessage message;
    message.type = static_cast<ControlType>(1 + script.octet() % 16);
    message.id = script.octet();
    for (uint32_t& argument : message.args) {
      const uint8_t value = script.octet();
      argument = value == 255 ? CONTROL_NONE : value;
    }
    message.longs = {uint64_t{script.octet()} << 6, script.number<uint16_t>(), script.octet()};
    return message;
  }

  void say(const ControlMessage& message, size_t size, Script& script) {
    const uint8_t which = script.octet();
    // Nearly always at most as many as a message may have.
    const size_t count = which < 250 ? which % 3 : which - 240;
    int fds[16];
    for (size_t i = 0; i < count; i++) fds[i] = pool().fds[script.octet() % pool().fds.size()];
    iovec bytes{const_cast<ControlMessage*>(&message), size};
    msghdr header{};
    header.msg_iov = &bytes;
    header.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof fds)] = {};
    if (count > 0) {
      header.msg_control = control;
      header.msg_controllen = CMSG_SPACE(count * sizeof(int));
      cmsghdr* const part = CMSG_FIRSTHDR(&header);
      part->cmsg_level = SOL_SOCKET;
      part->cmsg_type = SCM_RIGHTS;
      part->cmsg_len = CMSG_LEN(count * sizeof(int));
      std::memcpy(CMSG_DATA(part), fds, count * sizeof(int));
    }
    if (sendmsg(client_.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return;
    messages++;
    there_ = served_->takeMessages() && !served_->endRequested();
    char reply[sizeof(ControlMessage)];
    while (recv(client_.get(), reply, sizeof reply, MSG_DONTWAIT) > 0) {
    }
  }

  void answer(bool accept) {
    const auto offered = listener_->nextConnection();
    if (offered == nullptr) {
      if (connection_ != nullptr && !accept) connection_->close(Connection::Side::Listener);
      return;
    }
    if (!accept || offered->qpCount() > MOST_PAIRS) return offered->reject();
    std::vector<std::shared_ptr<QueuePair>> qps;
    for (size_t i = 0; i < offered->qpCount(); i++) {
      pairs_.push_back(std::make_unique<NodePair>(pd_));
      qps.push_back(pairs_.back()->qp);
    }
    connection_ = offered;
    offered->accept(qps);
  }

  // A likely work request in the ring that lies in this memory.
  void request(int memory, Script& script) {
    uint8_t* const ring = pool().memory[memory];
    Wqe wqe{};
    wqe.opcode = static_cast<Opcode>(script.octet() % 11);
    wqe.sendFlags = script.octet();
    const uint8_t keys = script.octet();
    wqe.rkey = (keys & 3) == 0 ? window_ | WINDOW_TAG : (keys & 3) == 1 ? region_ : keys;
    wqe.lkey = script.octet();
    wqe.remoteAddr = WRITABLE + static_cast<uint64_t>(int64_t{static_cast<int8_t>(script.octet())});
    wqe.localAddr = script.octet();
    wqe.length = script.octet();
    wqe.compareAdd = script.octet();
    wqe.bindAccess = script.octet();
    wqe.imm = wqe.rkey;
    uint32_t posted;
    std::memcpy(&posted, ring, sizeof posted);
    std::memcpy(ring + RING_HEADER_BYTES + posted % 16 * sizeof wqe, &wqe, sizeof wqe);
    posted++;
    std::memcpy(ring, &posted, sizeof posted);
  }

  // Into whatever the client has given as receive buffers.
  void nodeSends(Script& script) {
    if (pairs_.empty()) return;
    QueuePair& qp = *pairs_[script.octet() % pairs_.size()]->qp;
    Wqe wqe{};
    wqe.opcode = (script.octet() & 1) != 0 ? Opcode::SEND : Opcode::RDMA_WRITE;
    wqe.lkey = region_;
    wqe.rkey = script.octet();
    wqe.remoteAddr = script.octet();
    wqe.length = script.number<uint16_t>() % NODE_BYTES;
    const uint32_t posted = qp.sendRing.userCounter().load();
    std::memcpy(qp.sendRing.entry(posted), &wqe, sizeof wqe);
    qp.sendRing.userCounter().store(posted + 1);
    qp.doorbell();
  }

  const std::shared_ptr<Channel> channel_;
  const std::shared_ptr<Listener> listener_;
  const std::shared_ptr<ProtectionDomain> pd_;
  const std::shared_ptr<HostMemory> memory_;
  uint32_t region_ = 0;
  uint32_t window_ = 0;
  Descriptor client_;
  std::shared_ptr<ServedClient> served_;
  std::shared_ptr<Connection> connection_;
  std::vector<std::unique_ptr<NodePair>> pairs_;
  bool there_ = true;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  std::atexit([] { std::fprintf(stderr, "%llu messages\n", static_cast<unsigned long long>(messages)); });
  pool();
  node();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int before = openDescriptors();
  Script script(data, size);
  {
    World world;
    world.run(script);
    world.check();
  }
  // Another thread closes what came from the client.
  for (int i = 0; openDescriptors() > before; i++) {
    if (i > 10000) fail("a descriptor was left open");
    usleep(i < 100 ? 10 : 1000);
  }
  return 0;
}
