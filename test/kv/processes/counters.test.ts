import { expect, test } from 'vitest';
import { createTable, openTable } from '../../../kv/index.js';
import { Patronus } from '../../../patronus/index.js';
import { bytesOf, textOf } from '../random.js';
import { Child } from './child.js';
import type { CountingPlan } from './counting-process.js';
import { withNode } from './population.js';

const PROCESSES = ['one', 'two', 'three'];
const COUNTERS = 3;
/** Of each process: the same number for each counter. */
const ADDITIONS = 960;

test('every addition of several processes counts once while the table grows', {
  timeout: 120_000,
}, async () => {
  await withNode(false, async (address) => {
    await using client = await Patronus.connect({ nodes: [{ nodeId: 0, address }] });
    await createTable(client, { groups: 2, termMs: 100 });
    const children = PROCESSES.map((name) => {
      const plan: CountingPlan = { address, name, counters: COUNTERS, additions: ADDITIONS };
      return new Child('counting-process.js', JSON.stringify(plan));
    });
    const results: { told: string[][]; splits: number }[] = [];
    try {
      await Promise.all(children.map(({ ready }) => ready));
      results.push(...((await Promise.all(children.map((child) => child.ask('go')))) as typeof results));
    } finally {
      await Promise.all(children.map((child) => child.kill()));
    }
    const total = (PROCESSES.length * ADDITIONS) / COUNTERS;
    await using kv = await openTable(client);
    for (let counter = 0; counter < COUNTERS; counter++) {
      const told = results.flatMap((result) => result.told[counter]!).map(Number);
      const counted = Array.from({ length: total }, (_, i) => i + 1);
      expect(told.sort((a, b) => a - b)).toEqual(counted);
      expect(textOf(await kv.get(bytesOf(`counter ${counter}`)))).toBe(String(total));
    }
    expect(results.reduce((sum, { splits }) => sum + splits, 0)).toBeGreaterThan(3);
  });
});
