// Many of everything, made and closed. Under the address sanitizer what is left behind is reported at the end.
#include <dirent.h>

#include <fstream>
#include <string>

#include "rig.h"

using namespace rig;

namespace {

int entriesOf(const char* directory) {
  DIR* const open = opendir(directory);
  CHECK(open != nullptr);
  int count = 0;
  while (readdir(open) != nullptr) count++;
  closedir(open);
  return count;
}

int mappings() {
  std::ifstream maps("/proc/self/maps");
  std::string line;
  int count = 0;
  while (std::getline(maps, line)) count++;
  return count;
}

// The sanitizers are slow here: the thread sanitizer doesn't look for what is left behind, and the address sanitizer reports
// the first of it.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int COUNT = 5000;
#else
constexpr int COUNT = 100000;
#endif

void leavesNothing(const std::function<void()>& makeAndClose) {
  // Enough that all places where freed keys rest have been used.
  for (int i = 0; i < COUNT / 10; i++) makeAndClose();
  const int descriptors = entriesOf("/proc/self/fd");
  const int mapped = mappings();
  const uint64_t resident = residentBytes();
  for (int i = 0; i < COUNT; i++) makeAndClose();
  CHECK(entriesOf("/proc/self/fd") == descriptors);
  // The allocator's own may come and go.
  CHECK(mappings() < mapped + 64);
  CHECK(residentBytes() < resident + (8 << 20));
}

}  // namespace

TEST(closed_regions_and_windows_leave_nothing) {
  Side side;
  leavesNothing([&] { side.pd->removeRegion(side.pd->addRegion(side.memory, 64, 64, 0, ALL)); });
  leavesNothing([&] { side.pd->removeWindow(side.pd->addWindow()); });
  CHECK(side.pd->users == 1);
}

TEST(closed_domains_and_channels_leave_nothing) {
  const auto device = std::make_shared<Device>(false);
  leavesNothing([&] { ProtectionDomain domain(device); });
  CHECK(device->pds == 0);
  leavesNothing([] { Channel channel(false); });
  leavesNothing([] { Channel channel(true); });
}

TEST(closed_memories_leave_nothing) {
  leavesNothing([] { HostMemory(4096).data()[0] = 1; });
  leavesNothing([] { HostMemory::shared(4096)->data()[0] = 1; });
}

TEST(closed_queues_leave_nothing) {
  leavesNothing([] { newCq(8)->push(Cqe{}); });
  Side side;
  const auto cq = newCq(8);
  leavesNothing([&] {
    QueuePair(side.pd, cq, cq, Ring<Wqe>(8, false), newReceives(8)).modify(QpState::INIT, 0);
  });
  leavesNothing([&] { ReceiveQueue(Ring<RecvWqe>(8, false), side.pd).close(); });
  CHECK(cq->users == 0 && side.device->qps == 0 && side.pd->users == 1);
}

TEST(closed_connections_leave_nothing) {
  const auto channel = std::make_shared<Channel>(false);
  const auto listener = Listener::open(channel);
  Side side;
  const auto cq = newCq(8);
  const auto newQp = [&] {
    return std::make_shared<QueuePair>(side.pd, cq, cq, Ring<Wqe>(8, false), newReceives(8));
  };
  leavesNothing([&] { Listener::open(channel)->close(); });
  // Each with a domain, a region and a window of its own, as a memory node gives its clients.
  leavesNothing([&] {
    ProtectionDomain domain(side.device);
    const uint32_t region = domain.addRegion(side.memory, 0, 64, 0, ALL);
    const uint32_t window = domain.addWindow();
    const auto one = newQp();
    const auto other = newQp();
    const auto connection = Connection::request(listener->address, {one}, channel);
    listener->nextConnection()->accept({other});
    connection->close(Connection::Side::Client);
    CHECK(listener->nextDisconnection() == connection);
    one->close();
    other->close();
    domain.removeWindow(window);
    domain.removeRegion(region);
  });
  listener->close();
  CHECK(side.device->qps == 0 && side.device->pds == 1);
  // The keys have been used again and again.
  const uint32_t window = side.pd->addWindow();
  CHECK(window >> KEY_TAG_BITS < 3 * 4096);
  side.pd->removeWindow(window);
}
