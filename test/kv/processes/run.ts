import type { KvProtection } from '../../../kv/api.js';
import { TableContext } from '../../../kv/context.js';
import { createTable } from '../../../kv/create.js';
import { Table } from '../../../kv/table.js';
import { nowNs } from '../../../native/index.js';
import { Patronus } from '../../../patronus/index.js';
import { accountsOf, collect } from '../accounts.js';
import { type HistoryOperation, isLinearizable } from '../linearizability.js';
import { bytesOf, textOf } from '../random.js';
import { histories, type Observation, observe } from '../recorder.js';
import { dateMs, seededPacing } from './clock.js';
import { readHistory } from './history-log.js';
import type { Mutant } from './mutants.js';
import { withNode } from './population.js';

/** All of them. */
export const PROTECTIONS: readonly KvProtection[] = ['region', 'block', 'mr', 'none'];
/** The term of the table's leases; a split's lock has 100 ms. */
const TERM_MS = 50;
/**
 * Without protection nothing refuses what a client sends late: no client is stopped, and the term is longer than any stays
 * without a processor.
 */
const UNPROTECTED_TERM_MS = 500;
const SETTLE_TERMS = 2;

export interface Setup {
  readonly seed: number;
  readonly ms: number;
  readonly clients?: number;
  readonly mutant?: Mutant;
  /** Of all clients. Default `region`. */
  readonly protection?: KvProtection;
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
  /** That were begun, by whomever. */
  readonly collections: number;
  readonly keptBytes: number;
}

/**
 * Clients in processes of their own, on a memory node in another; from a seed they are killed, and (under protection) stopped for
 * longer than their leases live, and new ones are started, while the table grows. At last all are killed, and what they left is looked at.
 */
export async function run(setup: Setup): Promise<Result> {
  const { seed, ms, clients = 3, mutant = 'none', protection = 'region' } = setup;
  const unprotected = protection === 'none';
  const termMs = unprotected ? UNPROTECTED_TERM_MS : TERM_MS;
  return withNode(unprotected, async (address, population) => {
    await using client = await Patronus.connect({ nodes: [{ nodeId: 0, address }] });
    await createTable(client, { groups: 2, termMs, maxValueBytes: 1024 });
    await population.live({
      module: 'client-process.js',
      options: { mutant, protection },
      seed,
      clients,
      ms,
      pauses: !unprotected,
    });
    const observations = population.logs.flatMap(readHistory);
    const keys = [...new Set(observations.map(({ key }) => key))];
    const operations = observations.length;
    const open = () => TableContext.open(client, seededPacing(seed), protection);
    await using table = new Table(await open());
    await new Promise((resolve) => setTimeout(resolve, SETTLE_TERMS * termMs));
    for (const key of keys) {
      observations.push(await observe(table, nowNs, { key, kind: 'get', value: '' }, dateMs));
    }
    const byKey = histories(observations);
    const { subtables } = table.stats();
    const lost = await inspect(table, keys);
    await table.close();
    await using last = new Table(await open());
    const before = await accountsOf(last.context);
    await collect(last.context);
    const after = await accountsOf(last.context);
    if (before.doubleUnits + after.doubleUnits > 0) lost.push(`${before.doubleUnits} units are used twice`);
    if (after.lostUnits > 0) lost.push(`${after.lostUnits} units are lost`);
    return {
      histories: byKey,
      wrong: [...byKey].filter(([, history]) => !isLinearizable(history)).map(([key]) => key),
      lost,
      operations,
      unknown: observations.filter(({ end }) => end === Number.POSITIVE_INFINITY).length,
      codes: countCodes(observations),
      kills: population.kills,
      pauses: population.pauses,
      subtables,
      collections: last.context.keeper.epoch.cycle,
      keptBytes: after.keptBytes,
    };
  });
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
