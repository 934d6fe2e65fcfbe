#include <set>

#include "rig.h"

using namespace rig;

TEST(a_key_grants_its_range_and_rights_only) {
  Side client;
  Side node;
  Link link(client, node);
  const uint32_t window = node.pd->addWindow();
  CHECK(link.node.run(bind(window | 3, node.key, 1000, 100, access::REMOTE_READ)) == WcStatus::SUCCESS);
  const auto refused = [&](const Wqe& wqe, WcStatus status) {
    CHECK(link.client.run(wqe) == status);
    link.recover();
  };
  CHECK(link.client.run(read(client.key, 0, 100, window | 3, 1000)) == WcStatus::SUCCESS);
  refused(read(client.key, 0, 100, window | 3, 999), WcStatus::REM_ACCESS_ERR);
  refused(read(client.key, 0, 101, window | 3, 1000), WcStatus::REM_ACCESS_ERR);
  refused(read(client.key, 0, 1, window | 3, 1100), WcStatus::REM_ACCESS_ERR);
  refused(read(client.key, 0, 2, window | 3, UINT64_MAX), WcStatus::REM_ACCESS_ERR);
  refused(write(client.key, 0, 1, window | 3, 1000), WcStatus::REM_ACCESS_ERR);
  refused(faa(client.key, 0, window | 3, 1000, 1), WcStatus::REM_ACCESS_ERR);
  refused(read(client.key, 0, 1, window | 2, 1000), WcStatus::REM_ACCESS_ERR);
  refused(read(client.key, 0, 1, 0, 0), WcStatus::REM_ACCESS_ERR);
  refused(read(client.key, 0, 1, UINT32_MAX, 0), WcStatus::REM_ACCESS_ERR);
  refused(read(client.key ^ 1, 0, 1, window | 3, 1000), WcStatus::LOC_PROT_ERR);
  refused(read(client.key, MEMORY_BYTES, 1, window | 3, 1000), WcStatus::LOC_PROT_ERR);
  CHECK(link.node.run(invalidate(window | 3)) == WcStatus::SUCCESS);
  refused(read(client.key, 0, 1, window | 3, 1000), WcStatus::REM_ACCESS_ERR);
  node.pd->removeWindow(window);
}

TEST(a_key_is_valid_in_one_protection_domain) {
  Side client;
  Side node;
  Link link(client, node);
  const auto other = std::make_shared<ProtectionDomain>(node.device);
  const auto memory = std::make_shared<HostMemory>(4096);
  const uint32_t key = other->addRegion(memory, 0, 4096, 0, ALL);
  CHECK(link.client.run(read(client.key, 0, 8, key, 0)) == WcStatus::REM_ACCESS_ERR);
  link.recover();
  CHECK(link.node.run(bind(node.pd->addWindow() | 1, key, 0, 64, access::REMOTE_READ)) == WcStatus::MW_BIND_ERR);
  CHECK_REFUSED(Closed, node.pd->removeRegion(key));
  other->removeRegion(key);
}

TEST(a_bind_stays_within_its_region) {
  Side node;
  Pair pair(node.pd);
  Side peer;
  Pair other(peer.pd);
  QueuePair::connect(pair.qp, other.qp);
  const uint32_t window = node.pd->addWindow();
  const auto refused = [&](const Wqe& wqe) {
    CHECK(pair.run(wqe) == WcStatus::MW_BIND_ERR);
    pair.recover();
    other.recover();
  };
  refused(bind(window | 1, node.key, MEMORY_BYTES - 8, 9, access::REMOTE_READ));
  refused(bind(window | 1, node.key, 0, 0, access::REMOTE_READ));
  refused(bind(window | 1, node.key, 8, UINT64_MAX, access::REMOTE_READ));
  refused(bind(window | 1, node.key, UINT64_MAX, 8, access::REMOTE_READ));
  refused(bind(window | 1, node.key, 0, 8, access::LOCAL_WRITE));
  refused(bind(window | 1, node.key ^ 2, 0, 8, access::REMOTE_READ));
  refused(bind(node.key, node.key, 0, 8, access::REMOTE_READ));
  CHECK(pair.run(bind(window | 1, node.key, 0, 8, access::REMOTE_READ)) == WcStatus::SUCCESS);
  refused(bind(window | 1, node.key, 0, 8, access::REMOTE_READ));  // the tag must change
  CHECK_REFUSED(Busy, node.pd->removeRegion(node.key));
  node.pd->removeWindow(window);
}

TEST(a_freed_index_rests) {
  Side node;
  std::set<uint32_t> recent;
  std::vector<uint32_t> order;
  for (int i = 0; i < 20000; i++) {
    const uint32_t window = node.pd->addWindow();
    CHECK(recent.count(window) == 0);
    recent.insert(window);
    order.push_back(window);
    if (order.size() > 4095) recent.erase(order[order.size() - 4096]);
    node.pd->removeWindow(window);
  }
}

// A table of all keys is large, and nothing about it is for several threads.
#if !defined(__SANITIZE_THREAD__)
TEST(keys_run_out_with_an_error_and_come_back) {
  const auto device = std::make_shared<Device>(false);
  const auto pd = std::make_shared<ProtectionDomain>(device);
  std::vector<uint32_t> windows;
  CHECK_REFUSED(Limit, for (;;) windows.push_back(pd->addWindow()));
  CHECK(windows.size() == MAX_MW);
  pd->removeWindow(windows.back());
  windows.back() = pd->addWindow();
  for (const uint32_t window : windows) pd->removeWindow(window);
  CHECK(pd->users == 0);
}
#endif
