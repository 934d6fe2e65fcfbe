#include <cstring>

#include "rig.h"

using namespace rig;

TEST(read_and_write_move_every_length) {
  Side client;
  Side node;
  Link link(client, node);
  auto random = check::random(1);
  const std::vector<uint8_t> zeros(MEMORY_BYTES);
  const auto isZero = [&](const uint8_t* bytes, size_t length) { return std::memcmp(bytes, zeros.data(), length) == 0; };
  for (int i = 0; i < 1000; i++) {
    const uint32_t length = i < 600 ? i : random() % 40000;
    const uint64_t local = random() % (MEMORY_BYTES - length);
    const uint64_t remote = random() % (MEMORY_BYTES - length);
    for (uint64_t at = local & ~uint64_t{7}; at < local + length; at += 8) client.word(at) = random();
    std::memset(node.bytes(), 0, MEMORY_BYTES);
    CHECK(link.client.run(write(client.key, local, length, node.key, remote)) == WcStatus::SUCCESS);
    CHECK(std::memcmp(client.bytes() + local, node.bytes() + remote, length) == 0);
    CHECK(isZero(node.bytes(), remote) && isZero(node.bytes() + remote + length, MEMORY_BYTES - remote - length));
    std::memset(client.bytes(), 0, MEMORY_BYTES);
    CHECK(link.client.run(read(client.key, local, length, node.key, remote)) == WcStatus::SUCCESS);
    CHECK(std::memcmp(client.bytes() + local, node.bytes() + remote, length) == 0);
    CHECK(isZero(client.bytes(), local) && isZero(client.bytes() + local + length, MEMORY_BYTES - local - length));
  }
}

TEST(atomics_give_the_old_value) {
  Side client;
  Side node;
  Link link(client, node);
  node.word(64) = 5;
  CHECK(link.client.run(cas(client.key, 0, node.key, 64, 5, 9)) == WcStatus::SUCCESS);
  CHECK(client.word(0) == 5 && node.word(64) == 9);
  CHECK(link.client.run(cas(client.key, 0, node.key, 64, 5, 7)) == WcStatus::SUCCESS);
  CHECK(client.word(0) == 9 && node.word(64) == 9);
  CHECK(link.client.run(faa(client.key, 8, node.key, 64, UINT64_MAX)) == WcStatus::SUCCESS);
  CHECK(client.word(8) == 9 && node.word(64) == 8);
  CHECK(link.client.run(faa(client.key, 8, node.key, 68, 1)) == WcStatus::REM_INV_REQ_ERR);
}

TEST(send_fills_the_oldest_receive_buffer) {
  Side client;
  Side node;
  Link link(client, node);
  std::memcpy(client.bytes(), "message", 8);
  link.node.postRecv(71, node.key, 128, 64);
  link.node.postRecv(72, node.key, 256, 64);
  CHECK(link.client.run(send(client.key, 0, 8)) == WcStatus::SUCCESS);
  const auto first = link.node.receives.poll();
  CHECK(first && first->wrId == 71 && first->status == WcStatus::SUCCESS && first->byteLen == 8);
  CHECK(std::memcmp(node.bytes() + 128, "message", 8) == 0);

  Wqe inlined = send(0, 0, 24);
  inlined.opcode = Opcode::SEND_WITH_IMM;
  inlined.sendFlags = send_flag::INLINE;
  inlined.imm = 4711;
  std::memcpy(&inlined.localAddr, "twenty-four bytes inside", 24);
  // The payload ends where the immediate data begins.
  CHECK(link.client.run(inlined) == WcStatus::SUCCESS);
  const auto second = link.node.receives.poll();
  CHECK(second && second->wrId == 72 && second->flags == wc_flag::WITH_IMM && second->imm == 4711);
  CHECK(std::memcmp(node.bytes() + 256, "twenty-four bytes inside", 24) == 0);

  CHECK(link.client.run(send(client.key, 0, 8)) == WcStatus::RNR_RETRY_EXC_ERR);
}

TEST(write_with_immediate_takes_a_receive) {
  Side client;
  Side node;
  Link link(client, node);
  link.node.postRecv(5, node.key, 0, 0);
  Wqe wqe = write(client.key, 0, 512, node.key, 1024);
  wqe.opcode = Opcode::RDMA_WRITE_WITH_IMM;
  wqe.imm = 99;
  std::memset(client.bytes(), 7, 512);
  CHECK(link.client.run(wqe) == WcStatus::SUCCESS);
  const auto done = link.node.receives.poll();
  CHECK(done && done->opcode == WcOpcode::RECV_RDMA_WITH_IMM && done->imm == 99 && done->byteLen == 512);
  CHECK(node.bytes()[1024] == 7 && node.bytes()[1535] == 7 && node.bytes()[1536] == 0);
}

TEST(send_with_invalidate_ends_a_window) {
  Side client;
  Side node;
  Link link(client, node);
  const uint32_t window = node.pd->addWindow();
  CHECK(link.node.run(bind(window | 1, node.key, 0, 64, access::REMOTE_READ)) == WcStatus::SUCCESS);
  CHECK(link.client.run(read(client.key, 0, 8, window | 1, 0)) == WcStatus::SUCCESS);
  link.node.postRecv(1, node.key, 0, 64);
  Wqe wqe = send(client.key, 0, 8);
  wqe.opcode = Opcode::SEND_WITH_INV;
  wqe.imm = window | 1;
  CHECK(link.client.run(wqe) == WcStatus::SUCCESS);
  const auto done = link.node.receives.poll();
  CHECK(done && done->flags == wc_flag::WITH_INV && done->imm == (window | 1));
  CHECK(link.client.run(read(client.key, 0, 8, window | 1, 0)) == WcStatus::REM_ACCESS_ERR);
  node.pd->removeWindow(window);
}

TEST(a_refusal_flushes_both_ends_in_order) {
  Side client;
  Side node;
  Link link(client, node);
  for (uint64_t i = 0; i < 3; i++) link.node.postRecv(i, node.key, 0, 64);
  for (uint64_t i = 0; i < 5; i++) {
    Wqe wqe = read(client.key, 0, 8, i == 2 ? node.key ^ 1 : node.key, 0);
    wqe.wrId = i;
    wqe.sendFlags = send_flag::SIGNALED;
    link.client.post(wqe);
  }
  link.client.qp->doorbell();
  const WcStatus expected[] = {WcStatus::SUCCESS, WcStatus::SUCCESS, WcStatus::REM_ACCESS_ERR, WcStatus::WR_FLUSH_ERR,
                               WcStatus::WR_FLUSH_ERR};
  for (uint64_t i = 0; i < 5; i++) {
    const auto done = link.client.sends.poll();
    CHECK(done && done->wrId == i && done->status == expected[i]);
  }
  CHECK(link.client.qp->state() == QpState::ERR && link.node.qp->state() == QpState::ERR);
  for (uint64_t i = 0; i < 3; i++) {
    const auto done = link.node.receives.poll();
    CHECK(done && done->wrId == i && done->status == WcStatus::WR_FLUSH_ERR);
  }
  link.recover();
  CHECK(link.client.run(read(client.key, 0, 8, node.key, 0)) == WcStatus::SUCCESS);
}
