import { cpus } from 'node:os';

/** What one contender did in each of its runs, in operations per second. */
export interface Measurement {
  readonly contender: string;
  readonly opsPerSecond: readonly number[];
}

/** Contenders measured in turns with the same load. The first is the baseline of the ratios. */
export interface Comparison {
  readonly title: string;
  readonly measurements: readonly Measurement[];
}

export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('the median of nothing');
  const sorted = [...values].sort((x, y) => x - y);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Distance of the extremes as a fraction of the median. */
export function spread(values: readonly number[]): number {
  return (Math.max(...values) - Math.min(...values)) / median(values);
}

/** The medians' ratios to the baseline's. */
export function ratios(comparison: Comparison): number[] {
  const medians = comparison.measurements.map(({ opsPerSecond }) => median(opsPerSecond));
  return medians.map((value) => value / medians[0]!);
}

/** The machine: without it no figure means anything. */
export function formatMachine(): string {
  const processors = cpus();
  return `${processors.length} cores, ${processors[0]?.model.trim() ?? 'unknown processor'}, Node.js ${process.version}`;
}

const HEADER = ['', 'runs', 'median/s', 'spread', 'ratio'];

/** A table with a row for each contender, a blank line between comparisons. */
export function formatComparisons(comparisons: readonly Comparison[]): string {
  return comparisons.map(formatComparison).join('\n\n');
}

function formatComparison(comparison: Comparison): string {
  const ratio = ratios(comparison);
  const rows = comparison.measurements.map(({ contender, opsPerSecond }, i) => [
    contender,
    String(opsPerSecond.length),
    Math.round(median(opsPerSecond)).toLocaleString('en-US'),
    `${(spread(opsPerSecond) * 100).toFixed(1)} %`,
    ratio[i]!.toFixed(3),
  ]);
  return formatTable(comparison.title, [HEADER, ...rows]);
}

/** A title and rows of cells, of which the first is the header; the first column to the left, the others to the right. */
export function formatTable(title: string, table: readonly (readonly string[])[]): string {
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  const lines = table.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join('  '),
  );
  return [title, ...lines.map((line) => `  ${line}`)].join('\n');
}
