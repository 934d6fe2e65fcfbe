import { type CompletionChannel, nowNs } from '../../native/index.js';

/** The longest sleep, ns: bounds how long the end of the process waits for this thread. */
const LONGEST_SLEEP_NS = 100e6;
/** What a wake-up is taken to be late by before any was seen, and at least, ns. */
const LEAST_MARGIN_NS = 50e3;
/** What a thread stays awake for before a deadline, at most: to be awake helps little where processors are that busy. */
const MOST_MARGIN_NS = 2e6;
/** Of the margin, what it loses with each wake-up that was not half as late. */
const DECAY = 1 / 256;

/**
 * The sleep of a thread that has to be awake at a deadline. Operating systems wake threads late, one in a hundred
 * by a multiple of the usual; how late is learnt: the margin is a slowly falling maximum of what was seen.
 */
export class Sleeper {
  private readonly channel: Pick<CompletionChannel, 'wait'>;
  private readonly nowNs: () => number;
  private marginNs = LEAST_MARGIN_NS;

  constructor(channel: Pick<CompletionChannel, 'wait'>, clock = nowNs) {
    this.channel = channel;
    this.nowNs = clock;
  }

  /** Until the channel is signalled or the deadline is near. */
  sleep(deadlineNs: number): void {
    const now = this.nowNs();
    const ns = Math.min(deadlineNs - now - this.marginNs, LONGEST_SLEEP_NS);
    if (ns <= 0 || this.channel.wait(ns)) return;
    const lateNs = this.nowNs() - now - ns;
    if (lateNs > this.marginNs) this.marginNs = Math.min(lateNs, MOST_MARGIN_NS);
    else if (lateNs < this.marginNs / 2) this.marginNs -= (this.marginNs - LEAST_MARGIN_NS) * DECAY;
  }
}
