import {
  Access,
  type Device,
  type HostMemory,
  type MemoryRegion,
  type ProtectionDomain,
} from '../../native/index.js';
import { CLOCK_PAGE_BYTES, ClockWord } from '../wire/clock-page.js';
import { putNumber } from '../wire/messages.js';

/**
 * The page from which clients read this node's clock. It is written only for as long as clients have asked for: a node
 * without work sleeps. The loop looks at the clock, writes, looks again: a value is taken after the one before it was written.
 */
export class ClockPage {
  private readonly memory: HostMemory;
  private readonly words: Uint32Array;
  private readonly scratch = new Uint32Array(2);
  private number = 0;
  private untilNs = 0;

  constructor(device: Device) {
    this.memory = device.allocMemory(CLOCK_PAGE_BYTES);
    this.words = new Uint32Array(this.memory.buffer);
  }

  /** A key to read the page, from address 0, for clients of this domain. */
  register(pd: ProtectionDomain): MemoryRegion {
    return pd.regMr(this.memory, 0, CLOCK_PAGE_BYTES, Access.REMOTE_READ);
  }

  publishUntil(ns: number): void {
    if (ns > this.untilNs) this.untilNs = ns;
  }

  /** Write the time if somebody wants it; whether that is so. `time[0]`: now, looked at after the last call. */
  tick(time: Float64Array): boolean {
    if (time[0]! >= this.untilNs) return false;
    const { words, scratch } = this;
    putNumber(scratch, 0, time[0]!);
    this.number = (this.number + 1) >>> 0;
    // The copy first, the value last, and the number between them: who reads upwards and finds both equal has a whole value.
    Atomics.store(words, ClockWord.COPY, scratch[0]!);
    Atomics.store(words, ClockWord.COPY + 1, scratch[1]!);
    Atomics.store(words, ClockWord.NUMBER, this.number);
    Atomics.store(words, ClockWord.CLOCK, scratch[0]!);
    Atomics.store(words, ClockWord.CLOCK + 1, scratch[1]!);
    return true;
  }
}
