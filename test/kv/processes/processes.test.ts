import { expect, test } from 'vitest';
import type { Mutant } from './mutants.js';
import { type Result, run } from './run.js';

function expectRight(result: Result, seed: number): void {
  const shown = result.wrong.map((key) => [key, result.histories.get(key)]);
  expect(shown, `seed ${seed}`).toEqual([]);
  expect(result.lost, `seed ${seed}`).toEqual([]);
}

test('clients that are killed and stopped while the table grows', { timeout: 120_000 }, async () => {
  let hot = 0;
  for (const seed of [1, 2, 3]) {
    const result = await run({ seed, ms: 6000 });
    expectRight(result, seed);
    expect(result.kills).toBeGreaterThan(3);
    expect(result.pauses).toBeGreaterThan(0);
    expect(result.subtables).toBeGreaterThan(4);
    for (const history of result.histories.values()) if (history.length > 4) hot++;
  }
  expect(hot).toBeGreaterThan(100);
});

test.each<Mutant>(['blind', 'stale'])(
  'a build that is %s is caught',
  { timeout: 120_000 },
  async (mutant) => {
    let caught = false;
    for (let seed = 1; !caught && seed <= 10; seed++) {
      const { wrong, lost } = await run({ seed, ms: 2500, mutant });
      caught = wrong.length > 0 || lost.length > 0;
    }
    expect(caught).toBe(true);
  },
);
