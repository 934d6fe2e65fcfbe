/** A timer of the event loop is late by up to this; what is nearer is waited for by turning the loop. */
const TIMER_SLACK_MS = 2;
/** An aborted wait ends within this. */
const MAX_SLEEP_MS = 50;

/** Lets operations begin at their time in a schedule of evenly spaced starts. */
export class Pacer {
  readonly #startMs: number;
  readonly #intervalMs: number;
  #issued = 0;
  #last: Promise<void> = Promise.resolve();

  /** @param startMs the first start, in performance.now() time */
  constructor(ratePerSecond: number, startMs: number) {
    this.#intervalMs = 1000 / ratePerSecond;
    this.#startMs = startMs;
  }

  /** Takes the next place in the schedule: the time at which an operation is meant to start. */
  next(): number {
    const startMs = this.#startMs + this.#issued * this.#intervalMs;
    this.#issued += 1;
    return startMs;
  }

  /**
   * Waits until a time that `next` gave, not at all if it has passed. To be called in the order of the times: so only
   * the first in the queue has to watch the clock. False if `signal` ended the wait.
   */
  async until(startMs: number, signal: AbortSignal): Promise<boolean> {
    if (performance.now() < startMs) {
      this.#last = this.#wait(this.#last, startMs, signal);
      await this.#last;
    }
    return !signal.aborted;
  }

  async #wait(previous: Promise<void>, startMs: number, signal: AbortSignal): Promise<void> {
    await previous;
    while (!signal.aborted) {
      const restMs = startMs - performance.now();
      if (restMs <= 0) return;
      if (restMs > TIMER_SLACK_MS) await sleep(Math.min(restMs - TIMER_SLACK_MS, MAX_SLEEP_MS));
      else await turn();
    }
  }
}

/** One turn of the event loop: timers, sockets and signals get their chance. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
