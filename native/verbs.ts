/**
 * Constants and memory layouts of the verbs contract: the TypeScript twins of native/soft/verbs.h. Values are those
 * of libibverbs (`ibv_wr_opcode`, `ibv_access_flags`, `ibv_send_flags`, `ibv_qp_state`, `ibv_wc_status`,
 * `ibv_wc_opcode`, `ibv_wc_flags`). A test compares every one with what the addon was compiled with.
 */

/** Operation of a send work request (`ibv_wr_opcode`). */
export const Opcode = {
  RDMA_WRITE: 0,
  RDMA_WRITE_WITH_IMM: 1,
  SEND: 2,
  SEND_WITH_IMM: 3,
  RDMA_READ: 4,
  CMP_AND_SWP: 5,
  FETCH_AND_ADD: 6,
  LOCAL_INV: 7,
  BIND_MW: 8,
  SEND_WITH_INV: 9,
} as const;

/** Access rights of a memory region, window or queue pair (`ibv_access_flags`). */
export const Access = {
  LOCAL_WRITE: 1,
  REMOTE_WRITE: 2,
  REMOTE_READ: 4,
  REMOTE_ATOMIC: 8,
  MW_BIND: 16,
} as const;

/** Flags of a send work request (`ibv_send_flags`). */
export const SendFlag = { FENCE: 1, SIGNALED: 2, SOLICITED: 4, INLINE: 8 } as const;

/** Queue pair states (`ibv_qp_state`). */
export const QpState = { RESET: 0, INIT: 1, RTR: 2, RTS: 3, ERR: 6 } as const;
export type QpState = (typeof QpState)[keyof typeof QpState];

/** Completion statuses (`ibv_wc_status`); those that this contract can give. */
export const WcStatus = {
  SUCCESS: 0,
  LOC_LEN_ERR: 1,
  LOC_QP_OP_ERR: 2,
  LOC_PROT_ERR: 4,
  WR_FLUSH_ERR: 5,
  MW_BIND_ERR: 6,
  LOC_ACCESS_ERR: 8,
  REM_INV_REQ_ERR: 9,
  REM_ACCESS_ERR: 10,
  REM_OP_ERR: 11,
  RETRY_EXC_ERR: 12,
  RNR_RETRY_EXC_ERR: 13,
} as const;
export type WcStatus = (typeof WcStatus)[keyof typeof WcStatus];

/** What a completion is the completion of (`ibv_wc_opcode`). */
export const WcOpcode = {
  SEND: 0,
  RDMA_WRITE: 1,
  RDMA_READ: 2,
  COMP_SWAP: 3,
  FETCH_ADD: 4,
  BIND_MW: 5,
  LOCAL_INV: 6,
  RECV: 128,
  RECV_RDMA_WITH_IMM: 129,
} as const;

/** Flags of a completion (`ibv_wc_flags`). */
export const WcFlag = { WITH_IMM: 2, WITH_INV: 8 } as const;

/**
 * A ring is a header of three cache lines and then its entries, a power of two of them. The counters run freely
 * (uint32, they wrap); an entry's place is counter & (depth - 1).
 */
export const RingLayout = {
  HEADER_BYTES: 192,
  /** SQ, RQ: entries posted, written by the poster. CQ: entries polled, written by the poller. */
  USER_COUNTER: 0,
  /** SQ, RQ: entries that the NIC is done with, written by the NIC. CQ: {@link CqArm} or 0, taken back by the NIC. */
  NIC_COUNTER: 64,
  /** SQ: the queue pair's state, written by the NIC. */
  QP_STATE: 132,
} as const;

/** What signals the channel of a completion queue: the next completion, or the next that failed or was solicited. */
export const CqArm = { NEXT: 1, SOLICITED: 2 } as const;

/** A send work request: 64 bytes, little-endian. Byte offsets. */
export const WqeLayout = {
  BYTES: 64,
  /** u8 */
  OPCODE: 0,
  /** u8, SendFlag */
  SEND_FLAGS: 1,
  /** u16, Access: rights of a window (BIND_MW) */
  BIND_ACCESS: 2,
  /** u32: bytes to move; 8 for atomics */
  LENGTH: 4,
  /** u64, returned in the completion */
  WR_ID: 8,
  /** u64: address in the remote region or window; BIND_MW: start of the range in the region's addresses */
  REMOTE_ADDR: 16,
  /** u32: remote key; BIND_MW: the window's index with its new tag; LOCAL_INV: the key to end */
  RKEY: 24,
  /** u32: key of the local buffer; BIND_MW: lkey of the region to bind to */
  LKEY: 28,
  /** u64: address in the local region; INLINE: here up to INLINE_BYTES of payload begin instead */
  LOCAL_ADDR: 32,
  /** u64: CMP_AND_SWP: expected value; FETCH_AND_ADD: addend; BIND_MW: length of the range */
  COMPARE_ADD: 40,
  /** u64: CMP_AND_SWP: new value */
  SWAP: 48,
  /** u32: immediate data; SEND_WITH_INV: remote key to invalidate */
  IMM: 56,
  INLINE_BYTES: 24,
} as const;

/** A receive work request: 32 bytes. Byte offsets. */
export const RecvWqeLayout = { BYTES: 32, WR_ID: 0, LOCAL_ADDR: 8, LKEY: 16, LENGTH: 20 } as const;

/** A completion: 32 bytes. Byte offsets. */
export const CqeLayout = {
  BYTES: 32,
  /** u64 */
  WR_ID: 0,
  /** u32, WcStatus */
  STATUS: 8,
  /** u8, WcOpcode (meaningful with SUCCESS only) */
  OPCODE: 12,
  /** u8, WcFlag */
  FLAGS: 13,
  /** u32: bytes received or moved */
  BYTE_LEN: 16,
  /** u32: number of the queue pair that this belongs to */
  QP_NUM: 20,
  /** u32: immediate data, or the key that was invalidated */
  IMM: 24,
  /** u32: the entry's running number + 1, written last: the entry is there when this equals the poller's count + 1 */
  SEQUENCE: 28,
} as const;

/** A key is a 24-bit index into the key table and an 8-bit tag that tells successive uses of the index apart. */
export const KEY_TAG_BITS = 8;
