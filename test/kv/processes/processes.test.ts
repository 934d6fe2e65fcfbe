import { expect, test } from 'vitest';
import type { KvProtection } from '../../../kv/api.js';
import type { Mutant } from './mutants.js';
import { type Result, run } from './run.js';

function expectRight(result: Result, seed: number): void {
  const shown = result.wrong.map((key) => [key, result.histories.get(key)]);
  expect(shown, `seed ${seed}`).toEqual([]);
  expect(result.lost, `seed ${seed}`).toEqual([]);
}

/** Seeds with which clients are killed, and stopped, early in the run. */
test.each<{ protection: KvProtection; seed: number }>([
  { protection: 'region', seed: 5 },
  { protection: 'block', seed: 6 },
  { protection: 'mr', seed: 8 },
  { protection: 'none', seed: 9 },
])(
  'clients that are killed and stopped while the table grows, protected by $protection',
  { timeout: 120_000 },
  async ({ protection, seed }) => {
    const result = await run({ seed, ms: 3000, protection });
    expectRight(result, seed);
    // Those that are left in the end are killed too.
    expect(result.kills).toBeGreaterThan(3);
    if (protection !== 'none') expect(result.pauses).toBeGreaterThan(0);
    expect(result.subtables).toBeGreaterThan(1);
    const busy = [...result.histories.values()].filter(({ length }) => length > 4);
    expect(busy.length).toBeGreaterThan(3);
  },
);

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
