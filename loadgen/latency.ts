import { build, type Histogram } from 'hdr-histogram-js';

/** Latencies in microseconds. */
export interface LatencySummary {
  readonly meanUs: number;
  readonly p50Us: number;
  readonly p90Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  readonly maxUs: number;
}

/** Below this, latencies in ns are counted in a flat array: a twentieth of the time that the histogram takes. */
const FLAT_NS = 1 << 16;

export function createHistogram(): Histogram {
  return build({ numberOfSignificantValueDigits: 3 });
}

/** Records latencies in nanoseconds: those since the last {@link take}, and all of them. */
export class LatencyRecorder {
  readonly #flat = new Uint32Array(FLAT_NS);
  readonly #recent = createHistogram();
  readonly #total = createHistogram();

  /** @param ns an integer, negative ones count as 0 */
  record(ns: number): void {
    if (ns < FLAT_NS) {
      const at = Math.max(ns, 0);
      this.#flat[at] = this.#flat[at]! + 1;
    } else {
      this.#recent.recordValue(ns);
    }
  }

  /** Adds what was recorded since the last call to `histogram`. */
  take(histogram: Histogram): void {
    this.#settle(histogram);
  }

  summary(): LatencySummary {
    this.#settle(undefined);
    const total = this.#total;
    return {
      meanUs: us(total.mean),
      p50Us: percentileUs(total, 50),
      p90Us: percentileUs(total, 90),
      p99Us: percentileUs(total, 99),
      p999Us: percentileUs(total, 99.9),
      maxUs: us(total.maxValue),
    };
  }

  #settle(histogram: Histogram | undefined): void {
    const flat = this.#flat;
    for (let ns = 0; ns < FLAT_NS; ns += 1) {
      if (flat[ns] !== 0) this.#recent.recordValueWithCount(ns, flat[ns]!);
    }
    flat.fill(0);
    histogram?.add(this.#recent);
    this.#total.add(this.#recent);
    this.#recent.reset();
  }
}

/** A percentile of a histogram of nanoseconds; 0 if it is empty. */
export function percentileUs(histogram: Histogram, percentile: number): number {
  if (histogram.totalCount === 0) return 0;
  // A percentile is the upper end of its bucket, which can lie above the maximum.
  return us(Math.min(histogram.getValueAtPercentile(percentile), histogram.maxValue));
}

function us(ns: number): number {
  return Math.round(ns) / 1000;
}
