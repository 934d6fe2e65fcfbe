import type { Histogram } from 'hdr-histogram-js';
import { LatencyRecorder } from './latency.js';
import type { ErrorCount, OperationResult } from './result.js';

/** Distinct error codes that are kept apart; further ones count as "other". */
const MAX_ERROR_CODES = 32;

/** Counts what became of the operations of one type in one phase. */
export class Tally {
  readonly #latency = new LatencyRecorder();
  readonly #errors = new Map<string, { count: number; message: string }>();
  #operations = 0;
  #failures = 0;
  misses = 0;
  corrupt = 0;
  stale = 0;

  get operations(): number {
    return this.#operations;
  }

  get failures(): number {
    return this.misses + this.corrupt + this.stale + this.#failures;
  }

  succeeded(latencyNs: number): void {
    this.#operations += 1;
    this.#latency.record(latencyNs);
  }

  failed(error: unknown): void {
    this.#failures += 1;
    const code = errorCode(error);
    let entry = this.#errors.get(code);
    if (entry === undefined) {
      const key = this.#errors.size < MAX_ERROR_CODES ? code : 'other';
      entry = this.#errors.get(key) ?? { count: 0, message: errorMessage(error) };
      this.#errors.set(key, entry);
    }
    entry.count += 1;
  }

  /** Adds the latencies since the last call to `histogram`. */
  takeLatencies(histogram: Histogram): void {
    this.#latency.take(histogram);
  }

  result(elapsedSeconds: number): OperationResult {
    const errors: ErrorCount[] = [...this.#errors].map(([code, entry]) => ({ code, ...entry }));
    return {
      operations: this.#operations,
      opsPerSecond: elapsedSeconds > 0 ? this.#operations / elapsedSeconds : 0,
      latency: this.#latency.summary(),
      misses: this.misses,
      corrupt: this.corrupt,
      stale: this.stale,
      errors: errors.sort((x, y) => y.count - x.count),
    };
  }
}

/** The error's `code`, else its name. */
export function errorCode(error: unknown): string {
  if (!(error instanceof Error)) return 'UNKNOWN';
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' ? code : error.name;
}

export function errorMessage(error: unknown): string {
  // Node.js reports a refused connection to a name with several addresses without a message.
  return error instanceof Error ? error.message || errorCode(error) : String(error);
}
