import { expect, it } from 'vitest';
import { createHistogram, LatencyRecorder, percentileUs } from '../../loadgen/latency.js';

it('has the percentiles of what was recorded, short and long', () => {
  const recorder = new LatencyRecorder();
  // 1 us .. 1000 us in steps of 1 us, across the bound between the two ways of counting.
  for (let us = 1; us <= 1000; us += 1) recorder.record(us * 1000);
  recorder.record(20_000_000_000);
  const summary = recorder.summary();
  const near = (actual: number, expected: number): void =>
    expect(Math.abs(actual / expected - 1)).toBeLessThan(0.003);
  near(summary.p50Us, 501);
  near(summary.p90Us, 901);
  near(summary.p99Us, 991);
  near(summary.p999Us, 1000);
  near(summary.maxUs, 20_000_000);
  near(summary.meanUs, (500_500 + 20_000_000) / 1001);
});

it('hands out recent latencies once and keeps them in the summary', () => {
  const recorder = new LatencyRecorder();
  recorder.record(5000);
  recorder.record(-1);
  const first = createHistogram();
  recorder.take(first);
  expect(first.totalCount).toBe(2);
  recorder.record(7000);
  const second = createHistogram();
  recorder.take(second);
  expect(second.totalCount).toBe(1);
  expect(percentileUs(second, 50)).toBe(7);
  expect(recorder.summary().maxUs).toBe(7);
  expect(recorder.summary().p50Us).toBeCloseTo(5, 1);
});

it('reports zeroes without latencies', () => {
  expect(percentileUs(createHistogram(), 99)).toBe(0);
  expect(new LatencyRecorder().summary().maxUs).toBe(0);
});
