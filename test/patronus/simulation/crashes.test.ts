import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { calls } from './crash-calls.js';

interface Result {
  readonly deaths: number;
  /** For each way of each call: the steps that were behind a client when it died. */
  readonly result: Readonly<Record<string, readonly string[]>>;
}

const ONE_SIDED = /^(?:extend|read|write|cas|faa|createBatch) /;
const SENDS_NOTHING = / NoRpc$/;

test('a client that dies at any step of any call leaves nothing behind', async () => {
  const path = (name: string) => `${import.meta.dirname}/${name}.js`;
  // The seed is part of what it says when it fails.
  const args = ['--import', path('register'), path('crash-run'), process.env.PATRONUS_SEED ?? '1'];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 300_000 });
  const { result } = JSON.parse(stdout) as Result;
  const ways = Object.entries(calls).flatMap(([call, ways]) =>
    Object.keys(ways).map((way) => `${call} ${way}`),
  );
  expect(Object.keys(result)).toEqual(ways);
  for (const way of ways) {
    // The answer may be there before the request's own completion is.
    const steps = ['client left', 'client arrived'];
    if (!ONE_SIDED.test(way)) steps.push('node left', 'node arrived');
    const expected = SENDS_NOTHING.test(way) || way === 'close plain' ? [] : steps;
    expect(result[way], way).toEqual(expect.arrayContaining([...expected, 'answered']));
  }
  expect(Object.values(result).flat()).toEqual(
    expect.arrayContaining(['client completed', 'node completed']),
  );
}, 310_000);
