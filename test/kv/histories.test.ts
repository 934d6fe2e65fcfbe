import { describe, expect, test } from 'vitest';
import { TableContext } from '../../kv/context.js';
import { createTable } from '../../kv/create.js';
import { SB_SEED_LO } from '../../kv/layout.js';
import { Put } from '../../kv/put.js';
import { Table } from '../../kv/table.js';
import { type FakeNode, type FakeOperation, fakeNode } from './fake-patronus.js';
import { isLinearizable } from './linearizability.js';
import { pick, seeds } from './random.js';
import { histories, type Kind, type Observation, observe } from './recorder.js';
import { Scheduler } from './scheduler.js';

const KINDS: readonly Kind[] = ['get', 'get', 'put', 'put', 'putIfAbsent', 'del'];

/**
 * Takes any empty slot instead of the first: with the usual choice two inserts of one key mostly meet in one slot, and
 * their first CAS alone would decide.
 */
class ScatteredPut extends Put {
  protected override emptySlotIn(combined: number): number {
    const first = super.emptySlotIn(combined);
    if (first < 0) return first;
    const { random } = this.context.pacing;
    const empty: number[] = [];
    for (let slot = combined * 32; slot < combined * 32 + 32; slot += 2) {
      if (slot % 16 !== 0 && this.words[slot + 1] === 0) empty.push(slot);
    }
    this.freeSlots = random();
    return pick(random, empty);
  }
}

class ScatteredTable extends Table {
  protected override newPut(): Put {
    return new ScatteredPut(this.context);
  }
}

interface Setup {
  readonly clients?: number;
  readonly operations?: number;
  readonly keys?: number;
  readonly groups?: number;
  readonly termMs?: number;
  readonly stepNs?: number;
  /** Keys that are there already and fill the buckets. */
  readonly filling?: number;
  readonly open?: (context: TableContext) => Table;
  readonly fault?: (operation: FakeOperation, random: () => number) => ReturnType<FakeNode['fault']>;
}

interface Run {
  readonly linearizable: boolean;
  readonly observations: readonly Observation[];
  readonly tables: readonly Table[];
  readonly node: FakeNode;
}

/** Some clients, each doing a few operations one after the other on the same keys; all accesses interleaved by seed. */
async function run(seed: number, setup: Setup): Promise<Run> {
  const { clients = 3, operations = 4, keys = 1, groups = 2, termMs = 1000, filling = 0 } = setup;
  const node = fakeNode();
  await createTable(node.connect(), { subtables: 1, groups, termMs, maxValueBytes: 1024 });
  node.words[SB_SEED_LO] = seed;
  const scheduler = new Scheduler(node, seed);
  scheduler.stepNs = setup.stepNs ?? 100;
  const tables: Table[] = [];
  for (let i = 0; i < clients; i++) {
    const opening = TableContext.open(node.connect(scheduler), scheduler);
    const context = await scheduler.run(opening);
    tables.push((setup.open ?? ((c) => new ScatteredTable(c)))(context));
  }
  for (let i = 0; i < filling; i++) {
    await scheduler.run(observe(tables[0]!, () => scheduler.time, `filling ${i}`, 'put', 'x'));
  }
  if (setup.fault !== undefined) node.fault = (operation) => setup.fault!(operation, scheduler.random);
  const observations: Observation[] = [];
  const client = async (index: number) => {
    for (let i = 0; i < operations; i++) {
      const key = `key ${Math.floor(scheduler.random() * keys)}`;
      const kind = pick(scheduler.random, KINDS);
      const value = `value ${index}.${i}${'.'.repeat(Math.floor(scheduler.random() * 40))}`;
      observations.push(await observe(tables[index]!, () => scheduler.time, key, kind, value));
    }
  };
  await scheduler.run(Promise.all(tables.map((_, index) => client(index))));
  const linearizable = [...histories(observations).values()].every(isLinearizable);
  return { linearizable, observations, tables, node };
}

/** Whether one of so many seeds shows a history that is not linearizable. */
async function isCaught(count: number, setup: Setup): Promise<boolean> {
  for (const seed of seeds(count)) if (!(await run(seed, setup)).linearizable) return true;
  return false;
}

async function expectAllLinearizable(count: number, setup: Setup): Promise<Run[]> {
  const runs: Run[] = [];
  for (const seed of seeds(count)) {
    const result = await run(seed, setup);
    expect(result.linearizable, `seed ${seed}: ${JSON.stringify(result.observations, null, 1)}`).toBe(true);
    runs.push(result);
  }
  return runs;
}

function codes(runs: readonly Run[]): Set<string | undefined> {
  return new Set(runs.flatMap(({ observations }) => observations.map(({ code }) => code)));
}

describe('interleaved clients', () => {
  test('one key, three clients', async () => {
    const runs = await expectAllLinearizable(600, {});
    expect(codes(runs)).toEqual(new Set([undefined]));
    expect(runs.some(({ tables }) => tables.some((table) => table.stats().retries > 0))).toBe(true);
  });

  test('two keys, five clients', async () => {
    await expectAllLinearizable(150, { clients: 5, keys: 2, operations: 5 });
  });

  test('with the usual choice of slots', async () => {
    await expectAllLinearizable(200, { clients: 4, keys: 2, open: (context) => new Table(context) });
  });

  test('nearly full buckets', async () => {
    const runs = await expectAllLinearizable(150, { clients: 4, keys: 3, filling: 40 });
    expect(codes(runs)).toContain('ERR_KV_TABLE_FULL');
  });

  test('leases that end in the middle of operations', async () => {
    // Some 40 accesses in a term: every operation meets its end now and then.
    const runs = await expectAllLinearizable(200, { termMs: 10, stepNs: 250_000, clients: 3 });
    expect(runs.some(({ tables }) => tables.some((table) => table.stats().leaseRenewals > 0))).toBe(true);
  });

  test('blocks reused after the grace period', async () => {
    await expectAllLinearizable(100, { termMs: 10, stepNs: 50_000, operations: 9, clients: 3 });
  });

  test('accesses refused by the NIC', async () => {
    const runs = await expectAllLinearizable(300, {
      fault: (_operation, random) => (random() < 0.05 ? 'refuse' : undefined),
    });
    expect(codes(runs)).toEqual(new Set([undefined]));
    expect(runs.some(({ tables }) => tables.some((table) => table.stats().protectionFaults > 0))).toBe(true);
  });

  test('answers lost, before or after the execution', async () => {
    const runs = await expectAllLinearizable(600, {
      fault: (_operation, random) =>
        random() < 0.05 ? (random() < 0.5 ? 'lose-before' : 'lose-after') : undefined,
    });
    expect(codes(runs)).toContain('ERR_KV_OUTCOME_UNKNOWN');
  });
});

describe('the checks above catch a put', () => {
  test('that commits without looking at the buckets again', async () => {
    class Blind extends ScatteredPut {
      protected override findCandidates(withPending: boolean, except: number): void {
        super.findCandidates(withPending, except);
        if (except >= 0) this.candidateCount = 0;
      }
    }
    class BlindTable extends Table {
      protected override newPut(): Put {
        return new Blind(this.context);
      }
    }
    expect(await isCaught(600, { open: (context) => new BlindTable(context) })).toBe(true);
  });

  test('that looks only at committed slots', async () => {
    class Careless extends ScatteredPut {
      protected override findCandidates(withPending: boolean, except: number): void {
        super.findCandidates(withPending && except < 0, except);
      }
    }
    class CarelessTable extends Table {
      protected override newPut(): Put {
        return new Careless(this.context);
      }
    }
    expect(await isCaught(600, { open: (context) => new CarelessTable(context) })).toBe(true);
  });

  test('that reuses replaced blocks at once', async () => {
    const open = (context: TableContext) => {
      context.allocator.retire = (offset, units) => context.allocator.free(offset, units);
      return new ScatteredTable(context);
    };
    expect(await isCaught(600, { open, operations: 9 })).toBe(true);
  });
});
