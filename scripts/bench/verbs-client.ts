/** A client of bench:verbs in a thread of its own: makes runs as it is told, and says how many operations and ns they took. */
import { parentPort, workerData } from 'node:worker_threads';
import { addon } from '../../native/addon.js';
import { Access, nowNs, SendFlag } from '../../native/index.js';
import { await1, established, MEMORY_BYTES, VerbsSide } from './verbs-side.js';

export interface ClientTask {
  readonly clientDevice: string;
  readonly nodeDevice: string;
  /** The node that the clients share. */
  readonly address: string;
  readonly rkey: number;
  /** Where a receiver of this thread's own listens. */
  readonly ownAddress: string | undefined;
}

export interface RunTask {
  readonly operation: string;
  readonly batch: number;
  readonly ms: number;
}

export interface RunResult {
  readonly operations: number;
  readonly ns: number;
}

const task = workerData as ClientTask;
const side = new VerbsSide(task.clientDevice);
const connection = side.device.connect(task.address, [side.qp], side.channel);
await established(connection);

/** Messages go to a receiver on this thread, so that each is received as soon as it is sent. */
const sender = new VerbsSide(task.clientDevice);
const receiver = new VerbsSide(task.nodeDevice);
const listener = receiver.device.listen(
  receiver.channel,
  task.ownAddress === undefined ? undefined : { address: task.ownAddress },
);
const toReceiver = sender.device.connect(listener.address, [sender.qp], sender.channel);
for (;;) {
  const incoming = listener.nextConnection();
  if (incoming !== undefined) {
    incoming.accept([receiver.qp]);
    break;
  }
  await new Promise((resolve) => setTimeout(resolve, 1));
}
await established(toReceiver);

const WINDOWS = 1024;
const WINDOW_BYTES = 64;
const windows = Array.from({ length: WINDOWS }, () => side.pd.allocMw().keyBase);
const tags = new Uint8Array(WINDOWS);
const { qp, mr, cq } = side;
const { rkey } = task;
const bytes = new Uint8Array(side.memory.buffer);
/** Successive operations use successive cache lines. */
const PLACES = MEMORY_BYTES / 4096;

type Post = (flags: number, i: number) => boolean;
const POSTS: Readonly<Record<string, Post>> = {
  'read 64 B': (flags, i) => qp.postRead(i, flags, 64 * (i & 63), mr.lkey, 64, 4096 * (i % PLACES), rkey),
  'read 4 KiB': (flags, i) =>
    qp.postRead(i, flags, 4096 * (i & 15), mr.lkey, 4096, 4096 * (i % PLACES), rkey),
  'write 64 B': (flags, i) => qp.postWrite(i, flags, 64 * (i & 63), mr.lkey, 64, 4096 * (i % PLACES), rkey),
  'write 4 KiB': (flags, i) =>
    qp.postWrite(i, flags, 4096 * (i & 15), mr.lkey, 4096, 4096 * (i % PLACES), rkey),
  cas: (flags, i) => qp.postCas(i, flags, 64 * (i & 63), mr.lkey, 4096 * (i % PLACES), rkey, 0, 0, 0, 0),
  faa: (flags, i) => qp.postFaa(i, flags, 64 * (i & 63), mr.lkey, 4096 * (i % PLACES), rkey, 1, 0),
};

/** Batches, two of them under way at a time, until the time is over. */
function pipeline(post: Post, batch: number, ms: number): RunResult {
  const begin = nowNs();
  const end = begin + ms * 1e6;
  let operations = 0;
  let underWay = 0;
  const most = batch === 1 ? 1 : 2;
  for (let now = begin; now < end; now = nowNs()) {
    for (let round = 0; round < 64; round += batch) {
      for (let i = 1; i <= batch; i++) post(i === batch ? SendFlag.SIGNALED : 0, operations + i);
      qp.doorbell();
      operations += batch;
      if (++underWay === most) {
        await1(cq);
        underWay--;
      }
    }
  }
  for (; underWay > 0; underWay--) await1(cq);
  return { operations, ns: nowNs() - begin };
}

function messages(batch: number, ms: number): RunResult {
  const begin = nowNs();
  const end = begin + ms * 1e6;
  let operations = 0;
  while (nowNs() < end) {
    for (let i = 0; i < batch; i++) receiver.qp.postRecv(i, 64 * i, receiver.mr.lkey, 64);
    for (let i = 1; i <= batch; i++) {
      sender.qp.postSend(i, i === batch ? SendFlag.SIGNALED : 0, 64 * i, sender.mr.lkey, 64);
    }
    sender.qp.doorbell();
    for (let i = 0; i < batch; i++) await1(receiver.cq);
    await1(sender.cq);
    operations += batch;
  }
  return { operations, ns: nowNs() - begin };
}

function bindAll(batch: number): void {
  for (let first = 0; first < WINDOWS; first += batch) {
    for (let i = first; i < first + batch; i++) {
      const flags = i === first + batch - 1 ? SendFlag.SIGNALED : 0;
      tags[i]!++;
      qp.postBindMw(
        i,
        flags,
        windows[i]! | tags[i]!,
        mr.lkey,
        WINDOW_BYTES * i,
        WINDOW_BYTES,
        Access.REMOTE_READ,
      );
    }
    qp.doorbell();
    await1(cq);
  }
}

function invalidateAll(batch: number): void {
  for (let first = 0; first < WINDOWS; first += batch) {
    for (let i = first; i < first + batch; i++) {
      qp.postLocalInv(i, i === first + batch - 1 ? SendFlag.SIGNALED : 0, windows[i]! | tags[i]!);
    }
    qp.doorbell();
    await1(cq);
  }
}

/** Windows are unbound before and after. `timed`: which of the three is measured. */
function binds(timed: 'bind' | 'rebind' | 'invalidate', batch: number, ms: number): RunResult {
  const end = nowNs() + ms * 1e6;
  let operations = 0;
  let ns = 0;
  const phase = (name: string, run: (batch: number) => void) => {
    const begin = nowNs();
    run(batch);
    if (name !== timed) return;
    ns += nowNs() - begin;
    operations += WINDOWS;
  };
  while (nowNs() < end) {
    phase('bind', bindAll);
    if (timed === 'rebind') phase('rebind', bindAll);
    phase('invalidate', invalidateAll);
  }
  return { operations, ns };
}

function repeat(call: (i: number) => void, ms: number): RunResult {
  const begin = nowNs();
  const end = begin + ms * 1e6;
  let operations = 0;
  for (let now = begin; now < end; now = nowNs()) {
    for (let i = 0; i < 1000; i++) call(i);
    operations += 1000;
  }
  return { operations, ns: nowNs() - begin };
}

function run({ operation, batch, ms }: RunTask): RunResult {
  switch (operation) {
    case 'send + recv 64 B':
      return messages(batch, ms);
    case 'bind':
    case 'rebind':
    case 'invalidate':
      return binds(operation, batch, ms);
    case 'empty call':
      return repeat(addon.nothing, ms);
    case 'memcpy 64 B':
      return repeat(
        (i) => bytes.copyWithin(4096 * (i & 63), 64 * (i & 63) + 2 ** 19, 64 * (i & 63) + 2 ** 19 + 64),
        ms,
      );
    case 'memcpy 4 KiB':
      return repeat(
        (i) => bytes.copyWithin(4096 * (i & 15), 4096 * (i & 63) + 2 ** 19, 4096 * (i & 63) + 2 ** 19 + 4096),
        ms,
      );
    default:
      return pipeline(POSTS[operation]!, batch, ms);
  }
}

parentPort!.on('message', (next: RunTask) => parentPort!.postMessage(run(next)));
parentPort!.postMessage('ready');
