/** Memory nodes with several directories. locks.test.ts and allocation.test.ts run on such nodes too. */
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { LeaseHandle } from '../../patronus/client/lease.js';
import {
  AcquireFlag,
  AcquireStatus,
  type Lease,
  Patronus,
  PatronusNode,
  type PatronusNodeOptions,
  RetCode,
} from '../../patronus/index.js';
import { Introductions, introductionBytes } from '../../patronus/memory-node/introductions.js';
import { until } from './until.js';

const SPAN = 65536;
const LONG_NS = 60e9;
const folder = mkdtempSync(join(tmpdir(), 'patronus-directories-'));
const opened: AsyncDisposable[] = [];
let sockets = 0;

afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each[Symbol.asyncDispose]();
});
afterAll(() => rmSync(folder, { recursive: true }));

async function start(options: PatronusNodeOptions): Promise<PatronusNode> {
  const node = await PatronusNode.start({ leaseBytes: SPAN, ...options });
  opened.push(node);
  return node;
}

async function connect(node: PatronusNode): Promise<Patronus> {
  const client = await Patronus.connect({ endpoints: [node.endpoint.address] });
  opened.push(client);
  return client;
}

const address = () => `unix:${join(folder, `${sockets++}.sock`)}`;
const bytes = (...values: number[]) => Uint8Array.from({ length: 64 }, (_, i) => values[i] ?? 0);
/** In the middle of the part of each directory. */
const places = (count: number, spans: number) =>
  Array.from({ length: count }, (_, i) => SPAN + Math.floor(((i + 0.5) * spans) / count) * SPAN);
const write = (client: Patronus, offset: number, size = 64, flags = 0) =>
  client.writeLease({ offset, size, termNs: LONG_NS, flags });

describe.each([
  [2, 'in this process'],
  [3, 'in this process'],
  [2, 'over shared memory'],
  [3, 'over shared memory'],
])('%i directories %s', (directories, link) => {
  const options = () =>
    link === 'in this process'
      ? { directories }
      : { directories, listen: address(), policy: 'open' as const };

  test('one memory, whichever directory grants: ranges in each part, across parts, in the lease buffer', async () => {
    const node = await start({ ...options(), allocBytes: 6 * SPAN });
    const [one, two] = [await connect(node), await connect(node)];
    expect(one.nodes).toMatchObject([{ leaseBytes: SPAN, allocOffset: SPAN, allocBytes: 6 * SPAN }]);
    const all = await one.writeLease({ offset: 0, size: 7 * SPAN, termNs: LONG_NS });
    const offsets = [0, ...places(directories, 6)];
    const leases = await Promise.all(offsets.map((offset) => write(two, offset)));
    for (const [i, lease] of leases.entries()) {
      await lease.write(0, bytes(i + 1, 7));
      expect(await all.read(lease.offset, 64)).toEqual(bytes(i + 1, 7));
      expect(await all.faa(lease.offset, 1n)).toBe(BigInt(i + 1 + 7 * 256));
      expect(await lease.read(0, 2)).toEqual(Uint8Array.of(i + 2, 7));
      // By message too: each is known where it was granted.
      expect(await two.rpcExtend(lease, 1)).toBe(RetCode.Ok);
      await lease.extend(1);
      await expect(lease.read(64, 8)).rejects.toMatchObject({ code: 'ERR_PATRONUS_PROTECTION' });
    }
    const granting = new Set(leases.slice(1).map((lease) => (lease as LeaseHandle).node));
    expect(granting.size).toBe(directories);
    const each = node.directoryStats();
    expect(each).toHaveLength(directories);
    expect(node.stats()).toMatchObject({ connections: 2, liveLeases: offsets.length + 1 });
    expect(each.every(({ connections, liveLeases }) => connections === 2 && liveLeases >= 1)).toBe(true);
    for (const lease of leases) await lease.relinquish();
    await all.relinquish();
    expect(node.stats()).toMatchObject({ liveLeases: 0, relinquished: offsets.length + 1 });
    await expect(write(one, 7 * SPAN - 32)).rejects.toMatchObject({
      code: 'ERR_PATRONUS_ADDRESS_OUT_OF_RANGE',
    });
  });

  test('terms end in each, and a dead client leaves nothing in any', async () => {
    const node = await start({ ...options(), allocBytes: 6 * SPAN });
    const client = await connect(node);
    for (const offset of places(directories, 6)) {
      await client.writeLease({ offset, size: 64, termNs: 1e6 });
    }
    await until(() => node.stats().expired === directories);
    const url = new URL('./directories-thread.js', import.meta.url);
    const worker = new Worker(url, { workerData: { address: node.endpoint.address, spans: 6 } });
    await once(worker, 'message');
    expect(node.stats()).toMatchObject({ connections: 2, liveLeases: 6, allocatedBytes: 6 * SPAN });
    expect(node.directoryStats().every(({ liveLeases }) => liveLeases === 6 / directories)).toBe(true);
    const locked = {
      offset: 0,
      size: 64,
      termNs: LONG_NS,
      flags: AcquireFlag.WithConflictDetect,
      lockKey: 5,
    };
    expect((await client.getWlease(locked)).status).toBe(AcquireStatus.LockedErr);
    await worker.terminate();
    await until(() => node.stats().connections === 1);
    expect(node.stats()).toMatchObject({ liveLeases: 0, allocatedBytes: 0 });
    expect((await client.getWlease(locked)).status).toBe(AcquireStatus.Success);
  });
});

test('allocations take the parts in turn, the first of each client another one; none is larger than a part', async () => {
  const allocators = [{ hint: 7, bytes: SPAN }];
  const node = await start({ directories: 3, allocBytes: 8 * SPAN, allocators });
  const clients = [await connect(node), await connect(node), await connect(node)];
  // 2, 2 and 3 spans for hint 0, and the one of hint 7 in the last part.
  for (const client of clients)
    expect((await client.alloc({ size: 2 * SPAN })).status).toBe(AcquireStatus.Success);
  expect(node.directoryStats().map(({ allocatedBytes }) => allocatedBytes)).toEqual(
    [2, 2, 2].map((n) => n * SPAN),
  );
  const [client] = clients as [Patronus];
  expect((await client.alloc({ size: 2 * SPAN })).status).toBe(AcquireStatus.NoMem);
  const last = await client.writeLease({ size: SPAN, termNs: LONG_NS, flags: AcquireFlag.WithAllocation });
  expect((await client.alloc({ size: 64, hint: 7 })).status).toBe(AcquireStatus.Success);
  expect((await client.alloc({ size: 64, hint: 6 })).status).toBe(AcquireStatus.InvalidErr);
  expect(await client.dealloc({ nodeId: 0, offset: last.offset }, SPAN)).toBe(RetCode.Ok);
  await last.relinquish();
  expect((await client.alloc({ size: SPAN })).status).toBe(AcquireStatus.Success);
  expect((await client.alloc({ size: 64 })).status).toBe(AcquireStatus.NoMem);
});

test('who a client is holds in all directories: memory, grants, and no stranger', async () => {
  const node = await start({ directories: 2, allocBytes: 4 * SPAN, policy: 'owner' });
  const [one, two, three] = [await connect(node), await connect(node), await connect(node)];
  const own = await Promise.all([1, 2, 3, 4].map(() => one.alloc({ size: SPAN })));
  for (const { address } of own) {
    const { offset } = address!;
    const range = { offset, size: 64, termNs: LONG_NS };
    expect((await one.getWlease(range)).status).toBe(AcquireStatus.Success);
    expect((await two.getWlease(range)).status).toBe(AcquireStatus.DeniedErr);
    expect(await two.grant(address!)).toBe(RetCode.Invalid);
    expect(await one.grant(address!, two.identity())).toBe(RetCode.Ok);
    expect((await two.getWlease(range)).status).toBe(AcquireStatus.Success);
    expect((await three.getWlease(range)).status).toBe(AcquireStatus.DeniedErr);
    expect(await one.keepAllocation(address!)).toBe(RetCode.Ok);
    expect(await two.dealloc(address!, SPAN)).toBe(RetCode.Ok);
  }
  // Across the parts: memory of nobody in particular.
  const across = { offset: SPAN + 2 * SPAN - 32, size: 64, termNs: LONG_NS };
  for (const client of [one, two, three]) {
    expect((await client.getRlease(across)).status).toBe(AcquireStatus.DeniedErr);
  }
});

test('a secret introduces one client and ends with it', () => {
  const memory = new SharedArrayBuffer(introductionBytes(3));
  const [own, others] = [new Introductions(memory), new Introductions(memory)];
  const identity = 2 ** 40 + 5;
  const words = new Uint32Array(4);
  expect(others.identityOf(words, 0)).toBe(0);
  own.add(1, identity);
  own.add(2, 6);
  own.tell(1, words, 2);
  expect(others.identityOf(words, 0)).toBe(0);
  expect(others.identityOf(words, 2)).toBe(identity);
  for (const word of [2, 3]) {
    const wrong = words.slice();
    wrong[word]! ^= 2;
    expect(others.identityOf(wrong, 2)).toBe(0);
  }
  own.remove(1);
  expect(others.identityOf(words, 2)).toBe(0);
  own.add(1, identity + 1);
  expect(others.identityOf(words, 2)).toBe(0);
});

describe('leases of two directories', () => {
  async function two(): Promise<{ node: PatronusNode; client: Patronus; leases: [Lease, Lease] }> {
    const node = await start({ directories: 2, allocBytes: 8 * SPAN });
    const client = await connect(node);
    const [first, second] = places(2, 8) as [number, number];
    const leases = await Promise.all([write(client, first, 2 * SPAN), write(client, second, 2 * SPAN)]);
    return { node, client, leases };
  }

  test('the key of one is of no use at the other', async () => {
    const { client, leases } = await two();
    const [one, other] = leases as unknown as [LeaseHandle, LeaseHandle];
    await one.write(0, bytes(1, 2, 3));
    const buffer = client.getRdmaBuffer(64);
    for (const rkey of [one.rkey, other.rkey]) {
      const { offset, size, headerRkey, headerAddress, unitNs, index, generation } = one;
      const rest = { index, generation, headerRkey, headerAddress, unitNs, beginNs: client.now() };
      const forged = new LeaseHandle(other.node, {
        ...rest,
        offset,
        size,
        rkey,
        writable: true,
        local: false,
      });
      expect(await client.write(forged, buffer, 8, 0)).toBe(RetCode.RdmaProtectionErr);
      expect(await client.read(forged, buffer, 8, 0)).toBe(RetCode.RdmaProtectionErr);
    }
    expect(await one.read(0, 64)).toEqual(bytes(1, 2, 3));
  });

  test('in one batch: in order, up to the first that fails', async () => {
    const { client, leases } = await two();
    const [one, other] = leases;
    const buffer = client.getRdmaBuffer(64);
    const batch = client.createBatch();
    buffer.words[0] = 5;
    expect(batch.prepareWrite(one, buffer, 0, 8, 0)).toBe(RetCode.Ok);
    expect(batch.prepareRead(one, buffer, 8, 8, 0)).toBe(RetCode.Ok);
    expect(batch.prepareWrite(other, buffer, 8, 8, 0)).toBe(RetCode.Ok);
    expect(batch.prepareFaa(other, buffer, 16, 0, 2, 0)).toBe(RetCode.Ok);
    expect(batch.prepareCas(one, buffer, 24, 0, 5, 0, 9, 0)).toBe(RetCode.Ok);
    expect(batch.prepareRead(other, buffer, 32, 8, 0)).toBe(RetCode.Ok);
    expect(batch.count).toBe(6);
    const outcome = batch.commit();
    expect(batch.prepareRead(one, buffer, 0, 8, 0)).toBe(
      outcome instanceof Promise ? RetCode.Invalid : RetCode.Ok,
    );
    expect(await outcome).toBe(RetCode.Ok);
    batch.reset();
    expect([2, 4, 6, 8].map((word) => buffer.words[word])).toEqual([5, 5, 5, 7]);
    expect(await one.read(0, 1)).toEqual(Uint8Array.of(9));

    for (const [lease, offset] of [
      [one, 0],
      [one, 8],
      [other, 0],
      [other, 2 * SPAN],
      [one, 16],
    ] as const) {
      expect(batch.prepareWrite(lease, buffer, 40, 8, offset)).toBe(RetCode.Ok);
    }
    expect(await batch.commit()).toBe(RetCode.RdmaProtectionErr);
    expect([batch.executed, batch.count]).toEqual([3, 0]);
    expect(await one.read(0, 1)).toEqual(Uint8Array.of(0));

    // What is not taken leaves the rest as it was.
    for (let i = 0; i < 16; i++) expect(batch.prepareRead(leases[i & 1]!, buffer, 0, 8, 0)).toBe(RetCode.Ok);
    expect(batch.prepareRead(one, buffer, 0, 8, 0)).toBe(RetCode.Invalid);
    batch.reset();
    expect(batch.prepareRead(one, buffer, 60, 8, 0)).toBe(RetCode.Invalid);
    expect(batch.prepareRead(other, buffer, 0, 8, 0)).toBe(RetCode.Ok);
    expect([batch.count, await batch.commit()]).toEqual([1, RetCode.Ok]);
    buffer.words[0] = 6;
    expect(batch.prepareWrite(one, buffer, 0, 8, 0)).toBe(RetCode.Ok);
    expect(batch.prepareRead(other, buffer, 16, 8, 0)).toBe(RetCode.Ok);
    expect(batch.prepareRead(one, buffer, 8, 8, 0)).toBe(RetCode.Ok);
    expect(batch.post()).toBe(RetCode.Ok);
    expect([batch.post(), batch.prepareRead(one, buffer, 0, 8, 0)]).toEqual([
      RetCode.Invalid,
      RetCode.Invalid,
    ]);
    expect(await batch.commit()).toBe(RetCode.Ok);
    expect([batch.executed, batch.count, buffer.words[2]]).toEqual([3, 0, 6]);
    const ending = await client.writeLease({ offset: 0, size: 64, termNs: 1e6 });
    await until(() => !ending.live);
    expect(batch.prepareWrite(other, buffer, 0, 8, 0)).toBe(RetCode.Ok);
    expect(batch.prepareWrite(one, buffer, 0, 8, 0)).toBe(RetCode.Ok);
    expect(batch.prepareWrite(ending, buffer, 0, 8, 0)).toBe(RetCode.Ok);
    expect(await batch.commit()).toBe(RetCode.LeaseLocalExpiredErr);
    expect([batch.executed, batch.count]).toEqual([0, 0]);
  });

  test('copies from one to the other, within both', async () => {
    const { client, leases } = await two();
    const [one, other] = leases;
    const image = Uint8Array.from({ length: SPAN + 1000 }, (_, i) => (i * 31) >> 3);
    await one.write(5, image);
    expect(await client.remoteMemcpy(one, 5, other, 100, image.length)).toBe(RetCode.Ok);
    expect(await other.read(100, image.length)).toEqual(image);
    const refused = [
      [2 * SPAN - 8, 0, 16],
      [0, 2 * SPAN - 8, 16],
      [-8, 0, 8],
    ] as const;
    for (const [from, to, size] of refused) {
      expect(await client.remoteMemcpy(one, from, other, to, size)).toBe(RetCode.RdmaProtectionErr);
    }
    const reader = await client.readLease({ offset: other.offset, size: 64, termNs: LONG_NS });
    expect(await client.remoteMemcpy(one, 0, reader, 0, 8)).toBe(RetCode.RdmaProtectionErr);
    expect(await client.remoteMemcpy(reader, 0, one, 0, 8)).toBe(RetCode.Ok);
    expect(await client.remoteMemcpy(one, 0, other, 0, 0.5)).toBe(RetCode.Invalid);
    await other.relinquish();
    expect(await client.remoteMemcpy(one, 0, other, 0, 8)).toBe(RetCode.Invalid);
  });

  test('are lost together, and the client connects to both again', async () => {
    const { node, client, leases } = await two();
    const [one, other] = leases as unknown as [LeaseHandle, LeaseHandle];
    await client.setReadOnly(true);
    for (const lease of leases) {
      await expect(lease.write(0, bytes(1))).rejects.toMatchObject({ code: 'ERR_PATRONUS_EXECUTION' });
    }
    await client.setReadOnly(false);
    await client.reinitialise();
    other.node.lose(new Error('test') as never);
    expect([one.live, other.live]).toEqual([false, false]);
    await until(() => node.stats().connections === 0);
    expect(node.stats().liveLeases).toBe(0);
    const again = await Promise.all(leases.map((lease) => write(client, lease.offset)));
    for (const lease of again) await lease.write(0, bytes(4));
    expect(node.stats()).toMatchObject({ connections: 1, liveLeases: 2 });
  });
});

test('what keeps one directory busy is not done by the thread of the other', async () => {
  const node = await start({ directories: 2, allocBytes: 64 * 2 ** 20, policy: 'owner' });
  const [calm, greedy] = [await connect(node), await connect(node)];
  const requests = () => node.directoryStats().map((each) => each.requests);
  const before = requests();
  // Each of them is cleared.
  const size = 32 * 2 ** 20;
  const clearing = (async () => {
    for (let i = 0; i < 6; i++) await greedy.dealloc((await greedy.alloc({ size })).address!, size);
  })();
  for (let i = 0; i < 20; i++) await (await write(calm, 0)).relinquish();
  await clearing;
  expect(requests().map((count, i) => count - before[i]!)).toEqual([40, 12]);
  expect(node.directoryStats().map(({ acquired }) => acquired)).toEqual([20, 0]);
});

test('a node without one of its directories is none', async () => {
  const node = await start({ directories: 3 });
  const client = await connect(node);
  const lease = await write(client, 0);
  const { directories } = node as unknown as { directories: { worker: Worker }[] };
  await directories[1]!.worker.terminate();
  await node.ended;
  await expect(write(client, 0)).rejects.toMatchObject({ code: 'ERR_PATRONUS_DISCONNECTED' });
  expect(lease.live).toBe(false);
});

test('a node that can not have all its directories has none', async () => {
  const listen = address();
  const path = listen.slice(5);
  writeFileSync(`${path}.1`, 'not a socket');
  await expect(PatronusNode.start({ directories: 3, listen })).rejects.toMatchObject({
    code: 'ERR_PATRONUS_LISTEN',
    message: expect.stringContaining(`${listen}.1`),
  });
  expect([path, `${path}.2`].map((each) => existsSync(each))).toEqual([false, false]);
  rmSync(`${path}.1`);
  await (await PatronusNode.start({ directories: 3, listen })).close();
  expect([path, `${path}.1`, `${path}.2`].map((each) => existsSync(each))).toEqual([false, false, false]);
});

test.each([0, 17, 1.5, Number.NaN])('there are no %j directories', async (directories) => {
  await expect(PatronusNode.start({ directories })).rejects.toThrow(RangeError);
});
