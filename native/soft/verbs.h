// Constants and memory layouts of the verbs contract. native/verbs.ts is the TypeScript twin; a test compares them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rnic {

enum class Opcode : uint8_t {
  RDMA_WRITE = 0,
  RDMA_WRITE_WITH_IMM = 1,
  SEND = 2,
  SEND_WITH_IMM = 3,
  RDMA_READ = 4,
  CMP_AND_SWP = 5,
  FETCH_AND_ADD = 6,
  LOCAL_INV = 7,
  BIND_MW = 8,
  SEND_WITH_INV = 9,
};

namespace access {
constexpr uint32_t LOCAL_WRITE = 1;
constexpr uint32_t REMOTE_WRITE = 2;
constexpr uint32_t REMOTE_READ = 4;
constexpr uint32_t REMOTE_ATOMIC = 8;
constexpr uint32_t MW_BIND = 16;
constexpr uint32_t REMOTE = REMOTE_WRITE | REMOTE_READ | REMOTE_ATOMIC;
constexpr uint32_t ALL = 31;
}  // namespace access

namespace send_flag {
constexpr uint8_t FENCE = 1;
constexpr uint8_t SIGNALED = 2;
constexpr uint8_t SOLICITED = 4;
constexpr uint8_t INLINE = 8;
}  // namespace send_flag

enum class QpState : uint32_t { RESET = 0, INIT = 1, RTR = 2, RTS = 3, ERR = 6 };

enum class WcStatus : uint32_t {
  SUCCESS = 0,
  LOC_LEN_ERR = 1,
  LOC_QP_OP_ERR = 2,
  LOC_PROT_ERR = 4,
  WR_FLUSH_ERR = 5,
  MW_BIND_ERR = 6,
  LOC_ACCESS_ERR = 8,
  REM_INV_REQ_ERR = 9,
  REM_ACCESS_ERR = 10,
  REM_OP_ERR = 11,
  RETRY_EXC_ERR = 12,
  RNR_RETRY_EXC_ERR = 13,
};

enum class WcOpcode : uint8_t {
  SEND = 0,
  RDMA_WRITE = 1,
  RDMA_READ = 2,
  COMP_SWAP = 3,
  FETCH_ADD = 4,
  BIND_MW = 5,
  LOCAL_INV = 6,
  RECV = 128,
  RECV_RDMA_WITH_IMM = 129,
};

// What a send request completes as.
inline WcOpcode completionOpcode(Opcode opcode) {
  switch (opcode) {
    case Opcode::RDMA_WRITE:
    case Opcode::RDMA_WRITE_WITH_IMM:
      return WcOpcode::RDMA_WRITE;
    case Opcode::RDMA_READ:
      return WcOpcode::RDMA_READ;
    case Opcode::CMP_AND_SWP:
      return WcOpcode::COMP_SWAP;
    case Opcode::FETCH_AND_ADD:
      return WcOpcode::FETCH_ADD;
    case Opcode::LOCAL_INV:
      return WcOpcode::LOCAL_INV;
    case Opcode::BIND_MW:
      return WcOpcode::BIND_MW;
    default:
      return WcOpcode::SEND;
  }
}

namespace wc_flag {
constexpr uint8_t WITH_IMM = 2;
constexpr uint8_t WITH_INV = 8;
}  // namespace wc_flag

constexpr uint32_t RING_HEADER_BYTES = 192;
constexpr uint32_t RING_USER_COUNTER = 0;
constexpr uint32_t RING_NIC_COUNTER = 64;
// A queue pair's state, in the header of its send ring. The two others are what a NIC in another process tells; native
// code only.
constexpr uint32_t RING_QP_STATE = 132;
constexpr uint32_t RING_NIC_SLEEPS = 128;
constexpr uint32_t RING_REMOTE_QP_NUM = 136;

struct Wqe {
  Opcode opcode;
  uint8_t sendFlags;
  uint16_t bindAccess;
  uint32_t length;
  uint64_t wrId;
  uint64_t remoteAddr;
  uint32_t rkey;
  uint32_t lkey;
  uint64_t localAddr;
  uint64_t compareAdd;
  uint64_t swap;
  uint32_t imm;
  uint32_t reserved;
};
constexpr uint32_t WQE_INLINE_BYTES = 24;
static_assert(sizeof(Wqe) == 64 && offsetof(Wqe, imm) - offsetof(Wqe, localAddr) == WQE_INLINE_BYTES);

struct RecvWqe {
  uint64_t wrId;
  uint64_t localAddr;
  uint32_t lkey;
  uint32_t length;
  uint64_t index;  // in a request that was taken: its running number
};
static_assert(sizeof(RecvWqe) == 32);

struct Cqe {
  uint64_t wrId;
  WcStatus status;
  WcOpcode opcode;
  uint8_t flags;
  uint16_t index;  // of the request in its ring, modulo 65536; native code only
  uint32_t byteLen;
  uint32_t qpNum;
  uint32_t imm;
  uint32_t sequence;
};
static_assert(sizeof(Cqe) == 32 && offsetof(Cqe, sequence) == 28);

// What wakes the channel of a completion queue: nothing (0), the next completion, the next that failed or was solicited.
namespace cq_arm {
constexpr uint32_t NEXT = 1;
constexpr uint32_t SOLICITED = 2;
}  // namespace cq_arm

constexpr uint32_t KEY_TAG_BITS = 8;

// Limits of the software RNIC, per device. Nobody else writes them down: attr has them from the addon.
constexpr uint32_t MAX_QP = 16384;
constexpr uint32_t MAX_QP_WR = 32768;
constexpr uint32_t MAX_CQ = 16384;
constexpr uint32_t MAX_CQE = 1 << 21;
// The ring has more places: the poller tells late what it took.
constexpr uint32_t RING_PLACES_PER_CQE = 2;
constexpr uint32_t MAX_SRQ = 16384;
constexpr uint32_t MAX_SRQ_WR = 32768;
constexpr uint32_t MAX_PD = 16384;
constexpr uint32_t MAX_MR = 1 << 18;
constexpr uint32_t MAX_MW = 1 << 20;
constexpr uint32_t MAX_MESSAGE = 1u << 31;
// The same for a device whose objects are told to nodes of other processes: what a node takes of one client.
constexpr uint32_t MAX_LINK_SRQ = 64;
constexpr uint32_t MAX_LINK_MR = 1024;
constexpr uint32_t MAX_LINK_MW = 1 << 15;
constexpr uint32_t MAX_LINK_KEYS = 1 << 16;
// Places of the key table.
constexpr uint32_t MAX_KEYS = 1 << 21;
static_assert(MAX_MR + MAX_MW < MAX_KEYS && MAX_KEYS <= 1u << (32 - KEY_TAG_BITS));

}  // namespace rnic
