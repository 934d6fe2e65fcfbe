import type { RunSettings } from './options.js';
import type { OperationResult, PhaseResult, Progress, RunResult } from './result.js';

/** One line: phase, elapsed, operations, rate and latency of the last second. */
export function formatProgress(progress: Progress): string {
  return [
    progress.phase.padEnd(4),
    `${progress.elapsedSeconds.toFixed(0).padStart(4)} s`,
    `${count(progress.operations).padStart(12)} ops`,
    `${count(progress.opsPerSecond).padStart(10)} ops/s`,
    `p50 ${microseconds(progress.p50Us)} us`,
    `p99 ${microseconds(progress.p99Us)} us`,
    ...(progress.failures > 0 ? [`failures ${count(progress.failures)}`] : []),
  ].join('  ');
}

/** The summary of a run, several lines without a line end at the last. */
export function formatResult(result: RunResult): string {
  const lines = [describe(result.settings)];
  if (result.load) lines.push('', ...formatPhase('load', result.load));
  if (result.run) lines.push('', ...formatPhase('run', result.run));
  if (result.findings.length > 0) {
    lines.push('', 'first bad reads:', ...result.findings.map((line) => `  ${line}`));
  }
  lines.push('', verdict(result));
  return lines.join('\n');
}

function describe(settings: RunSettings): string {
  return [
    `workload ${settings.workload}`,
    settings.distribution,
    `${count(settings.records)} records of ${count(settings.valueBytes)} bytes`,
    `concurrency ${settings.concurrency}`,
    ...(settings.rate === undefined ? [] : [`${count(settings.rate)} ops/s wanted`]),
    `seed ${settings.seed}`,
  ].join(', ');
}

const COLUMNS = ['operations', 'ops/s', 'mean', 'p50', 'p90', 'p99', 'p99.9', 'max'];

function formatPhase(name: string, phase: PhaseResult): string[] {
  const seconds = phase.elapsedSeconds.toFixed(2);
  const types = Object.entries(phase.byType);
  return [
    `${name}: ${count(phase.operations)} operations in ${seconds} s, ${count(phase.opsPerSecond)} ops/s; latency in us:`,
    `  ${''.padEnd(6)}${COLUMNS.map((column) => column.padStart(12)).join('')}`,
    ...types.map(([type, result]) => `  ${type.padEnd(6)}${row(result)}`),
    ...types.flatMap(([type, result]) => failures(type, result)),
  ];
}

function row({ operations, opsPerSecond, latency }: OperationResult): string {
  const latencies = [
    latency.meanUs,
    latency.p50Us,
    latency.p90Us,
    latency.p99Us,
    latency.p999Us,
    latency.maxUs,
  ];
  return [count(operations), count(opsPerSecond), ...latencies.map((us) => microseconds(us).trim())]
    .map((cell) => cell.padStart(12))
    .join('');
}

function failures(type: string, result: OperationResult): string[] {
  const kinds = [
    ['misses', result.misses],
    ['corrupt', result.corrupt],
    ['stale', result.stale],
  ] as const;
  return [
    ...kinds.filter(([, times]) => times > 0).map(([kind, times]) => `  ${type} ${kind}: ${count(times)}`),
    ...result.errors.map(
      (error) => `  ${type} errors: ${count(error.count)} ${error.code} (${error.message})`,
    ),
  ];
}

function verdict(result: RunResult): string {
  const state = result.interrupted ? 'interrupted, ' : '';
  if (!result.ok && result.run === undefined) {
    return `FAILED: ${state}not all records could be loaded, so the workload was not run`;
  }
  if (!result.ok) return `FAILED: ${state}see above`;
  const verified = result.run?.byType.read?.operations ?? 0;
  return `ok: ${state}no errors, ${count(verified)} reads verified`;
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

function microseconds(us: number): string {
  return (us < 100 ? us.toFixed(2) : us.toFixed(0)).padStart(8);
}
