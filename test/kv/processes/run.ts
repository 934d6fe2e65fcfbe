import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TableContext } from '../../../kv/context.js';
import { createTable } from '../../../kv/create.js';
import { Table } from '../../../kv/table.js';
import { nowNs } from '../../../native/index.js';
import { Patronus, type PatronusClient } from '../../../patronus/index.js';
import { type HistoryOperation, isLinearizable } from '../linearizability.js';
import { bytesOf, pick, seeded, textOf } from '../random.js';
import { histories, type Observation, observe } from '../recorder.js';
import { Child } from './child.js';
import type { ClientPlan } from './client-process.js';
import { dateMs, seededPacing } from './clock.js';
import { readHistory } from './history-log.js';
import type { Mutant } from './mutants.js';

/** The term of the table's leases; a split's lock has 100 ms. */
const TERM_MS = 50;
/** A client stands still for up to so long: some three terms of a lock. */
const MAX_PAUSE_MS = 300;
const SETTLE_MS = 100;

export interface Setup {
  readonly seed: number;
  readonly ms: number;
  readonly clients?: number;
  readonly mutant?: Mutant;
}

export interface Result {
  readonly histories: ReadonlyMap<string, readonly HistoryOperation[]>;
  /** Those that are not linearizable. */
  readonly wrong: readonly string[];
  /** What was found out of order when all clients were dead. */
  readonly lost: readonly string[];
  readonly operations: number;
  readonly unknown: number;
  /** How often operations failed, by code. */
  readonly codes: Readonly<Record<string, number>>;
  readonly kills: number;
  readonly pauses: number;
  /** As the clients left them. */
  readonly subtables: number;
}

/**
 * Clients in processes of their own, on a memory node in another; from a seed they are killed, and stopped for longer than
 * their leases live, and new ones are started, while the table grows. At last all are killed, and what they left is looked at.
 */
export async function run({ seed, ms, clients = 3, mutant = 'none' }: Setup): Promise<Result> {
  const directory = mkdtempSync(join(tmpdir(), 'patronus-kv-'));
  const address = `unix:${join(directory, 'node')}`;
  const node = new Child('node-process.js', address);
  const population = new Population(directory, { address, seed, mutant });
  let client: PatronusClient | undefined;
  try {
    await node.ready;
    client = await Patronus.connect({ nodes: [{ nodeId: 0, address }] });
    await createTable(client, { groups: 2, termMs: TERM_MS, maxValueBytes: 1024 });
    for (let i = 0; i < clients; i++) population.add();
    await Promise.race([population.live(ms), node.failed]);
    await population.end();
    const observations = population.logs.flatMap(readHistory);
    const keys = [...new Set(observations.map(({ key }) => key))];
    const operations = observations.length;
    const table = new Table(await TableContext.open(client, seededPacing(seed)));
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    for (const key of keys) {
      observations.push(await observe(table, nowNs, { key, kind: 'get', value: '' }, dateMs));
    }
    const byKey = histories(observations);
    const wrong = [...byKey].filter(([, history]) => !isLinearizable(history)).map(([key]) => key);
    const { subtables } = table.stats();
    const lost = await inspect(table, keys);
    await table.close();
    return {
      histories: byKey,
      wrong,
      lost,
      operations,
      unknown: observations.filter(({ end }) => end === Number.POSITIVE_INFINITY).length,
      codes: countCodes(observations),
      kills: population.kills,
      pauses: population.pauses,
      subtables,
    };
  } finally {
    await population.end();
    await client?.close();
    await node.kill();
    rmSync(directory, { recursive: true });
  }
}

class Population {
  kills = 0;
  pauses = 0;
  readonly logs: string[] = [];
  readonly #clients = new Set<Child>();
  readonly #random: () => number;
  readonly #plan: Omit<ClientPlan, 'log'>;
  readonly #directory: string;

  constructor(directory: string, plan: Omit<ClientPlan, 'log'>) {
    this.#directory = directory;
    this.#plan = plan;
    this.#random = seeded(plan.seed);
  }

  add(): void {
    const log = join(this.#directory, `log ${this.logs.length}`);
    const plan: ClientPlan = { ...this.#plan, log, seed: this.#plan.seed * 1000 + this.logs.length };
    // A client may be killed before it has begun.
    writeFileSync(log, '');
    this.logs.push(log);
    this.#clients.add(new Child('client-process.js', JSON.stringify(plan)));
  }

  async live(ms: number): Promise<void> {
    const failed = Promise.race([...this.#clients].map((client) => client.failed));
    await Promise.race([Promise.all([...this.#clients].map(({ ready }) => ready)), failed]);
    const until = performance.now() + ms;
    while (performance.now() < until) {
      await this.#sleep(50 + 350 * this.#random());
      const victim = pick(this.#random, [...this.#clients]);
      await Promise.race([victim.ready, victim.failed]);
      if (this.#random() < 0.35) {
        this.#clients.delete(victim);
        await victim.kill();
        this.kills++;
        this.add();
      } else {
        victim.stop();
        await this.#sleep(MAX_PAUSE_MS * this.#random());
        victim.go();
        this.pauses++;
      }
    }
  }

  /** Kills all that are left, whatever they are at. */
  async end(): Promise<void> {
    const clients = [...this.#clients];
    this.#clients.clear();
    this.kills += clients.length;
    await Promise.all(clients.map((client) => client.kill()));
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, ms));
  }
}

/** Whether scans and counts find what gets find, whether every key can be written, and whether nothing is left then. */
async function inspect(table: Table, keys: readonly string[]): Promise<string[]> {
  const lost: string[] = [];
  const found = new Set<string>();
  for (let cursor: string | undefined, first = true; first || cursor !== undefined; first = false) {
    const page = await table.scan({ limit: 1000, ...(cursor !== undefined && { cursor }) });
    for (const key of page.keys) found.add(textOf(key)!);
    cursor = page.cursor;
  }
  /** Every key once: it is there, or it can be created. */
  let present = 0;
  for (const key of keys) {
    const is = await table.has(bytesOf(key));
    if (is) present++;
    if (is !== found.delete(key)) lost.push(`${key}: ${is ? 'not ' : ''}found by a scan`);
  }
  for (const key of found) lost.push(`${key}: nobody has put it`);
  for (const key of keys) {
    const { outcome } = await table.put(bytesOf(key), bytesOf('last'), { ifAbsent: true });
    if (outcome === 'created') present++;
  }
  if (present !== keys.length) lost.push(`${present} of ${keys.length} keys could be there or be written`);
  for (const key of keys) if (!(await table.del(bytesOf(key)))) lost.push(`${key}: can't be deleted`);
  const { records } = await table.usage();
  if (records !== 0) lost.push(`${records} entries that no key leads to`);
  return lost;
}

function countCodes(observations: readonly Observation[]): Record<string, number> {
  const codes: Record<string, number> = {};
  for (const { code } of observations) if (code !== undefined) codes[code] = (codes[code] ?? 0) + 1;
  return codes;
}
