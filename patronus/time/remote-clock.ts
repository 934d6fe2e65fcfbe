import { nowNs } from '../../native/index.js';
import { ClockBounds } from './clock-bounds.js';

/** A clock as others see it: its error is bounded. Times in ns. */
export interface NodeClock {
  /** The node's clock shows no more than this now. What a lease's deadline is compared with. */
  latest(): number;
  /** The same, by a reading of this host's monotonic clock that was taken just before, if that tells as much. */
  latestAt(nowNs: number): number;
  /** Bound on the error of what is known of the node's clock, now. */
  epsilonNs(): number;
}

/** The clock of a node of this host: the same one, but for an error that the operator allows for. */
export class HostClock implements NodeClock {
  private readonly now: () => number;
  private readonly epsilon: number;

  constructor(now: () => number, epsilonNs: number) {
    if (!(epsilonNs >= 0)) throw new RangeError(`epsilonNs must be a number from 0, not ${epsilonNs}`);
    this.now = now;
    this.epsilon = epsilonNs;
  }

  latest(): number {
    return this.now() + this.epsilon;
  }

  latestAt(now: number): number {
    return (this.now === nowNs ? now : this.now()) + this.epsilon;
  }

  epsilonNs(): number {
    return this.epsilon;
  }
}

/**
 * A clock that is known from rounds of synchronisation. The bounds hold while both clocks keep the drift bound. A clock that
 * jumps breaks them until a round is complete that began after it. Where the own clock is seen to go back nothing is known
 * until then, and no lease counts as live.
 */
export class RemoteClock implements NodeClock {
  /** How often bounds were given up because of a jump. */
  jumps = 0;
  private readonly now: () => number;
  private readonly driftPpm: number;
  private bounds: ClockBounds;
  /** The latest local time seen: the own clock must not go back behind it. */
  private lastLocal = Number.NEGATIVE_INFINITY;

  constructor(now: () => number, driftPpm: number) {
    this.now = now;
    this.driftPpm = driftPpm;
    this.bounds = new ClockBounds(driftPpm);
  }

  latest(): number {
    const local = this.local();
    return this.bounds.latest(local);
  }

  /** Readings have to be taken in order here: an older one would pass for a clock that has gone back. */
  latestAt(_now: number): number {
    return this.latest();
  }

  epsilonNs(): number {
    const local = this.local();
    return this.bounds.epsilonNs(local);
  }

  /** The best guess of the remote clock, ns; NaN while nothing is known. */
  estimate(): number {
    const local = this.local();
    return local + this.bounds.offsetNs;
  }

  /** Bounds of a new round: they stand by themselves, so that nothing from before a jump outlives it. */
  adopt(round: ClockBounds): void {
    this.bounds = round;
    this.lastLocal = round.at;
  }

  private local(): number {
    const local = this.now();
    if (local < this.lastLocal) this.forget();
    this.lastLocal = local;
    return local;
  }

  private forget(): void {
    if (this.bounds.high === Number.POSITIVE_INFINITY) return;
    this.jumps++;
    this.bounds = new ClockBounds(this.driftPpm);
  }
}
