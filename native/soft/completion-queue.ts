import { addon } from '../addon.js';
import type { Completion, CompletionQueue } from '../contract.js';
import { CqArm, CqeLayout, RingLayout } from '../verbs.js';
import type { SoftDevice } from './device.js';

const HEADER_WORDS = RingLayout.HEADER_BYTES / 4;
const CQE_WORDS = CqeLayout.BYTES / 4;
const POLLED = RingLayout.USER_COUNTER / 4;
const ARMED = RingLayout.NIC_COUNTER / 4;

export class SoftCompletionQueue implements CompletionQueue {
  readonly closeRank = 4;
  readonly depth: number;
  handle: number;
  private readonly device: SoftDevice;
  private readonly ring: Uint32Array;
  private readonly mask: number;
  /** The NIC hears of every so many polled entries only: the store is dear. The ring has room for what it lags behind. */
  private readonly tellMask: number;
  /** Entries polled, uint32. */
  private polled = 0;

  constructor(device: SoftDevice, made: { handle: number; ring: ArrayBuffer }, depth: number) {
    this.device = device;
    this.handle = made.handle;
    this.ring = new Uint32Array(made.ring);
    this.depth = depth;
    this.mask = 2 * depth - 1;
    this.tellMask = depth - 1;
    device.children.add(this);
  }

  poll(into: Completion): boolean {
    const { ring } = this;
    const at = HEADER_WORDS + (this.polled & this.mask) * CQE_WORDS;
    const next = (this.polled + 1) >>> 0;
    if (Atomics.load(ring, at + CqeLayout.SEQUENCE / 4) !== next) return false;
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

  arm(solicitedOnly = false): void {
    // Who is to be woken by any completion still is.
    if (solicitedOnly) Atomics.compareExchange(this.ring, ARMED, 0, CqArm.SOLICITED);
    else Atomics.store(this.ring, ARMED, CqArm.NEXT);
  }

  close(): void {
    if (this.handle === 0) return;
    addon.closeCq(this.handle);
    this.handle = 0;
    this.device.children.delete(this);
  }
}
