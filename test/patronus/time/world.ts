/** A simulated world for clock synchronisation: true time, two clocks, a clock page whose writer stalls, a slow way to it. */
import type { ClockReading, ClockSource } from '../../../patronus/time/synchronisation.js';

/** A clock that runs at some rate, which can change, and can be set. ns. */
export class SimClock {
  private base: number;
  private since = 0;
  private rate: number;

  constructor(base: number, ratePpm: number) {
    this.base = base;
    this.rate = 1 + ratePpm / 1e6;
  }

  at(time: number): number {
    return this.base + (time - this.since) * this.rate;
  }

  /** Run at another rate from `time` on. */
  steer(time: number, ratePpm: number): void {
    this.base = this.at(time);
    this.since = time;
    this.rate = 1 + ratePpm / 1e6;
  }

  jump(byNs: number): void {
    this.base += byNs;
  }
}

export interface WorldOptions {
  readonly random: () => number;
  readonly node: SimClock;
  readonly client: SimClock;
  /** How often, of 1, a step on the way or of the writer takes milliseconds instead of microseconds. */
  readonly stalls: number;
}

/** One client and one node. Time passes only where something is done. */
export class World implements ClockSource {
  /** True time, ns. */
  time = 0;
  readonly node: SimClock;
  readonly client: SimClock;
  private readonly random: () => number;
  private readonly stalls: number;
  private page: ClockReading | undefined;
  private number = 0;
  private untilNs = 0;
  /** The writer: when it looks at its clock next, and when it writes what it saw. */
  private looksAt = Number.POSITIVE_INFINITY;
  private writesAt = Number.POSITIVE_INFINITY;

  constructor(options: WorldOptions) {
    this.random = options.random;
    this.node = options.node;
    this.client = options.client;
    this.stalls = options.stalls;
  }

  readonly clientNow = (): number => this.client.at(this.time);

  /** A step takes its time: some microseconds, or a stall. */
  pass(): void {
    this.time += this.step();
  }

  async publish(durationNs: number): Promise<void> {
    this.pass();
    this.write();
    this.untilNs = this.node.at(this.time) + durationNs;
    if (this.looksAt === Number.POSITIVE_INFINITY) this.schedule(this.time);
    this.pass();
  }

  read(): ClockReading | undefined {
    this.pass();
    this.write();
    const { page } = this;
    this.pass();
    return page;
  }

  /** Let the writer do all that it did until now. */
  private write(): void {
    while (this.writesAt <= this.time) {
      const clockNs = this.node.at(this.looksAt);
      this.page = { clockNs, number: ++this.number };
      if (clockNs < this.untilNs) this.schedule(this.writesAt);
      else this.looksAt = this.writesAt = Number.POSITIVE_INFINITY;
    }
  }

  private schedule(from: number): void {
    this.looksAt = from + this.step() / 4;
    this.writesAt = this.looksAt + this.step() / 4;
  }

  private step(): number {
    return this.random() < this.stalls ? this.random() * 5e6 : 200 + this.random() * 4000;
  }
}
