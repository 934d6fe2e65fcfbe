/**
 * A client of its own process: `node client-process.js PLAN`. Its sessions do random operations on the hot keys of the
 * moment until it is killed, and all that they do and see is in its log. Meanwhile its queue pairs break again and again.
 */
import type { KvProtection } from '../../../kv/api.js';
import { TableContext } from '../../../kv/context.js';
import { hashKey, KeyHash } from '../../../kv/hash.js';
import type { Table } from '../../../kv/table.js';
import { nowNs } from '../../../native/index.js';
import { AcquireFlag, Patronus, RetCode } from '../../../patronus/index.js';
import { bytesOf, pick, seeded } from '../random.js';
import { observe, type Task } from '../recorder.js';
import { ALL_KINDS } from '../runs.js';
import { dateMs, seededPacing } from './clock.js';
import { HistoryLog } from './history-log.js';
import { MUTANTS, type Mutant } from './mutants.js';
import type { ClientPlan } from './population.js';

/** Each epoch has hot keys of its own, so that histories stay short without anybody waiting for anybody. */
const EPOCH_NS = 100e6;
const HOT_KEYS = 2;
const SESSIONS = 2;
/** Operations of a session on the hot keys of an epoch, at most. */
const OPERATIONS = 12;
/** How often keys of a session's own are inserted meanwhile, and how many together, so that the table grows. */
const INSERTS = 0.4;
const INSERTED = 4;
/** Names that are tried to find one in the same subtable. */
const TRIES = 256;
const TTL_MS = 30;
/** Between two accesses that the NIC refuses, at least and at most. */
const FAULT_MS = [40, 200] as const;

const plan = JSON.parse(process.argv[2]!) as ClientPlan & {
  readonly mutant: Mutant;
  readonly protection: KvProtection;
};
const log = new HistoryLog(plan.log);
const client = await Patronus.connect({ nodes: [{ nodeId: 0, address: plan.address }] });
const context = await TableContext.open(client, seededPacing(plan.seed), plan.protection);
const table = MUTANTS[plan.mutant](context);

async function session(name: string, random: () => number, kv: Table): Promise<never> {
  for (let done = 0; ; ) {
    const epoch = Math.floor(nowNs() / EPOCH_NS);
    const versions = new Map<string, string>();
    for (let i = 0; i < OPERATIONS && Math.floor(nowNs() / EPOCH_NS) === epoch; i++) {
      const key = `key ${epoch}.${Math.floor(random() * HOT_KEYS)}`;
      const value = `value ${name}.${done++}${'.'.repeat(Math.floor(random() * 40))}`;
      const inserts: Promise<unknown>[] = [];
      if (random() < INSERTS) {
        for (let own = 0; own < INSERTED; own++) {
          const task: Task = { key: neighbourOf(key, `own ${name}.${done}.${own}`), kind: 'put', value };
          inserts.push(perform(kv, task));
        }
      }
      const kind = pick(random, ALL_KINDS);
      const ttlMs = kind.startsWith('put') && random() < 0.25 ? 1 + Math.floor(random() * TTL_MS) : undefined;
      const seen = await perform(kv, { key, kind, value, version: versions.get(key), ttlMs });
      await Promise.all(inserts);
      // A refusal tells a version without its value.
      if (seen.version !== undefined && seen.result !== 'refused') versions.set(key, seen.version);
    }
    const restMs = EPOCH_NS / 1e6 - (nowNs() % EPOCH_NS) / 1e6;
    await new Promise((resolve) => setTimeout(resolve, restMs));
  }
}

/** Reads beyond a lease: the NIC refuses that and the queue pair breaks, with whatever the sessions have under way. */
async function breakPair(): Promise<void> {
  const size = 64;
  const lease = await client.readLease({ offset: 0, size, termNs: 1, flags: AcquireFlag.NoGc });
  const buffer = client.getRdmaBuffer(size);
  const status = await client.read(lease, buffer, size, size);
  client.putRdmaBuffer(buffer);
  await client.relinquish(lease).catch(() => undefined);
  if (status === RetCode.Ok) throw new Error('a read beyond its lease was executed');
}

async function breakPairs(random: () => number): Promise<never> {
  for (;;) {
    const [least, most] = FAULT_MS;
    await new Promise((resolve) => setTimeout(resolve, least + (most - least) * random()));
    await breakPair();
  }
}

async function perform(kv: Table, task: Task) {
  const id = log.begin(task, nowNs(), dateMs());
  const seen = await observe(kv, nowNs, task, dateMs);
  log.end(id, seen);
  return seen;
}

/** A key of that name which most likely lies in the same subtable as another key. */
function neighbourOf(key: string, name: string): string {
  const { suffix } = hashOf(key);
  const { localDepth } = context.directory.subtableOf(suffix);
  const mask = 2 ** localDepth - 1;
  for (let i = 0; i < TRIES; i++) {
    const candidate = `${name}.${i}`;
    if (((hashOf(candidate).suffix ^ suffix) & mask) === 0) return candidate;
  }
  return name;
}

function hashOf(key: string): KeyHash {
  const bytes = Buffer.alloc(Math.ceil(key.length / 4) * 4);
  bytes.set(bytesOf(key));
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const hash = new KeyHash();
  hashKey(words, key.length, context.superblock.seedLo, context.superblock.seedHi, hash);
  return hash;
}

function failed(error: unknown): void {
  console.error(error);
  process.exit(1);
}

await breakPair();
process.send!('ready');
// The test is over, in whatever way.
process.on('disconnect', () => process.exit());
for (let i = 0; i < SESSIONS; i++) {
  const name = `${plan.seed}-${i}`;
  session(name, seeded(plan.seed * SESSIONS + i), table).catch(failed);
}
// What is wrong on purpose shows sooner in many operations.
if (plan.mutant === 'none') breakPairs(seeded(plan.seed)).catch(failed);
