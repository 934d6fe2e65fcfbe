import { expect } from 'vitest';
import { KvError } from '../../kv/api.js';
import { TableContext } from '../../kv/context.js';
import { createTable } from '../../kv/create.js';
import { SB_SEED_HI, SB_SEED_LO, UNIT_BYTES } from '../../kv/layout.js';
import { Put } from '../../kv/put.js';
import { Table } from '../../kv/table.js';
import { accountsOf, collect } from './accounts.js';
import { type FakeClient, type FakeNode, type FakeOperation, fakeNode } from './fake-patronus.js';
import { isLinearizable } from './linearizability.js';
import { pick, seeds } from './random.js';
import { histories, type Kind, type Observation, observe } from './recorder.js';
import { Scheduler } from './scheduler.js';

const KINDS: readonly Kind[] = ['get', 'get', 'put', 'put', 'putIfAbsent', 'del'];
/** With every kind of operation. Versions are those that the client saw last. */
export const ALL_KINDS: readonly Kind[] = [
  ...KINDS,
  'putIfVersion',
  'putIfVersion',
  'delIfVersion',
  'incr',
  'incr',
  'incr',
];

/**
 * Takes any empty slot instead of the first: with the usual choice two inserts of one key mostly meet in one slot, and
 * their first CAS alone would decide.
 */
export class ScatteredPut extends Put {
  protected override emptySlotIn(combined: number): number {
    const first = super.emptySlotIn(combined);
    if (first < 0) return first;
    const { random } = this.context.pacing;
    const empty: number[] = [];
    for (let slot = combined * 32; slot < combined * 32 + 32; slot += 2) {
      if (slot % 16 !== 14 && this.words[slot + 1] === 0) empty.push(slot);
    }
    this.freeSlots = random();
    return pick(random, empty);
  }
}

export class ScatteredTable extends Table {
  protected override newPut(): Put {
    return new ScatteredPut(this.context);
  }
}

/** Of one client while others collect. */
const MAX_OPERATIONS = 400;

export interface Setup {
  readonly clients?: number;
  readonly operations?: number;
  readonly keys?: number;
  readonly groups?: number;
  readonly termMs?: number;
  /** Of the memory node. */
  readonly allocBytes?: number;
  /** Values have up to so many bytes more than their name. */
  readonly valueBytes?: number;
  readonly stepNs?: number;
  /** Keys that are there already and fill the buckets. */
  readonly filling?: number;
  /** The first client dies before this piece of an access, counted from when the operations begin. */
  readonly diesAt?: number;
  /** The first client stands still at this piece, for so long. */
  readonly pause?: { readonly at: number; readonly ns: number };
  readonly kinds?: readonly Kind[];
  /** Half of the puts get a time to live of up to so many ms. */
  readonly ttlMs?: number;
  /** Part of the operations that insert keys of their own: they make the table grow. */
  readonly inserts?: number;
  readonly open?: ((context: TableContext) => Table) | undefined;
  /** Collections that one more client makes meanwhile, one after the other. The clients go on until the last has ended. */
  readonly collections?: number;
  /** That client dies before this piece of an access, and another one takes its place. */
  readonly collectorDiesAt?: number | undefined;
  readonly fault?: (operation: FakeOperation, random: () => number) => ReturnType<FakeNode['fault']>;
}

export interface Run {
  /** Every key's history is, and what was put before and in between is still there. */
  readonly linearizable: boolean;
  readonly observations: readonly Observation[];
  readonly tables: readonly Table[];
  readonly node: FakeNode;
  /** Units of the table's memory that nothing leads to and nobody has, at the end; and those that are free twice, or in use. */
  readonly lostUnits: number;
  readonly doubleUnits: number;
}

/** Some clients, each doing a few operations one after the other on the same keys; all accesses interleaved by seed. */
export async function run(seed: number, setup: Setup): Promise<Run> {
  const {
    clients = 3,
    operations = 4,
    keys = 1,
    groups = 2,
    termMs = 1000,
    filling = 0,
    inserts = 0,
    valueBytes = 40,
  } = setup;
  const { kinds = KINDS, ttlMs = 0 } = setup;
  const node = fakeNode(setup.allocBytes);
  await createTable(node.connect(), { subtables: 1, groups, termMs, maxValueBytes: 1024 });
  // All of the run follows from the seed.
  node.words[SB_SEED_LO] = seed;
  node.words[SB_SEED_HI] = 0;
  const scheduler = new Scheduler(node, seed);
  scheduler.stepNs = setup.stepNs ?? 100;
  const { random } = scheduler;
  const fakes: FakeClient[] = [];
  const tables: Table[] = [];
  const connect = async (open: (context: TableContext) => Table) => {
    const fake = node.connect(scheduler);
    fakes.push(fake);
    const table = open(await scheduler.run(insist(scheduler, () => TableContext.open(fake, scheduler))));
    tables.push(table);
    return table;
  };
  for (let i = 0; i < clients; i++) await connect(setup.open ?? ((c) => new ScatteredTable(c)));
  const observations: Observation[] = [];
  const under: (Observation | undefined)[] = [];
  const versions = tables.map(() => new Map<string, string>());
  const date = () => scheduler.wallMs();
  const doing = async (index: number, key: string, kind: Kind, value: string) => {
    const ttl = ttlMs > 0 && random() < 0.5 ? Math.ceil(random() * ttlMs) : undefined;
    const task = {
      key,
      kind,
      value,
      version: versions[index]?.get(key),
      ttlMs: kind.startsWith('put') ? ttl : undefined,
    };
    const expiry = task.ttlMs === undefined ? undefined : date() + task.ttlMs;
    const began = { key, kind, value, call: scheduler.time, callDate: date(), expiry, wanted: task.version };
    under[index] = { ...began, end: Number.POSITIVE_INFINITY };
    const observation = await observe(tables[index]!, () => scheduler.time, task, date);
    if (observation.version !== undefined) versions[index]?.set(key, observation.version);
    observations.push(observation);
    under[index] = undefined;
  };
  if (filling > 0) for (let i = 0; i < keys; i++) await scheduler.run(doing(0, `key ${i}`, 'put', 'first'));
  for (let i = 0; i < filling; i++) await scheduler.run(doing(0, `filling ${i}`, 'put', 'x'));
  const workers = tables.map((_, index) => index);
  if (setup.collections !== undefined) await connect(setup.open ?? ((c) => new Table(c)));
  if (setup.fault !== undefined) node.fault = (operation) => setup.fault!(operation, random);
  if (setup.diesAt !== undefined) fakes[0]!.diesAt = fakes[0]!.accesses + setup.diesAt;
  if (setup.pause !== undefined) fakes[0]!.pauseAt(fakes[0]!.accesses + setup.pause.at, setup.pause.ns);
  let collecting = setup.collections !== undefined;
  const client = async (index: number) => {
    for (let i = 0; i < operations || (collecting && i < MAX_OPERATIONS); i++) {
      if (random() < inserts) await doing(index, `own ${index}.${i}`, 'put', 'y');
      const key =
        random() < inserts ? `filling ${Math.floor(random() * 3)}` : `key ${Math.floor(random() * keys)}`;
      const value = `value ${index}.${i}${'.'.repeat(Math.floor(random() * valueBytes))}`;
      await doing(index, key, pick(random, kinds), value);
    }
  };
  const collector = async () => {
    // When the others have leases, and free memory.
    while (collecting && observations.length < 3 * clients) await scheduler.sleep(0.1);
    for (let left = setup.collections ?? 0; left > 0; ) {
      const fake = fakes[tables.length - 1]!;
      if (setup.collectorDiesAt !== undefined && tables.length === clients + 1) {
        fake.diesAt = fake.accesses + setup.collectorDiesAt;
      }
      const { collector } = tables[tables.length - 1]!.context;
      const made = await Promise.race([
        collector.collect().catch(() => false),
        fake.death.then(() => 'died' as const),
      ]);
      if (made === 'died') {
        const next = node.connect(scheduler);
        fakes.push(next);
        tables.push(new Table(await insist(scheduler, () => TableContext.open(next, scheduler))));
      } else if (made) left--;
      else await scheduler.sleep(20);
    }
    collecting = false;
  };
  await scheduler.run(
    Promise.all([collector(), ...workers.map((index) => Promise.race([client(index), fakes[index]!.death]))]),
  );
  for (const operation of under) if (operation !== undefined) observations.push(operation);
  node.fault = () => undefined;
  // A client that comes later finds everything.
  const last = tables.length;
  await connect((c) => new Table(c));
  const names = new Set(observations.map(({ key }) => key));
  for (const key of names) await scheduler.run(doing(last, key, 'get', ''));
  const linearizable = [...histories(observations).values()].every(isLinearizable);
  const account = { lostUnits: 0, doubleUnits: 0 };
  if (setup.collections !== undefined)
    Object.assign(account, await accountOf(node, scheduler, tables, fakes));
  return { linearizable, observations, tables, node, ...account };
}

/** Makes something again while leases are too short for it, or the NIC refuses too much. */
async function insist<T>(scheduler: Scheduler, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof KvError) || attempt === 50) throw error;
      await scheduler.sleep(1);
    }
  }
}

/** What became of all memory, when every client has gone: before and after one more has collected. */
async function accountOf(
  node: FakeNode,
  scheduler: Scheduler,
  tables: readonly Table[],
  fakes: readonly FakeClient[],
): Promise<Pick<Run, 'lostUnits' | 'doubleUnits'>> {
  for (const [index, table] of tables.entries()) {
    const fake = fakes[index]!;
    fake.diesAt = 0;
    if (!fake.dead) await scheduler.run(table.close());
  }
  const later = <T>(work: () => Promise<T>) => scheduler.run(insist(scheduler, work));
  const last = await later(() => TableContext.open(node.connect(scheduler), scheduler));
  const { doubleUnits } = await later(() => accountsOf(last));
  await later(() => collect(last));
  const { keptBytes, lostUnits } = await later(() => accountsOf(last));
  let bytes = 0;
  for (const [offset, size] of node.allocated) if (!node.unkept.has(offset)) bytes += size;
  return { lostUnits: lostUnits + (bytes - keptBytes) / UNIT_BYTES, doubleUnits };
}

/** Whether one of so many seeds shows a history that is not linearizable. */
export async function isCaught(count: number, setup: Setup): Promise<boolean> {
  for (const seed of seeds(count)) if (!(await run(seed, setup)).linearizable) return true;
  return false;
}

export async function expectAllLinearizable(count: number, setup: Setup): Promise<Run[]> {
  const runs: Run[] = [];
  for (const seed of seeds(count)) {
    const result = await run(seed, setup);
    expect(result.linearizable, `seed ${seed}: ${JSON.stringify(result.observations, null, 1)}`).toBe(true);
    runs.push(result);
  }
  return runs;
}

export function codes(runs: readonly Run[]): Set<string | undefined> {
  return new Set(runs.flatMap(({ observations }) => observations.map(({ code }) => code)));
}
