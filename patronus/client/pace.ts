/**
 * Waits that are spent asleep after one in which polling was in vain; twice as many each time again, since the core that
 * polling takes away may be the one that the other side needs.
 */
const LEAST_ASLEEP = 8;
const MOST_ASLEEP = 8192;
/** After so many waits in which polling went well it begins with the least again. */
const CALM_WAITS = 1024;

/**
 * Whether to poll for what another thread has to do, or to sleep until it is done. Polling is faster by far if that thread
 * has a core of its own, and slower by far if it waits for this one's.
 */
export class Pace {
  private crowded = 0;
  private asleep = LEAST_ASLEEP;
  private calm = 0;

  /** Begin to wait; false if it should be asleep. */
  begin(): boolean {
    if (this.crowded > 0) {
      this.crowded--;
      return false;
    }
    if (++this.calm >= CALM_WAITS) this.asleep = LEAST_ASLEEP;
    return true;
  }

  /** Polling did not bring what was waited for. */
  inVain(): void {
    this.crowded = this.asleep;
    this.asleep = Math.min(2 * this.asleep, MOST_ASLEEP);
    this.calm = 0;
  }

  get isCrowded(): boolean {
    return this.crowded > 0;
  }
}
