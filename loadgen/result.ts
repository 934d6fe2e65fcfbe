import type { LatencySummary } from './latency.js';
import type { RunSettings } from './options.js';
import type { OperationType } from './workload.js';

export interface ErrorCount {
  readonly code: string;
  readonly count: number;
  /** Of the first error with this code. */
  readonly message: string;
}

/** One type of operation in one phase. */
export interface OperationResult {
  /** Operations that succeeded: only these count for throughput and latency. */
  readonly operations: number;
  readonly opsPerSecond: number;
  readonly latency: LatencySummary;
  /** Reads that did not find their record. */
  readonly misses: number;
  /** Reads that got bytes which nobody wrote for this key. */
  readonly corrupt: number;
  /** Reads that got a value which a later, acknowledged write had replaced before the read began. */
  readonly stale: number;
  /** Operations that the store failed. */
  readonly errors: readonly ErrorCount[];
}

export interface PhaseResult {
  readonly elapsedSeconds: number;
  readonly operations: number;
  readonly opsPerSecond: number;
  readonly byType: Readonly<Partial<Record<OperationType, OperationResult>>>;
}

export interface RunResult {
  /** No misses, no corrupt or stale values, no errors. */
  readonly ok: boolean;
  /** The run's signal ended it early. */
  readonly interrupted: boolean;
  readonly settings: RunSettings;
  /** Left out without a load phase. */
  readonly load?: PhaseResult;
  /** Left out if the load phase failed or was interrupted. */
  readonly run?: PhaseResult;
  /** The first misses, corrupt and stale reads, in words. */
  readonly findings: readonly string[];
}

/** How a phase is going. */
export interface Progress {
  readonly phase: 'load' | 'run';
  readonly elapsedSeconds: number;
  /** Operations that succeeded so far. */
  readonly operations: number;
  /** Misses, corrupt and stale reads and errors so far. */
  readonly failures: number;
  /** Of the operations since the last progress. */
  readonly opsPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
}
