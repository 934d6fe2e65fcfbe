import { describe, expect, test, vi } from 'vitest';
import type { Collector } from '../../kv/collector.js';
import { TableContext } from '../../kv/context.js';
import { createTable } from '../../kv/create.js';
import { MAX_MEMBERS, PIECE_BYTES, SB_MEMBERS_OFFSET } from '../../kv/layout.js';
import { Table } from '../../kv/table.js';
import { fakeNode, jumpingTogether } from './fake-patronus.js';
import { bytesOf, seeds } from './random.js';
import { codes, expectAllLinearizable, type Run, run, type Setup } from './runs.js';

vi.setConfig({ testTimeout: 120_000 });

/** So little memory, and values so large, that what a collection finds is used again. */
const SETUP: Setup = {
  clients: 3,
  operations: 4,
  keys: 4,
  collections: 3,
  termMs: 10,
  stepNs: 20_000,
  allocBytes: 30 * PIECE_BYTES,
  valueBytes: 1000,
};

function expectNothingLost(runs: readonly Run[]): void {
  for (const { lostUnits, doubleUnits } of runs)
    expect({ lostUnits, doubleUnits }).toEqual({ lostUnits: 0, doubleUnits: 0 });
}

describe('collections while clients go on', () => {
  test('nothing is lost, and nothing used twice', async () => {
    expectNothingLost(await expectAllLinearizable(15, SETUP));
  });

  test('a client dies', async () => {
    const runs: Run[] = [];
    for (let diesAt = 1; diesAt < 150; diesAt += 6) {
      runs.push(...(await expectAllLinearizable(1, { ...SETUP, collections: 1, diesAt })));
    }
    expectNothingLost(runs);
  });

  test('a client stands still for longer than a collection takes', async () => {
    const runs: Run[] = [];
    for (let at = 10; at < 150; at += 14) {
      runs.push(...(await expectAllLinearizable(1, { ...SETUP, pause: { at, ns: 500e6 } })));
    }
    expectNothingLost(runs);
  });

  test('the client that collects dies, and another one begins anew', async () => {
    const runs: Run[] = [];
    for (let collectorDiesAt = 1; collectorDiesAt < 120; collectorDiesAt += 8) {
      runs.push(...(await expectAllLinearizable(1, { ...SETUP, collectorDiesAt })));
    }
    expectNothingLost(runs);
  });

  test('accesses are refused, and answers lost', async () => {
    const runs = await expectAllLinearizable(12, {
      ...SETUP,
      fault: (_operation, random) =>
        random() < 0.02
          ? (['refuse', 'lose-before', 'lose-after'] as const)[Math.floor(random() * 3)]
          : undefined,
    });
    expectNothingLost(runs);
    expect(codes(runs)).toContain('ERR_KV_OUTCOME_UNKNOWN');
  });
});

describe('the memory of a client that died', () => {
  const value = (i: number) => new Uint8Array(900).fill(i);

  async function open(termMs = 100) {
    const node = fakeNode(64 * PIECE_BYTES);
    await createTable(node.connect(), { groups: 100, termMs, maxValueBytes: 1024 });
    const pacing = jumpingTogether(node);
    const join = async () => {
      const client = node.connect();
      return { client, table: new Table(await TableContext.open(client, pacing)) };
    };
    return { node, join };
  }

  test('comes back again and again', async () => {
    const { node, join } = await open();
    const one = await join();
    const allocated: number[] = [];
    for (let round = 0; round < 12; round++) {
      const { client, table } = await join();
      for (let i = 0; i < 300; i++) await table.put(bytesOf(`key ${i % 100}`), value(round));
      client.die();
      expect(await one.table.context.collector.lookAndCollect()).toBe(true);
      allocated.push(node.allocatedBytes);
    }
    expect(allocated[11]).toBe(allocated[5]);
    for (let i = 0; i < 100; i++) expect(await one.table.get(bytesOf(`key ${i}`))).toEqual(value(11));
    expect(one.table.stats().collections).toBe(12);
    await one.table.close();
  });

  test('comes back when memory is short, before anybody is told that there is none', async () => {
    const { node, join } = await open();
    const { client, table } = await join();
    const other = await join();
    while (node.allocatedBytes < 60 * PIECE_BYTES) await table.put(key, value(1));
    client.die();
    for (let i = 0; i < 1000; i++) await other.table.put(bytesOf(`key ${i}`), value(2));
    expect(other.table.stats().collections).toBeGreaterThan(0);
    await other.table.close();
  });

  test('a client has one place, also when it looks twice at once, and finds its own gone', async () => {
    const { node, join } = await open();
    const [one, two] = [await join(), await join()];
    const places = () => {
      const first = SB_MEMBERS_OFFSET / 4;
      return node.words.subarray(first, first + 2 * MAX_MEMBERS).filter((word) => word !== 0).length;
    };
    expect(places()).toBe(2);
    // Its lock has ended with its connection, so the other takes it for dead.
    two.client.reconnect();
    expect(await one.table.context.collector.lookAndCollect()).toBe(true);
    expect(places()).toBe(1);
    const { collector } = two.table.context;
    await Promise.all([collector.lookAndCollect(), collector.lookAndCollect()]);
    expect(places()).toBe(2);
    await two.table.close();
    await one.table.close();
    expect(places()).toBe(0);
  });

  test('nobody has died: nobody collects', async () => {
    const { join } = await open();
    const [one, two] = [await join(), await join()];
    for (let i = 0; i < 300; i++) await one.table.put(bytesOf(`key ${i % 100}`), value(1));
    expect(await two.table.context.collector.lookAndCollect()).toBe(false);
    await one.table.close();
    expect(await two.table.context.collector.lookAndCollect()).toBe(false);
    await two.table.close();
  });

  const key = bytesOf('key');

  /** Another client collects while one has leases, and then uses what was found. What the one wrote meanwhile stays. */
  async function writeAfterCollection(change: (collector: Collector) => void): Promise<boolean> {
    const { join } = await open();
    const [one, two, three] = [await join(), await join(), await join()];
    await one.table.put(key, value(1));
    change(two.table.context.collector);
    expect(await two.table.context.collector.collect()).toBe(true);
    await one.table.put(key, value(2));
    try {
      for (let i = 0; i < 3000; i++) await three.table.put(bytesOf(`other ${i % 100}`), value(3));
    } catch {
      return false;
    }
    const found = await one.table.get(key).catch(() => undefined);
    return found !== undefined && Buffer.compare(found, value(2)) === 0;
  }

  test('is not taken from one that lives and does not know of the collection yet', async () => {
    expect(await writeAfterCollection(() => {})).toBe(true);
  });

  test('the test above catches a collection that does not wait for the end of leases', async () => {
    const rest = async () => {};
    const caught = !(await writeAfterCollection((collector) => Object.assign(collector, { rest })));
    expect(caught).toBe(true);
  });
});

describe('the accounts catch a client', () => {
  async function isCaught(change: (context: TableContext) => void): Promise<boolean> {
    const open = (context: TableContext) => {
      change(context);
      return new Table(context);
    };
    for (const seed of seeds(20)) {
      const { doubleUnits, linearizable } = await run(seed, { ...SETUP, stepNs: 5000, collections: 1, open });
      if (doubleUnits > 0 || !linearizable) return true;
    }
    return false;
  }

  test('that keeps its free memory when a collection begins', async () => {
    expect(
      await isCaught(({ keeper }) => {
        keeper.epoch.onChange = () => {};
      }),
    ).toBe(true);
  });

  test('that keeps what it unlinks while a collection looks', async () => {
    expect(
      await isCaught(({ allocator }) => {
        allocator.retire = (offset, units) => allocator.discard(offset, units, allocator.cycle);
      }),
    ).toBe(true);
  });
});
