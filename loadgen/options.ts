import { DISTRIBUTIONS, type DistributionName } from './distribution.js';
import type { Progress } from './result.js';
import type { Store } from './store.js';
import { MAX_VALUE_BYTES, MIN_VALUE_BYTES } from './values.js';
import { WORKLOADS, type WorkloadName } from './workload.js';

export const MAX_RECORDS = 100_000_000;
export const MAX_CONCURRENCY = 4096;

export interface RunOptions {
  /** Stays open after the run; its owner closes it. */
  readonly store: Store;
  readonly workload: WorkloadName;
  /** Records that the load phase writes and the run phase chooses from. Default 100000. */
  readonly records?: number;
  /** Default true. False: the records are there, from an earlier run with the same or more `records`. */
  readonly load?: boolean;
  /** End of the run phase: after so many operations. */
  readonly operations?: number;
  /** End of the run phase: after so many seconds. Default 10, if `operations` is not given either. */
  readonly seconds?: number;
  /** Bytes of a value, 16 .. 16 MiB. Default 100. */
  readonly valueBytes?: number;
  /** Operations in flight. Default 1. */
  readonly concurrency?: number;
  /** Default zipfian. */
  readonly distribution?: DistributionName;
  /**
   * Operations per second of the run phase, started on schedule; latency then counts from the scheduled start, also of
   * operations that a slow answer held up; those that are due but not begun at the end do not count. Default: as fast as the answers come, latency from the actual start.
   */
  readonly rate?: number;
  /** Of the choice of operations and records; default 1. */
  readonly seed?: number;
  /** Ends the run early: what is in flight is waited for, nothing more is begun. */
  readonly signal?: AbortSignal;
  /** Called once a second in each phase. */
  readonly onProgress?: (progress: Progress) => void;
}

/** The options that a result reports, with their defaults. */
export interface RunSettings {
  readonly workload: WorkloadName;
  readonly records: number;
  readonly load: boolean;
  readonly operations?: number;
  readonly seconds?: number;
  readonly valueBytes: number;
  readonly concurrency: number;
  readonly distribution: DistributionName;
  readonly rate?: number;
  readonly seed: number;
}

/** Fills in the defaults. Throws a RangeError for a value out of its range. */
export function settingsOf(options: Omit<RunOptions, 'store'>): RunSettings {
  const { workload, distribution = 'zipfian', load = true, rate, operations, seconds } = options;
  oneOf('workload', workload, WORKLOADS);
  oneOf('distribution', distribution, DISTRIBUTIONS);
  if (operations !== undefined && seconds !== undefined) {
    throw new RangeError('operations and seconds exclude each other');
  }
  if (rate !== undefined) positive('rate', rate);
  return {
    workload,
    distribution,
    load,
    records: integer('records', options.records ?? 100_000, 1, MAX_RECORDS),
    valueBytes: integer('valueBytes', options.valueBytes ?? 100, MIN_VALUE_BYTES, MAX_VALUE_BYTES),
    concurrency: integer('concurrency', options.concurrency ?? 1, 1, MAX_CONCURRENCY),
    seed: integer('seed', options.seed ?? 1, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
    ...(operations === undefined
      ? { seconds: positive('seconds', seconds ?? 10) }
      : { operations: integer('operations', operations, 1, Number.MAX_SAFE_INTEGER) }),
    ...(rate !== undefined && { rate }),
  };
}

function integer(name: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`${name} must be an integer from ${min} to ${max}, not ${value}`);
  }
  return value;
}

function positive(name: string, value: number): number {
  if (!Number.isFinite(value) || value <= 0) throw new RangeError(`${name} must be positive, not ${value}`);
  return value;
}

function oneOf(name: string, value: string, values: readonly string[]): void {
  if (!values.includes(value))
    throw new RangeError(`${name} must be one of ${values.join(', ')}, not ${value}`);
}
