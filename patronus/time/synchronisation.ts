import { setImmediate as turn } from 'node:timers/promises';
import type { MaybePromise } from '../api.js';
import { MOST_PUBLISH_NS } from '../wire/clock-page.js';
import { ClockBounds } from './clock-bounds.js';
import { PageReadings } from './page-readings.js';
import type { RemoteClock } from './remote-clock.js';

/** What a reading of a node's clock page shows: see ClockPage. */
export interface ClockReading {
  readonly clockNs: number;
  /** Running number of the value. */
  readonly number: number;
}

/** The way to a node's clock. */
export interface ClockSource {
  /** Ask the node to write its clock to its page again and again for so long. */
  publish(durationNs: number): Promise<void>;
  /** One one-sided read of the page; undefined if it failed or met the writer. */
  read(): MaybePromise<ClockReading | undefined>;
}

export interface SynchronisationOptions {
  /** The most by which the rates of two clocks differ, in millionths. */
  readonly driftPpm: number;
  /** Between rounds, once the clock is steady. */
  readonly intervalMs: number;
}

/** Samples of one round; what all of them say together counts. */
const SAMPLES = 8;
/** Readings of one round, should samples not come. */
const MAX_READINGS = 1000;
/** The clock is steady after so many rounds in a row that corrected it by no more than this. */
const STEADY_ROUNDS = 5;
const STEADY_NS = 1000;
/** A clock that is not steady after so many rounds is used all the same: its bounds are true, only wide. */
const MAX_ROUNDS = 100;
const LEAST_PUBLISH_NS = 200e3;

/** Keeps a RemoteClock true: rounds until it is steady, then one every interval. */
export class Synchronisation {
  readonly clock: RemoteClock;
  private readonly source: ClockSource;
  private readonly now: () => number;
  private readonly options: SynchronisationOptions;
  private publishNs = LEAST_PUBLISH_NS;
  private timer: NodeJS.Timeout | undefined;
  private stopped = false;

  constructor(clock: RemoteClock, source: ClockSource, now: () => number, options: SynchronisationOptions) {
    this.clock = clock;
    this.source = source;
    this.now = now;
    this.options = options;
  }

  /** Rounds until the clock is steady; false if none of them got a sample. */
  async settle(): Promise<boolean> {
    let steady = 0;
    let known = false;
    for (let count = 0; count < MAX_ROUNDS && steady < STEADY_ROUNDS; count++) {
      const before = this.clock.estimate();
      const at = this.now();
      const adopted = await this.round();
      known ||= adopted;
      const correction = Math.abs(this.clock.estimate() - before - (this.now() - at));
      steady = adopted && correction <= STEADY_NS ? steady + 1 : 0;
    }
    return known;
  }

  /** One round; false, and nothing changed, if no reading made a sample. */
  async round(): Promise<boolean> {
    await this.source.publish(this.publishNs);
    const readings = new PageReadings();
    let bounds = new ClockBounds(this.options.driftPpm);
    let samples = 0;
    const start = this.now();
    for (let count = 0; count < MAX_READINGS && samples < SAMPLES; count++) {
      const began = this.now();
      if (began - start > this.publishNs) break;
      const reading = await this.source.read();
      const ended = this.now();
      if (reading === undefined || !readings.take(began, reading.number)) {
        // The writer has to come round, which this thread may keep it from.
        await turn();
      } else if (bounds.narrow(readings.before, ended, reading.clockNs)) {
        samples++;
      } else {
        // A clock jumped within the round: what came before is of no use.
        bounds = new ClockBounds(this.options.driftPpm);
        samples = bounds.narrow(readings.before, ended, reading.clockNs) ? 1 : 0;
      }
    }
    const known = samples > 0;
    if (known) this.clock.adopt(bounds);
    // The way is slower than the node published: ask for more.
    else this.publishNs = Math.min(2 * this.publishNs, MOST_PUBLISH_NS);
    return known;
  }

  /** Go on in the background. Rounds that fail make the bounds wider, no more. Does not keep the process alive. */
  run(): void {
    if (this.stopped) return;
    this.timer = setTimeout(() => {
      this.round().then(
        () => this.run(),
        () => this.run(),
      );
    }, this.options.intervalMs);
    this.timer.unref();
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
  }
}
