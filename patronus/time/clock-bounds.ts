/**
 * What one clock knows of another: an interval that holds `remote - local`. All times in ns.
 *
 * A sample is a reading of the remote clock that is known to have been taken between two readings of the local one. It
 * bounds the difference from both sides, however the time between them was spent; half of that time, the round trip, is its
 * error. Intervals of several samples intersect, and grow by the drift of the clocks in between.
 */
export class ClockBounds {
  /** -Infinity and Infinity before the first sample. */
  low = Number.NEGATIVE_INFINITY;
  high = Number.POSITIVE_INFINITY;
  /** Local time for which `low` and `high` stand. */
  at = -Number.MAX_VALUE;
  private readonly drift: number;

  /** `driftPpm`: the most by which the rates of the two clocks differ, in millionths. */
  constructor(driftPpm: number) {
    if (!(driftPpm >= 0 && driftPpm < 1e6)) {
      throw new RangeError(`driftPpm must be from 0 to below 1000000, not ${driftPpm}`);
    }
    this.drift = driftPpm / 1e6;
  }

  /**
   * The remote clock showed `remote` at some moment between the local times `before` and `after`, the latter being now.
   * False, and nothing changed, if that contradicts what is known or itself.
   */
  narrow(before: number, after: number, remote: number): boolean {
    if (!(before <= after && after >= this.at) || !Number.isFinite(remote)) return false;
    const inSample = this.drift * (after - before);
    const low = Math.max(this.low - this.drift * (after - this.at), remote - after - inSample);
    const high = Math.min(this.high + this.drift * (after - this.at), remote - before + inSample);
    if (low > high) return false;
    this.low = low;
    this.high = high;
    this.at = after;
    return true;
  }

  /** The remote clock shows no more than this at the local time `local`. */
  latest(local: number): number {
    return local + this.high + this.drift * Math.abs(local - this.at);
  }

  /** The remote clock shows no less than this. */
  earliest(local: number): number {
    return local + this.low - this.drift * Math.abs(local - this.at);
  }

  /** The best guess of `remote - local`; NaN before the first sample. */
  get offsetNs(): number {
    return (this.low + this.high) / 2;
  }

  /** The most by which offsetNs can be wrong at the local time `local`. */
  epsilonNs(local: number): number {
    return (this.high - this.low) / 2 + this.drift * Math.abs(local - this.at);
  }
}
