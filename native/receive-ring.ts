import { RecvWqeLayout, RingLayout } from './verbs.js';

const HEADER_WORDS = RingLayout.HEADER_BYTES / 4;
const RECV_WORDS = RecvWqeLayout.BYTES / 4;
const USER = RingLayout.USER_COUNTER / 4;
const NIC = RingLayout.NIC_COUNTER / 4;
const WR_ID = RecvWqeLayout.WR_ID / 4;
const LOCAL_ADDR = RecvWqeLayout.LOCAL_ADDR / 4;
const LKEY = RecvWqeLayout.LKEY / 4;
const LENGTH = RecvWqeLayout.LENGTH / 4;
const TWO_32 = 4294967296;

/** The poster's end of a ring of receive buffers. */
export class ReceiveRing {
  private readonly ring: Uint32Array;
  private depth: number;
  /** Posted, uint32. */
  private posted = 0;
  /** How many of them the NIC has taken, when last looked at: only when the ring seems full, as it is the NIC's line. */
  private taken = 0;

  constructor(ring: ArrayBuffer, depth: number) {
    this.ring = new Uint32Array(ring);
    this.depth = depth;
  }

  post(wrId: number, localAddr: number, lkey: number, length: number): boolean {
    const { ring } = this;
    if ((this.posted - this.taken) >>> 0 >= this.depth) {
      this.taken = Atomics.load(ring, NIC);
      if ((this.posted - this.taken) >>> 0 >= this.depth) return false;
    }
    const at = HEADER_WORDS + (this.posted & (this.depth - 1)) * RECV_WORDS;
    ring[at + WR_ID] = wrId;
    ring[at + LOCAL_ADDR] = localAddr;
    ring[at + LOCAL_ADDR + 1] = localAddr / TWO_32;
    ring[at + LKEY] = lkey;
    ring[at + LENGTH] = length;
    this.posted = (this.posted + 1) >>> 0;
    Atomics.store(ring, USER, this.posted);
    return true;
  }

  /** From now on nothing can be posted. */
  close(): void {
    this.depth = 0;
  }
}
