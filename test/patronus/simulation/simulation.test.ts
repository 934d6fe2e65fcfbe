import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const RUNS = 10;
const STEPS = 100_000;
const AT_ONCE = 2;
/** Others than the suite's: PATRONUS_SEED=12345 npx vitest run dist/test/patronus/simulation */
const FIRST_SEED = Number(process.env.PATRONUS_SEED ?? 1);

interface Result {
  /** Of the memory node. */
  readonly directories: number;
  readonly steps: number;
  readonly operations: number;
  /** One-sided accesses to data that were let through. */
  readonly accepted: number;
  /** Looks at a lock that was held. */
  readonly held: number;
  readonly cuts: number;
  readonly kills: number;
  readonly crashes: number;
}

/** A run in a process of its own. The same seed does the same: what failed can be looked at again. */
async function run(seed: number, steps: number, ...mutant: string[]): Promise<Result> {
  const path = (name: string) => `${import.meta.dirname}/${name}.js`;
  const args = ['--import', path('register'), path('run'), String(seed), String(steps), ...mutant];
  // What it says on stderr, the seed and the step, is part of the error.
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 300_000 });
  return JSON.parse(stdout) as Result;
}

test('clients and a memory node through delays, cuts, crashes and clock errors: a million steps', async () => {
  const seeds = Array.from({ length: RUNS }, (_, i) => FIRST_SEED + i);
  const results: Result[] = [];
  const worker = async () => {
    for (let seed = seeds.shift(); seed !== undefined; seed = seeds.shift())
      results.push(await run(seed, STEPS));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  const sum = (name: keyof Result) => results.reduce((total, result) => total + result[name], 0);
  expect(sum('steps')).toBeGreaterThanOrEqual(RUNS * STEPS);
  expect(new Set(results.map(({ directories }) => directories))).toEqual(new Set([1, 2, 3]));
  // All of what it is about has happened.
  for (const name of ['operations', 'accepted', 'held', 'cuts', 'kills', 'crashes'] as const) {
    expect(sum(name), name).toBeGreaterThan(0);
  }
}, 600_000);

test('a seed says what happens', async () => {
  const [one, again, other] = await Promise.all([run(44, 10_000), run(44, 10_000), run(43, 10_000)]);
  expect(again).toEqual(one);
  expect(other).not.toEqual(one);
}, 310_000);

test('directories with a lock table each are found out', async () => {
  await expect(run(10, 10_000, 'own-locks')).rejects.toThrow(/seed 10, step \d+: lock \d has 2 holders/);
}, 310_000);
