import type { Completion } from './contract.js';
import { LOADS_IN_ORDER } from './loads.js';
import { CqeLayout, RingLayout } from './verbs.js';

const HEADER_WORDS = RingLayout.HEADER_BYTES / 4;
const CQE_WORDS = CqeLayout.BYTES / 4;
const POLLED = RingLayout.USER_COUNTER / 4;
// A module's own constants are part of its compiled code; imported ones are loaded and checked at each use.
const IN_ORDER = LOADS_IN_ORDER;
const WR_ID = CqeLayout.WR_ID / 4;
const STATUS = CqeLayout.STATUS / 4;
const OPCODE_AND_FLAGS = CqeLayout.OPCODE / 4;
const BYTE_LEN = CqeLayout.BYTE_LEN / 4;
const QP_NUM = CqeLayout.QP_NUM / 4;
const IMM = CqeLayout.IMM / 4;
const SEQUENCE = CqeLayout.SEQUENCE / 4;

/** The poller's end of a ring of completions, of twice the queue's depth. */
export class CompletionRing {
  protected readonly ring: Uint32Array;
  private readonly mask: number;
  /** The NIC hears of every so many polled entries only: the store is dear. The ring has room for what it lags behind. */
  private readonly tellMask: number;
  /** Entries polled, uint32. */
  private polled = 0;

  constructor(ring: ArrayBuffer, depth: number) {
    this.ring = new Uint32Array(ring);
    this.mask = 2 * depth - 1;
    this.tellMask = depth - 1;
  }

  /** See CompletionQueue. */
  poll(into: Completion): boolean {
    const { ring } = this;
    const at = HEADER_WORDS + (this.polled & this.mask) * CQE_WORDS;
    const next = (this.polled + 1) >>> 0;
    const sequence = at + SEQUENCE;
    if ((IN_ORDER ? ring[sequence] : Atomics.load(ring, sequence)) !== next) return false;
    const opcodeAndFlags = ring[at + OPCODE_AND_FLAGS]!;
    into.wrId = ring[at + WR_ID]!;
    into.status = ring[at + STATUS]!;
    into.opcode = opcodeAndFlags & 0xff;
    into.flags = (opcodeAndFlags >>> 8) & 0xff;
    into.byteLen = ring[at + BYTE_LEN]!;
    into.qpNum = ring[at + QP_NUM]!;
    into.imm = ring[at + IMM]!;
    this.polled = next;
    if ((next & this.tellMask) === 0) Atomics.store(ring, POLLED, next);
    return true;
  }
}
