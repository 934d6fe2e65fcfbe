import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { Holding } from './lock-process.js';
import { withNode } from './population.js';

/** Every line that is whole. */
function holdings(path: string): Holding[] {
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Holding);
}

/** Takes the lock with some clients; who held it one after the other, and who held it at the same time. */
async function contend(exclusive: boolean, ms: number) {
  return withNode(false, async (_address, population) => {
    const module = 'lock-process.js';
    await population.live({ module, options: { exclusive }, seed: 1, clients: 3, ms, pauses: true });
    const all = population.logs.flatMap(holdings);
    const conflicts = all.filter(({ broken }) => broken).map(({ holder }) => `${holder} was overwritten`);
    const byHolder = new Map<string, { since: number; until: number }>();
    // The last line of a holder has the latest moment.
    for (const { holder, since, until } of all) byHolder.set(holder, { since, until });
    const inOrder = [...byHolder].sort(([, a], [, b]) => a.since - b.since);
    for (const [i, [holder, { until }]] of inOrder.entries()) {
      const next = inOrder[i + 1];
      if (next !== undefined && next[1].since <= until) conflicts.push(`${holder} and ${next[0]}`);
    }
    return { holders: inOrder.length, conflicts };
  });
}

test('no two clients hold a lock of splits, whoever stops or dies', { timeout: 120_000 }, async () => {
  const { holders, conflicts } = await contend(true, 5000);
  expect(conflicts).toEqual([]);
  expect(holders).toBeGreaterThan(20);
});

test('a lock that excludes nobody is caught', { timeout: 120_000 }, async () => {
  const { conflicts } = await contend(false, 1500);
  expect(conflicts).not.toEqual([]);
});
