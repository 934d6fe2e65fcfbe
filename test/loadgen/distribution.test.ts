import { describe, expect, it } from 'vitest';
import {
  createDistribution,
  scramble,
  Uniform,
  ZIPFIAN_CONSTANT,
  Zipfian,
} from '../../loadgen/distribution.js';
import { Random } from '../../loadgen/random.js';
import { Mix } from '../../loadgen/workload.js';

const SEEDS = [1, 2, 3];
const DRAWS = 400_000;

function draw(next: () => number, cells: number): Float64Array {
  const counts = new Float64Array(cells);
  for (let i = 0; i < DRAWS; i += 1) {
    const at = next();
    if (!Number.isInteger(at) || at < 0 || at >= cells) throw new RangeError(`drew ${at} of ${cells}`);
    counts[at]! += 1;
  }
  return counts;
}

function zipfianShares(records: number): Float64Array {
  const weights = Float64Array.from({ length: records }, (_, rank) => (rank + 1) ** -ZIPFIAN_CONSTANT);
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}

/** How many standard deviations the chi-square statistic is from its mean; cells expect enough draws to be normal. */
function chiSquareDeviation(counts: Float64Array, shares: Float64Array): number {
  let chiSquare = 0;
  for (let i = 0; i < counts.length; i += 1) {
    const expected = shares[i]! * DRAWS;
    chiSquare += (counts[i]! - expected) ** 2 / expected;
  }
  const freedom = counts.length - 1;
  return (chiSquare - freedom) / Math.sqrt(2 * freedom);
}

/** Head ranks one by one, the tail in cells of a growing number of ranks. */
function pooled(values: Float64Array): Float64Array {
  const cells: number[] = [];
  for (let from = 0, width = 1; from < values.length; from += width) {
    width = Math.max(1, Math.floor(from / 16));
    cells.push(values.subarray(from, from + width).reduce((sum, value) => sum + value, 0));
  }
  return Float64Array.from(cells);
}

describe.each(SEEDS)('seed %i', (seed) => {
  it.each([2, 3, 100, 100_000])('draws ranks of %i records zipfian', (records) => {
    const zipfian = new Zipfian(records, new Random(seed));
    const counts = draw(() => zipfian.next(), records);
    const shares = zipfianShares(records);
    expect(Math.abs(chiSquareDeviation(pooled(counts), pooled(shares)))).toBeLessThan(4);
    for (let rank = 0; rank < Math.min(records, 10); rank += 1) {
      expect(Math.abs(counts[rank]! / (shares[rank]! * DRAWS) - 1)).toBeLessThan(0.05);
    }
  });

  it('gives each record the frequency of its rank when scrambled', () => {
    const records = 1000;
    const scrambled = createDistribution('zipfian', records, new Random(seed));
    const counts = draw(() => scrambled.next(), records);
    const byRank = Float64Array.from({ length: records }, (_, rank) => counts[scramble(rank, records)]!);
    const shares = zipfianShares(records);
    expect(Math.abs(chiSquareDeviation(pooled(byRank), pooled(shares)))).toBeLessThan(4);
  });

  it('draws uniformly', () => {
    const records = 1000;
    const uniform = new Uniform(records, new Random(seed));
    const counts = draw(() => uniform.next(), records);
    expect(Math.abs(chiSquareDeviation(counts, new Float64Array(records).fill(1 / records)))).toBeLessThan(4);
  });

  it.each([
    ['a', 0.5],
    ['b', 0.95],
    ['c', 1],
  ] as const)('mixes workload %s', (workload, share) => {
    const mix = new Mix(workload, new Random(seed));
    let reads = 0;
    for (let i = 0; i < DRAWS; i += 1) reads += mix.nextIsRead() ? 1 : 0;
    const deviation = Math.sqrt(DRAWS * share * (1 - share));
    expect(Math.abs(reads - DRAWS * share)).toBeLessThanOrEqual(4 * deviation);
  });
});

it('repeats itself with the same seed only', () => {
  const sequence = (seed: number): number[] => {
    const distribution = createDistribution('zipfian', 10_000, new Random(seed));
    return Array.from({ length: 100 }, () => distribution.next());
  };
  expect(sequence(7)).toEqual(sequence(7));
  expect(sequence(7)).not.toEqual(sequence(8));
});

describe('scramble', () => {
  it.each([1, 2, 3, 5, 64, 1000, 65_537])('is a permutation of %i records', (records) => {
    const seen = new Set(Array.from({ length: records }, (_, rank) => scramble(rank, records)));
    expect(seen.size).toBe(records);
    expect(Math.min(...seen)).toBe(0);
    expect(Math.max(...seen)).toBe(records - 1);
  });

  it('spreads the popular records', () => {
    // Of 16 equal parts of the record numbers, the 256 most popular ranks should leave none nearly empty.
    const records = 100_000;
    const parts = new Array<number>(16).fill(0);
    for (let rank = 0; rank < 256; rank += 1)
      parts[Math.floor((scramble(rank, records) * 16) / records)]! += 1;
    expect(Math.min(...parts)).toBeGreaterThanOrEqual(4);
    expect(Math.max(...parts)).toBeLessThanOrEqual(32);
  });
});
