/** The load generator as a library: `runWorkload` on any store with get and put. */
export { DISTRIBUTIONS, type DistributionName } from './distribution.js';
export { HttpStatusError, HttpStore, type HttpStoreOptions } from './drivers/http.js';
export type { LatencySummary } from './latency.js';
export type { RunOptions, RunSettings } from './options.js';
export { formatProgress, formatResult } from './report.js';
export type { ErrorCount, OperationResult, PhaseResult, Progress, RunResult } from './result.js';
export { runWorkload } from './runner.js';
export type { Store } from './store.js';
export { type OperationType, WORKLOADS, type WorkloadName } from './workload.js';
