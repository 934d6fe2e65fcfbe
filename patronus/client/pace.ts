import { nowNs } from '../../native/index.js';

/** So many looks at a completion queue take a few microseconds, unless the thread is taken off its core meanwhile. */
const LOOKS = 256;
const PREEMPTED_NS = 100e3;
/** Waits that are spent asleep before polling is tried again. */
const CROWDED_WAITS = 64;

/**
 * Whether to poll for what another thread has to do, or to sleep until it is done. Polling is faster by far if that thread
 * has a core of its own, and slower by far if it waits for this one's.
 */
export class Pace {
  private crowded = 0;
  private looks = 0;
  private lastNs = 0;

  /** Begin to wait; false if it should be asleep. */
  begin(): boolean {
    this.looks = 0;
    if (this.crowded === 0) return true;
    this.crowded--;
    return false;
  }

  /** One more look was in vain. */
  look(): void {
    if (++this.looks % LOOKS !== 0) return;
    const now = nowNs();
    if (this.looks > LOOKS && now - this.lastNs > PREEMPTED_NS) this.crowded = CROWDED_WAITS;
    this.lastNs = now;
  }

  get isCrowded(): boolean {
    return this.crowded > 0;
  }
}
