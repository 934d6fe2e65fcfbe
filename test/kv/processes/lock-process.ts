/**
 * A client that takes a lock again and again: `node lock-process.js PLAN`. Under the lock it writes a mark of its own
 * and reads it, as often as the lock lasts; its log has when it held the lock for certain, and what else it has read.
 */
import { openSync, writeSync } from 'node:fs';
import { Fence, FenceLost } from '../../../kv/fence.js';
import { nowNs } from '../../../native/index.js';
import { Patronus, type PatronusClient, RetCode } from '../../../patronus/index.js';
import { seeded } from '../random.js';
import type { ClientPlan } from './population.js';

/** A line of the log: it held the lock from `since`, after it was granted, to `until`, before an access under it. */
export interface Holding {
  readonly holder: string;
  readonly since: number;
  readonly until: number;
  /** Somebody else's mark was there after its own had been written. */
  readonly broken?: true;
}

const TERM_NS = 30e6;
const SIZE = 64;
const ACCESSES = 40;

const plan = JSON.parse(process.argv[2]!) as ClientPlan & { readonly exclusive: boolean };
const log = openSync(plan.log, 'a');
const note = (holding: Holding) => writeSync(log, `${JSON.stringify(holding)}\n`);
const random = seeded(plan.seed);
const client = await Patronus.connect({ nodes: [{ nodeId: 0, address: plan.address }] });
const locking = plan.exclusive ? client : sharing(client);
const buffer = client.getRdmaBuffer(SIZE);

/** A broken client: its locks exclude nobody. */
function sharing(honest: PatronusClient): PatronusClient {
  const getWlease: PatronusClient['getWlease'] = (request) => honest.getWlease({ ...request, flags: 0 });
  return Object.assign(Object.create(honest), { getWlease });
}

/** Writes a mark and reads it until it has enough, or the lock is over. */
async function hold(fence: Fence, mark: number): Promise<void> {
  const since = nowNs();
  const holder = `${plan.seed}.${mark}`;
  for (let i = 0; i < ACCESSES; i++) {
    await fence.hold();
    const until = nowNs();
    buffer.words[0] = plan.seed;
    buffer.words[1] = mark;
    if ((await client.write(fence.lease, buffer, 8, 0)) !== RetCode.Ok) return;
    await new Promise((resolve) => setTimeout(resolve, random() * 2));
    buffer.words.fill(0, 0, 2);
    if ((await client.read(fence.lease, buffer, 8, 0)) !== RetCode.Ok) return;
    if (buffer.words[0] !== plan.seed || buffer.words[1] !== mark) {
      note({ holder, since, until, broken: true });
      return;
    }
    note({ holder, since, until });
  }
}

process.send!('ready');
process.on('disconnect', () => process.exit());
for (let mark = 1; ; mark++) {
  const fence = await Fence.tryAcquire(locking, undefined, 0, SIZE, TERM_NS);
  if (fence !== undefined) {
    await hold(fence, mark).catch((error) => {
      if (!(error instanceof FenceLost)) throw error;
    });
    await fence.release();
  }
  await new Promise((resolve) => setTimeout(resolve, random() * 4));
}
