import { expect, it } from 'vitest';
import { parseWrk } from '../../scripts/bench/http.js';
import { formatComparisons, median, ratios, spread } from '../../scripts/bench/report.js';
import { compare } from '../../scripts/bench/runner.js';

it('has medians, spreads and ratios to the first contender', () => {
  expect(median([5])).toBe(5);
  expect(median([9, 1, 5])).toBe(5);
  expect(median([1, 9, 5, 3])).toBe(4);
  expect(() => median([])).toThrow(RangeError);
  expect(spread([90, 100, 120])).toBeCloseTo(0.3);
  const comparison = {
    title: 'puts',
    measurements: [
      { contender: 'base', opsPerSecond: [1000, 1100, 900] },
      { contender: 'ours', opsPerSecond: [2000, 1500, 1400] },
    ],
  };
  expect(ratios(comparison)).toEqual([1, 1.5]);
  expect(formatComparisons([comparison]).split('\n')).toEqual([
    'puts',
    '        runs  median/s  spread  ratio',
    '  base     3     1,000  20.0 %  1.000',
    '  ours     3     1,500  40.0 %  1.500',
  ]);
});

it('runs the contenders in turns, after one round that does not count', async () => {
  const order: string[] = [];
  const contender = (name: string) => ({
    name,
    run: async (seconds: number) => {
      order.push(`${name} ${seconds}`);
      return order.length;
    },
  });
  const { measurements } = await compare('x', [contender('A'), contender('B')], { seconds: 5, rounds: 2 });
  expect(order).toEqual(['A 1', 'B 1', 'A 5', 'B 5', 'A 5', 'B 5']);
  expect(measurements).toEqual([
    { contender: 'A', opsPerSecond: [3, 5] },
    { contender: 'B', opsPerSecond: [4, 6] },
  ]);
});

const WRK = `Running 1s test @ http://127.0.0.1:1
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.02ms  300.00us   9.00ms   90.00%
    Req/Sec    31.00k     1.00k   33.00k    80.00%
  31000 requests in 1.00s, 5.00MB read
`;

it('reads the rate that wrk prints, and refuses one with failed requests', () => {
  expect(parseWrk(`${WRK}Requests/sec:  30987.65\nTransfer/sec:      5.00MB\n`)).toBe(30987.65);
  expect(() => parseWrk(`${WRK}  Non-2xx or 3xx responses: 7\nRequests/sec:  30987.65\n`)).toThrow(
    'responses: 7',
  );
  const broken = `${WRK}  Socket errors: connect 0, read 3, write 0, timeout 0\nRequests/sec:  1.00\n`;
  expect(() => parseWrk(broken)).toThrow('read 3');
  expect(() => parseWrk(WRK)).toThrow('no rate');
});
