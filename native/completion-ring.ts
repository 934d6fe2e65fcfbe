import type { Completion } from './contract.js';
import { LOADS_IN_ORDER } from './loads.js';
import { CqeLayout, RingLayout } from './verbs.js';

const HEADER_WORDS = RingLayout.HEADER_BYTES / 4;
const CQE_WORDS = CqeLayout.BYTES / 4;
const POLLED = RingLayout.USER_COUNTER / 4;

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
    const sequence = at + CqeLayout.SEQUENCE / 4;
    if ((LOADS_IN_ORDER ? ring[sequence] : Atomics.load(ring, sequence)) !== next) return false;
    const opcodeAndFlags = ring[at + CqeLayout.OPCODE / 4]!;
    into.wrId = ring[at + CqeLayout.WR_ID / 4]!;
    into.status = ring[at + CqeLayout.STATUS / 4]!;
    into.opcode = opcodeAndFlags & 0xff;
    into.flags = (opcodeAndFlags >>> 8) & 0xff;
    into.byteLen = ring[at + CqeLayout.BYTE_LEN / 4]!;
    into.qpNum = ring[at + CqeLayout.QP_NUM / 4]!;
    into.imm = ring[at + CqeLayout.IMM / 4]!;
    this.polled = next;
    if ((next & this.tellMask) === 0) Atomics.store(ring, POLLED, next);
    return true;
  }
}
