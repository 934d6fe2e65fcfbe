import { describe, expect, test, vi } from 'vitest';
import { TableContext } from '../../kv/context.js';
import { createTable } from '../../kv/create.js';
import type { Subtable } from '../../kv/directory.js';
import type { Fence } from '../../kv/fence.js';
import { Get } from '../../kv/get.js';
import { SB_SEED_HI, SB_SEED_LO } from '../../kv/layout.js';
import { Put } from '../../kv/put.js';
import { Split } from '../../kv/split.js';
import { Splitter } from '../../kv/splitter.js';
import { Table } from '../../kv/table.js';
import { RetCode } from '../../patronus/index.js';
import { fakeNode, jumping } from './fake-patronus.js';
import { bytesOf, pick, seeds, textOf } from './random.js';
import {
  ALL_KINDS,
  expectAllLinearizable,
  isCaught,
  type Run,
  run,
  ScatteredTable,
  type Setup,
} from './runs.js';
import { Scheduler } from './scheduler.js';

// Many seeds, perhaps on a busy machine; KV_TEST_SEEDS asks for more.
vi.setConfig({ testTimeout: 120_000 });

/** 42 slots in the beginning, and keys enough to split the table several times while the clients work. */
const GROWING: Setup = { kinds: ALL_KINDS, clients: 3, operations: 6, keys: 2, filling: 34, inserts: 0.5 };

/** Many clients on few keys right when the table splits: for the mistakes of a moment. */
const CROWDED: Setup = { kinds: ALL_KINDS, clients: 5, operations: 6, keys: 3, filling: 38, inserts: 0.3 };

function splits(runs: readonly Run[]): number {
  return runs.reduce(
    (sum, { tables }) => sum + tables.reduce((all, table) => all + table.stats().splits, 0),
    0,
  );
}

describe('a table that grows under its clients', () => {
  test('stays linearizable', async () => {
    const runs = await expectAllLinearizable(60, GROWING);
    expect(splits(runs)).toBeGreaterThan(runs.length / 2);
  });

  test('with leases that end on the way', async () => {
    await expectAllLinearizable(30, { ...GROWING, termMs: 10, stepNs: 100_000 });
  });

  test('with accesses refused and answers lost', async () => {
    await expectAllLinearizable(40, {
      ...GROWING,
      fault: (_operation, random) =>
        random() < 0.02
          ? (['refuse', 'lose-before', 'lose-after'] as const)[Math.floor(random() * 3)]
          : undefined,
    });
  });

  test('with a client that dies at any step, others going on', async () => {
    let died = 0;
    for (const seed of seeds(110)) {
      const result = await run(seed, { ...GROWING, operations: 4, diesAt: 1 + ((seed * 7) % 150) });
      expect(result.linearizable, `seed ${seed}: ${JSON.stringify(result.observations, null, 1)}`).toBe(true);
      if (result.observations.some(({ end }) => end === Number.POSITIVE_INFINITY)) died++;
    }
    expect(died).toBeGreaterThan(seeds(110).length / 4);
  });

  test('with a client that stands still at any step for longer than all its leases', async () => {
    for (const seed of seeds(80)) {
      const pause = { at: 1 + ((seed * 11) % 150), ns: 3e9 };
      const result = await run(seed, { ...GROWING, operations: 4, pause });
      expect(result.linearizable, `seed ${seed}: ${JSON.stringify(result.observations, null, 1)}`).toBe(true);
    }
  });
});

describe('a client that splits', () => {
  test('begins before a key finds no room', async () => {
    const node = fakeNode();
    await createTable(node.connect(), { groups: 20 });
    const context = await TableContext.open(node.connect(), jumping(node));
    const table = new Table(context);
    const grow = vi.spyOn(context.splitter, 'grow');
    for (let i = 0; i < 2000; i++) {
      await table.put(bytesOf(`key ${i}`), bytesOf('value'));
      await context.splitter.settled();
    }
    expect(grow).not.toHaveBeenCalled();
    expect(context.splitter.splits).toBeGreaterThan(3);
    expect((await table.usage()).records).toBe(2000);
  });

  test('does it one subtable after the other', async () => {
    let under = 0;
    let most = 0;
    class Watched extends Split {
      override async run(grow: boolean) {
        most = Math.max(most, ++under);
        const split = await super.run(grow);
        under--;
        return split;
      }
    }
    const node = fakeNode();
    await createTable(node.connect(), { groups: 2, subtables: 4 });
    const context = await TableContext.open(node.connect(), jumping(node));
    const table = splittingWith((...of) => new Watched(...of))!(context);
    for (let i = 0; i < 40; i++) await table.put(bytesOf(`key ${i}`), bytesOf('value'));
    await Promise.all(
      [0, 1, 2, 3].map((suffix) => context.splitter.grow(context.directory.subtableOf(suffix))),
    );
    expect([most, under]).toEqual([1, 0]);
    expect(context.splitter.splits).toBeGreaterThanOrEqual(4);
    for (let i = 0; i < 40; i++) expect(textOf(await table.get(bytesOf(`key ${i}`)))).toBe('value');
  });
});

/** Scans a growing table, all accesses of the scan and of two writers interleaved by seed. What was found, and lost. */
async function scanWhileGrowing(seed: number) {
  const node = fakeNode();
  await createTable(node.connect(), { groups: 2, maxValueBytes: 1024 });
  node.words[SB_SEED_LO] = seed;
  node.words[SB_SEED_HI] = 0;
  const scheduler = new Scheduler(node, seed);
  const { random } = scheduler;
  const open = async () =>
    new Table(await scheduler.run(TableContext.open(node.connect(scheduler), scheduler)));
  const [reader, ...writers] = [await open(), await open(), await open()];
  const names = Array.from({ length: 60 }, (_, i) => `stays ${i}`);
  for (const name of names) await scheduler.run(writers[0]!.put(bytesOf(name), bytesOf(name)));
  const splits = () => writers.reduce((sum, table) => sum + table.stats().splits, 0);
  const before = splits();
  const lost = new Set(names);
  let scanning = true;
  const scan = async () => {
    for (let cursor: string | undefined, first = true; first || cursor !== undefined; first = false) {
      const page = await reader.scan({ limit: 2, ...(cursor !== undefined && { cursor }) });
      for (const key of page.keys) lost.delete(textOf(key)!);
      cursor = page.cursor;
    }
    scanning = false;
  };
  const write = async (table: Table, writer: number) => {
    for (let i = 0; scanning && i < 60; i++) {
      await table.put(bytesOf(`comes ${writer}.${i}`), bytesOf(''));
      if (random() < 0.1) await table.put(bytesOf(pick(random, names)), bytesOf('changed'));
      if (random() < 0.1) await table.del(bytesOf(`comes ${writer}.${Math.floor(random() * i)}`));
    }
  };
  await scheduler.run(Promise.all([scan(), ...[...writers, ...writers, ...writers].map(write)]));
  return { lost: [...lost], splits: splits() - before };
}

test('a scan finds every key that stays, at whatever step of a split', async () => {
  let splits = 0;
  for (const seed of seeds(60)) {
    const result = await scanWhileGrowing(seed);
    expect(result.lost, `seed ${seed}`).toEqual([]);
    splits += result.splits;
  }
  expect(splits).toBeGreaterThan(20);
});

/** A table whose splits are made by a class of the test's. */
function splittingWith(make: (...of: ConstructorParameters<typeof Split>) => Split): Setup['open'] {
  return (context) => {
    class Other extends Splitter {
      protected override newSplit(subtable: Subtable, fence: Fence): Split {
        return make(context, subtable, fence);
      }
    }
    (context as { splitter: Splitter }).splitter = new Other(context);
    return new ScatteredTable(context);
  };
}

describe('the checks above catch', () => {
  test('a get that does not look at the headers', async () => {
    class Trusting extends Get {
      protected override get bucketsServe(): boolean {
        return true;
      }
    }
    class TrustingTable extends ScatteredTable {
      protected override newGet(): Get {
        return new Trusting(this.context);
      }
    }
    expect(await isCaught(300, { ...CROWDED, open: (context) => new TrustingTable(context) })).toBe(true);
  });

  test('an insert that is committed without looking at the headers again', async () => {
    /** A whole split goes by between the look-up of an insert and its first CAS. Whether the key is there afterwards. */
    const survives = async (name: string, hasty: boolean): Promise<boolean> => {
      const node = fakeNode();
      await createTable(node.connect(), { groups: 2 });
      const open = () => TableContext.open(node.connect(), jumping(node));
      const other = await open();
      class Slow extends Put {
        #split = false;
        protected override reserve() {
          if (this.#split) return super.reserve();
          this.#split = true;
          return other.splitter.grow(other.directory.subtableOf(0)).then(() => super.reserve());
        }
        protected override get bucketsServe(): boolean {
          return (hasty && this.#split) || super.bucketsServe;
        }
        protected override get bucketsTake(): boolean {
          return (hasty && this.#split) || super.bucketsTake;
        }
      }
      class SlowTable extends Table {
        protected override newPut() {
          return new Slow(this.context);
        }
      }
      await new SlowTable(await open()).put(bytesOf(name), bytesOf('value'));
      expect(other.splitter.splits).toBe(1);
      return new Table(await open()).has(bytesOf(name));
    };
    const names = Array.from({ length: 12 }, (_, i) => `key ${i}`);
    const right = await Promise.all(names.map((name) => survives(name, false)));
    const hasty = await Promise.all(names.map((name) => survives(name, true)));
    expect(right).not.toContain(false);
    expect(hasty).toContain(false);
  });

  test('a split that does not mark the old buckets first', async () => {
    class Silent extends Split {
      protected override async writeHeaders(group: number, groups: number, depth: number, flags: number) {
        if (flags === 0) await super.writeHeaders(group, groups, depth, flags);
      }
    }
    expect(await isCaught(600, { ...GROWING, open: splittingWith((...of) => new Silent(...of)) })).toBe(true);
  });

  test('a split that opens the new subtable before it has closed the old one', async () => {
    const node = fakeNode();
    await createTable(node.connect(), { groups: 2 });
    const open = () => TableContext.open(node.connect(), jumping(node));
    const [stale, fresh] = [new Table(await open()), new Table(await open())];
    let seen: (string | undefined)[] = [];
    class Early extends Split {
      protected override async clearOld() {
        await super.openNew();
        for (let i = 0; i < 20; i++) await fresh.put(bytesOf(`key ${i}`), bytesOf('new'));
        seen = [];
        for (let i = 0; i < 20; i++) seen.push(textOf(await stale.get(bytesOf(`key ${i}`))));
        await super.clearOld();
      }
    }
    const context = await open();
    const splitting = splittingWith((...of) => new Early(...of))!(context);
    for (let i = 0; context.splitter.splits === 0; i++)
      await splitting.put(bytesOf(`key ${i}`), bytesOf('old'));
    expect(seen).toContain('new');
    expect(seen).toContain('old');
  });

  test('a split that does not look again at what was written since it looked', async () => {
    class Hasty extends Split {
      protected override isKnown(): boolean {
        return true;
      }
    }
    expect(await isCaught(300, { ...GROWING, open: splittingWith((...of) => new Hasty(...of)) })).toBe(true);
  });

  test('a split that leaves the moving entries unmarked', async () => {
    class Loose extends Split {
      protected override async freezeRead(): Promise<RetCode> {
        return RetCode.Ok;
      }
    }
    expect(await isCaught(50, { ...GROWING, open: splittingWith((...of) => new Loose(...of)) })).toBe(true);
  });
});
