import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test } from 'vitest';
import {
  Access,
  type Connection,
  type Listener,
  QpState,
  type QueuePair,
  WcStatus,
} from '../../native/index.js';
import { failureOf, Rig, Side } from './rig.js';
import { Shared, type WorkerTask } from './worker.js';

const { ERR } = QpState;
const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface Node {
  readonly side: Side;
  readonly listener: Listener;
  readonly shared: SharedArrayBuffer;
  readonly flags: Int32Array;
}

function startNode(): Node {
  const side = new Side();
  closers.push(() => side.device.close());
  const shared = new SharedArrayBuffer(64);
  return { side, listener: side.device.listen(side.channel), shared, flags: new Int32Array(shared) };
}

interface Running {
  readonly worker: Worker;
  /** What it posts; undefined if it ends without. */
  readonly result: Promise<number | undefined>;
  readonly connection: Connection;
  readonly qp: QueuePair;
}

/** Start a worker, take its connection, and wait until it begins. */
async function start(node: Node, task: Pick<WorkerTask, 'kind'> & Partial<WorkerTask>): Promise<Running> {
  const { side, listener, shared, flags } = node;
  const workerData = { address: listener.address, shared, rkey: side.mr.rkey, count: 0, ...task };
  const ready = Atomics.load(flags, Shared.READY);
  const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData });
  closers.push(() => worker.terminate());
  const result = new Promise<number | undefined>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', () => resolve(undefined));
  });
  result.catch(() => {});
  let connection: Connection | undefined;
  for (let i = 0; i < 4000 && connection === undefined; i++) {
    // The worker needs this thread's event loop to start.
    await new Promise((resolve) => setTimeout(resolve, 5));
    connection = listener.nextConnection();
  }
  const qp = side.newQp();
  connection!.accept([qp]);
  if (Atomics.wait(flags, Shared.READY, ready, 20_000) === 'timed-out')
    throw new Error('the worker is not ready');
  return { worker, result, connection: connection!, qp };
}

async function disconnection(node: Node): Promise<Connection | undefined> {
  for (let i = 0; i < 600; i++) {
    const gone = node.listener.nextDisconnection();
    if (gone !== undefined) return gone;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return undefined;
}

describe('a client thread that leaves everything open', () => {
  test.each(['return', 'exit', 'terminate'] as const)('and ends by %s is a disconnection', async (ending) => {
    const node = startNode();
    const { worker, connection, qp } = await start(node, { kind: 'leave', ending });
    if (ending === 'terminate') await worker.terminate();
    expect(await disconnection(node)).toBe(connection);
    expect([connection.state, qp.state]).toEqual(['closed', ERR]);
    expect(node.listener.nextDisconnection()).toBeUndefined();
  });

  test('may do so 60 times', async () => {
    const node = startNode();
    const endings = ['return', 'exit', 'terminate'] as const;
    for (let i = 0; i < 60; i++) {
      const ending = endings[i % 3]!;
      const { worker, connection, qp } = await start(node, { kind: 'leave', ending });
      if (ending === 'terminate') await worker.terminate();
      expect(await disconnection(node)).toBe(connection);
      connection.close();
      qp.close();
    }
  }, 120_000);
});

/** The halves of a word are the same in everything the worker writes. */
function torn(words: BigUint64Array, count: number): number {
  let found = 0;
  for (let i = 0; i < count; i++) if (words[i]! >> 32n !== (words[i]! & 0xffffffffn)) found++;
  return found;
}

test('words are never torn for a reader, whoever writes', async () => {
  const node = startNode();
  const writers = [await start(node, { kind: 'write-words' }), await start(node, { kind: 'write-words' })];
  const reader = new Side();
  closers.push(() => reader.device.close());
  reader.device.connect(node.listener.address, [reader.qp], reader.channel);
  node.listener.nextConnection()!.accept([node.side.newQp()]);
  const seen = new Set<bigint>();
  let found = 0;
  for (let i = 0; i < 40_000; i++) {
    if (reader.read(0, 0, node.side.mr.rkey, 256) !== WcStatus.SUCCESS) throw new Error('a read failed');
    found += torn(reader.words, 32);
    seen.add(reader.words[0]!);
  }
  Atomics.store(node.flags, Shared.STOP, 1);
  await Promise.all(writers.map(({ result }) => result));
  expect(found).toBe(0);
  expect(seen.size).toBeGreaterThan(10);
});

test('fetch-and-add and compare-and-swap of several threads lose nothing', async () => {
  const node = startNode();
  const count = 300_000;
  const running: Running[] = [];
  node.side.words[1] = 0xffffff00n;
  for (const kind of ['add', 'swap', 'add', 'swap'] as const)
    running.push(await start(node, { kind, count }));
  Atomics.store(node.flags, Shared.START, 1);
  Atomics.notify(node.flags, Shared.START);
  for (const { result } of running) expect(await result).toBeGreaterThanOrEqual(count);
  expect(node.side.words[0]).toBe(BigInt(2 * count) * 0x100000003n);
  expect(node.side.words[1]).toBe(0xffffff00n + BigInt(2 * count));
});

/**
 * Bring the pair to RTS. No late fault of the peer takes it out of RESET or INIT; one of a request that came after RTR
 * may be faster than the change to RTS: then try again.
 */
function restart(qp: QueuePair): void {
  for (let attempt = 0; attempt < 1000; attempt++) {
    qp.modify(QpState.RESET);
    qp.modify(QpState.INIT);
    qp.modify(QpState.RTR);
    if (failureOf(() => qp.modify(QpState.RTS)) === undefined) return;
  }
  throw new Error('the pair does not stay out of ERR');
}

test('the end of a permission is final, while another thread writes', async () => {
  const REVOCATIONS = 10_000;
  const RANGE = 4096;
  const node = startNode();
  const { side, flags } = node;
  const owner = await Rig.open();
  closers.push(() => owner.close());
  // The window is bound through a pair that no fault of the writer touches.
  const binder = side.newQp();
  const peer = owner.client.newQp();
  owner.client.device.connect(node.listener.address, [peer], owner.client.channel);
  node.listener.nextConnection()!.accept([binder]);
  const { result, qp } = await start(node, { kind: 'hammer' });
  side.qp = binder;

  const { keyBase } = side.pd.allocMw();
  const rights = Access.REMOTE_WRITE;
  let tag = 0;
  let interrupted = 0;
  let late = 0;
  const bind = (range: number) => {
    tag = (tag + 1) & 0xff;
    return side.bind(keyBase + tag, range * RANGE, RANGE, rights);
  };
  const bytesOf = (range: number) => side.bytes.subarray(range * RANGE, (range + 1) * RANGE);
  /** Wait, for a bounded time, until the writer has changed the first word. */
  const written = (range: number) => {
    const before = Atomics.load(side.words, (range * RANGE) / 8);
    for (let spin = 0; spin < 3000; spin++) {
      if (Atomics.load(side.words, (range * RANGE) / 8) !== before) return true;
    }
    return false;
  };

  let range = 0;
  expect(bind(range)).toBe(WcStatus.SUCCESS);
  for (let i = 0; i < REVOCATIONS; i++) {
    Atomics.store(flags, Shared.ADDRESS, range * RANGE);
    Atomics.store(flags, Shared.RKEY, keyBase + tag);
    restart(qp);
    if (written(range)) interrupted++;
    const old = range;
    range = (range + 1) % 4;
    // By turns: the key is ended and then bound elsewhere; it is moved.
    if (i % 2 === 0 && side.invalidate(keyBase + tag) !== WcStatus.SUCCESS)
      throw new Error('LOCAL_INV failed');
    if (i % 2 !== 0 && bind(range) !== WcStatus.SUCCESS) throw new Error('the move failed');
    const snapshot = Buffer.from(bytesOf(old));
    if (i % 2 === 0 && bind(range) !== WcStatus.SUCCESS) throw new Error('the bind failed');
    written(old);
    if (snapshot.compare(bytesOf(old)) !== 0) late++;
  }
  Atomics.store(flags, Shared.STOP, 1);
  expect(await result).toBeGreaterThan(100);
  expect(interrupted).toBeGreaterThan(100);
  expect(late).toBe(0);
});
