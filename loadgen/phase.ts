import { createHistogram, percentileUs } from './latency.js';
import { Pacer, turn } from './pacer.js';
import type { PhaseResult, Progress } from './result.js';
import { Tally } from './tally.js';
import type { OperationType } from './workload.js';

const PROGRESS_MS = 1000;
/**
 * A store that answers without leaving the thread keeps the event loop from turning, as its promises are resolved
 * already. So the loops stand still this often, for timers and signals.
 */
const TURN_MS = 5;

export interface PhaseOptions {
  readonly name: 'load' | 'run';
  readonly operations: number;
  readonly seconds?: number;
  readonly rate?: number | undefined;
  readonly concurrency: number;
  readonly signal: AbortSignal;
  readonly onProgress: ((progress: Progress) => void) | undefined;
}

/**
 * One operation in flight after the other, each of which ends with exactly one of the calls after `begin`, and is
 * counted there in a tally of the phase.
 */
export interface Slot {
  /** When the last operation ended, in performance.now() time. */
  readonly endMs: number;
  /** Chooses an operation and begins it. `startMs`: its start in the schedule; 0: it is now. */
  begin(startMs: number): Promise<unknown>;
  /** What the promise resolved to. */
  succeeded(answer: unknown): void;
  /** What it rejected with, or what `begin` threw. */
  failed(error: unknown): void;
}

/** A number of loops, each with a slot of its own, until a limit is reached. */
export class Phase {
  readonly #options: PhaseOptions;
  readonly #tallies = new Map<OperationType, Tally>();
  #startMs = 0;
  #endMs = 0;
  #deadlineMs = Number.POSITIVE_INFINITY;
  #left: number;
  #pacer: Pacer | undefined;
  #turnedMs = 0;
  #turning: Promise<void> | undefined;
  #reportedMs = 0;
  #reportedOperations = 0;

  constructor(options: PhaseOptions) {
    this.#options = options;
    this.#left = options.operations;
  }

  /** The tally of a type of operation; made at the first call. */
  tally(type: OperationType): Tally {
    let tally = this.#tallies.get(type);
    if (tally === undefined) {
      tally = new Tally();
      this.#tallies.set(type, tally);
    }
    return tally;
  }

  get failures(): number {
    return this.#sum((tally) => tally.failures);
  }

  /** Resolves when everything that was begun is over. */
  async execute(createSlot: () => Slot): Promise<void> {
    const { seconds = Number.POSITIVE_INFINITY, rate, concurrency, onProgress } = this.#options;
    this.#startMs = performance.now();
    this.#deadlineMs = this.#startMs + seconds * 1000;
    this.#turnedMs = this.#startMs;
    this.#reportedMs = this.#startMs;
    if (rate !== undefined) this.#pacer = new Pacer(rate, this.#startMs);
    const timer = onProgress && setInterval(() => onProgress(this.#progress()), PROGRESS_MS);
    try {
      await Promise.all(Array.from({ length: concurrency }, () => this.#loop(createSlot())));
    } finally {
      clearInterval(timer);
    }
    this.#endMs = performance.now();
  }

  result(): PhaseResult {
    const elapsedSeconds = (this.#endMs - this.#startMs) / 1000;
    const operations = this.#sum((tally) => tally.operations);
    const byType: PhaseResult['byType'] = Object.fromEntries(
      [...this.#tallies]
        .filter(([, tally]) => tally.operations + tally.failures > 0)
        .map(([type, tally]) => [type, tally.result(elapsedSeconds)]),
    );
    return { elapsedSeconds, operations, opsPerSecond: operations / elapsedSeconds, byType };
  }

  async #loop(slot: Slot): Promise<void> {
    const { signal } = this.#options;
    while (this.#left > 0 && !signal.aborted) {
      this.#left -= 1;
      let startMs = 0;
      if (this.#pacer !== undefined) {
        startMs = this.#pacer.next();
        if (startMs >= this.#deadlineMs || !(await this.#pacer.until(startMs, signal))) return;
      }
      let answer: unknown;
      let failed = false;
      try {
        answer = await slot.begin(startMs);
      } catch (error) {
        failed = true;
        slot.failed(error);
      }
      if (!failed) slot.succeeded(answer);
      if (slot.endMs >= this.#deadlineMs) return;
      if (slot.endMs - this.#turnedMs > TURN_MS) {
        this.#turning ??= turn().then(() => {
          this.#turning = undefined;
          this.#turnedMs = performance.now();
        });
        await this.#turning;
      }
    }
  }

  #progress(): Progress {
    const nowMs = performance.now();
    const operations = this.#sum((tally) => tally.operations);
    const histogram = createHistogram();
    for (const tally of this.#tallies.values()) tally.takeLatencies(histogram);
    const progress: Progress = {
      phase: this.#options.name,
      elapsedSeconds: (nowMs - this.#startMs) / 1000,
      operations,
      failures: this.failures,
      opsPerSecond: ((operations - this.#reportedOperations) * 1000) / (nowMs - this.#reportedMs),
      p50Us: percentileUs(histogram, 50),
      p99Us: percentileUs(histogram, 99),
    };
    this.#reportedMs = nowMs;
    this.#reportedOperations = operations;
    return progress;
  }

  #sum(count: (tally: Tally) => number): number {
    let sum = 0;
    for (const tally of this.#tallies.values()) sum += count(tally);
    return sum;
  }
}
