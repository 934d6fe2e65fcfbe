import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MAX_CALLS } from '../../patronus/client/calls.js';
import {
  AcquireFlag,
  AcquireStatus,
  type Lease,
  ModifyFlag,
  Patronus,
  PatronusNode,
  RetCode,
} from '../../patronus/index.js';
import { random } from './random.js';
import { until } from './until.js';

const LONG_NS = 60e9;
const MEMORY = 65536;

let node: PatronusNode;
let client: Patronus;

beforeEach(async () => {
  node = await PatronusNode.start({
    leaseBytes: MEMORY,
    allocBytes: 4 * 65536,
    maxLeases: 256,
    maxLeasesPerClient: 128,
    maxClients: 4,
  });
  client = await Patronus.connect({ nodes: [node.endpoint] });
});

afterEach(async () => {
  await client.close();
  await node.close();
});

describe('acquire', () => {
  test('grants for no longer than asked', async () => {
    const before = client.now();
    const lease = await client.readLease({ offset: 0, size: 64, termNs: 5e8 });
    expect(lease.deadlineNs).toBeGreaterThan(before + 5e8);
    expect(lease.deadlineNs).toBeLessThanOrEqual(client.now() + 5e8);
    expect(lease).toMatchObject({ nodeId: 0, offset: 0, size: 64, writable: false, live: true });
  });

  test.each([
    ['empty', 0, 0, AcquireStatus.AddressOutOfRangeErr],
    ['the whole', 0, MEMORY + 4 * 65536, AcquireStatus.Success],
    ['a byte too long', 0, MEMORY + 4 * 65536 + 1, AcquireStatus.AddressOutOfRangeErr],
    ['behind the end', MEMORY + 4 * 65536, 1, AcquireStatus.AddressOutOfRangeErr],
    ['the last byte', MEMORY + 4 * 65536 - 1, 1, AcquireStatus.Success],
    ['far away', 2 ** 52, 1, AcquireStatus.AddressOutOfRangeErr],
    ['huge', 1, Number.MAX_SAFE_INTEGER, AcquireStatus.AddressOutOfRangeErr],
  ])('a range that is %s', async (_name, offset, size, status) => {
    expect((await client.getRlease({ offset, size, termNs: LONG_NS })).status).toBe(status);
  });

  test('a term of nothing, an unknown flag, numbers that are none', async () => {
    expect((await client.getRlease({ offset: 0, size: 1, termNs: 0 })).status).toBe(AcquireStatus.InvalidErr);
    const unknown = await client.getRlease({ offset: 0, size: 1, termNs: 1, flags: 1 << 9 });
    expect(unknown.status).toBe(AcquireStatus.InvalidErr);
    // None gets lost in the 16 bits of the message.
    for (const flags of [1 << 16, 0x10001, 2 ** 32, -1, 1.5, Number.NaN]) {
      const wild = await client.getWlease({ offset: 0, size: 1, termNs: 1e9, flags });
      expect([wild.status, wild.lease]).toEqual([AcquireStatus.InvalidErr, undefined]);
    }
    expect(node.stats().liveLeases).toBe(0);
    await expect(client.getRlease({ offset: -1, size: 1, termNs: 1 })).rejects.toThrow(RangeError);
    await expect(client.getRlease({ offset: 0.5, size: 1, termNs: 1 })).rejects.toThrow(RangeError);
    await expect(client.getRlease({ offset: 0, size: Number.NaN, termNs: 1 })).rejects.toThrow(RangeError);
  });

  test('as many as one client may have, and again after one ends', async () => {
    const grant = () => client.getRlease({ offset: 0, size: 64, termNs: LONG_NS });
    const granted = await Promise.all(Array.from({ length: 128 }, grant));
    expect(granted.every((result) => result.status === AcquireStatus.Success)).toBe(true);
    expect((await grant()).status).toBe(AcquireStatus.NoMw);
    // The others have what is left.
    await using other = await Patronus.connect({ nodes: [node.endpoint] });
    await other.readLease({ offset: 0, size: 64, termNs: LONG_NS });
    await granted[5]!.lease!.relinquish();
    expect((await grant()).status).toBe(AcquireStatus.Success);
  });

  test('many more at once than messages fit', async () => {
    const leases = await Promise.all(
      Array.from({ length: 4 * MAX_CALLS - 8 }, (_, i) =>
        client.writeLease({ offset: i * 64, size: 64, termNs: LONG_NS }),
      ),
    );
    await Promise.all(leases.map((lease, i) => lease.write(0, Uint8Array.of(i))));
    const read = await Promise.all(leases.map((lease) => lease.read(0, 1)));
    expect(read.map((bytes) => bytes[0])).toEqual(leases.map((_, i) => i));
    await Promise.all(leases.map((lease) => lease.relinquish()));
    expect(node.stats().liveLeases).toBe(0);
  });
});

test('thousands of requests at once', async () => {
  await using big = await PatronusNode.start({ allocBytes: 65536 });
  await using many = await Patronus.connect({ nodes: [big.endpoint] });
  for (let round = 0; round < 3; round++) {
    const grants = Array.from({ length: 4000 }, (_, i) =>
      many.getWlease({ offset: (i % 1024) * 64, size: 64, termNs: LONG_NS }),
    );
    const leases = (await Promise.all(grants)).map((result) => result.lease!);
    expect(big.stats().liveLeases).toBe(4000);
    // Every second ends while another begins.
    const ends = leases.map((lease, i) =>
      i % 2 === 0 ? lease.relinquish() : many.readLease({ offset: 0, size: 8, termNs: LONG_NS }),
    );
    const begun = (await Promise.all(ends)).filter((lease) => lease !== undefined);
    expect(big.stats().liveLeases).toBe(4000);
    const odd = leases.filter((_, i) => i % 2 === 1);
    await Promise.all([...odd, ...begun].map((lease) => lease.relinquish()));
    expect(big.stats().liveLeases).toBe(0);
  }
});

describe('the end of a lease', () => {
  test('comes by itself, also while the client does nothing', async () => {
    const lease = await client.writeLease({ offset: 0, size: 64, termNs: 2e6 });
    await until(() => node.stats().expired === 1);
    expect(node.stats().liveLeases).toBe(0);
    expect(lease.live).toBe(false);
    // Too late: an error to this client, and nothing else.
    await expect(lease.relinquish()).rejects.toMatchObject({ code: 'ERR_PATRONUS_NOT_FOUND' });
    await client.readLease({ offset: 0, size: 64, termNs: LONG_NS });
  });

  test('never comes by itself with NoGc', async () => {
    const forever = await client.writeLease({ offset: 0, size: 64, termNs: 1, flags: AcquireFlag.NoGc });
    await client.writeLease({ offset: 0, size: 64, termNs: 2e6 });
    await until(() => node.stats().expired === 1);
    expect(forever.deadlineNs).toBe(Number.POSITIVE_INFINITY);
    await forever.write(0, Uint8Array.of(1));
    await forever.relinquish();
  });

  test('comes once: the second relinquish is an error, disposal is not', async () => {
    const lease = await client.writeLease({ offset: 0, size: 64, termNs: LONG_NS });
    await lease.relinquish();
    expect(await client.relinquish(lease)).toBe(RetCode.NotFound);
    {
      await using disposed = await client.writeLease({ offset: 0, size: 64, termNs: LONG_NS });
      await disposed.relinquish();
    }
    {
      await using expired = await client.writeLease({ offset: 0, size: 64, termNs: 1e6 });
      await until(() => node.stats().expired === 1);
      expect(expired.live).toBe(false);
    }
    expect(node.stats().liveLeases).toBe(0);
  });

  test('in the order of deadlines, whatever that of the grants', async () => {
    const next = random(7);
    const leases: Lease[] = [];
    for (let i = 0; i < 100; i++) {
      leases.push(
        await client.readLease({ offset: 0, size: 64, termNs: 1e6 + Math.floor(next() * 2e7) }).catch(fail),
      );
    }
    await until(() => node.stats().expired === 100);
    expect(node.stats().liveLeases).toBe(0);
    expect(leases.every((lease) => !lease.live)).toBe(true);

    function fail(error: unknown): never {
      throw error;
    }
  });

  test('is not brought about by a malformed request', async () => {
    const lease = await client.writeLease({ offset: 0, size: 64, termNs: LONG_NS });
    for (const flags of [8, 4.5, 1 << 16, 0x10001, -1, 0.5, Number.NaN]) {
      expect(await client.relinquish(lease, flags)).toBe(RetCode.Invalid);
    }
    await lease.write(0, Uint8Array.of(1));
    await lease.relinquish();
    expect(node.stats().liveLeases).toBe(0);
  });

  test("is not a stranger's to bring about", async () => {
    await using other = await Patronus.connect({ nodes: [node.endpoint] });
    const mine = await client.writeLease({ offset: 0, size: 64, termNs: LONG_NS });
    expect(await other.relinquish(mine)).toBe(RetCode.Invalid);
    await mine.write(0, Uint8Array.of(1));
  });
});

describe('allocation', () => {
  const allocate = (size: number) =>
    client.getWlease({ size, termNs: LONG_NS, flags: AcquireFlag.WithAllocation });

  test('hands out separate pieces and takes them back', async () => {
    for (let round = 0; round < 3; round++) {
      const leases: Lease[] = [];
      for (;;) {
        const { status, lease } = await allocate(30000);
        if (status === AcquireStatus.NoMem) break;
        expect(status).toBe(AcquireStatus.Success);
        leases.push(lease!);
      }
      expect(leases).toHaveLength(8);
      const places = leases.map((lease) => lease.offset).sort((a, b) => a - b);
      for (let i = 1; i < places.length; i++)
        expect(places[i]! - places[i - 1]!).toBeGreaterThanOrEqual(30000);
      for (const lease of leases) await lease.relinquish(ModifyFlag.WithDeallocation);
      expect(node.stats().allocatedBytes).toBe(0);
    }
  });

  test("frees only the client's own pieces, from their start", async () => {
    const { lease } = await allocate(4096);
    await using other = await Patronus.connect({ nodes: [node.endpoint] });
    const stranger = await other.writeLease({ offset: lease!.offset, size: 64, termNs: LONG_NS });
    expect(await other.relinquish(stranger, ModifyFlag.WithDeallocation)).toBe(RetCode.Invalid);
    const inside = await client.writeLease({ offset: lease!.offset + 64, size: 64, termNs: LONG_NS });
    expect(await client.relinquish(inside, ModifyFlag.WithDeallocation)).toBe(RetCode.Invalid);
    expect(node.stats().allocatedBytes).toBe(4096);
    const again = await client.writeLease({ offset: lease!.offset, size: 64, termNs: LONG_NS });
    expect(await client.relinquish(lease!, ModifyFlag.WithDeallocation)).toBe(RetCode.Ok);
    expect(await client.relinquish(again, ModifyFlag.WithDeallocation)).toBe(RetCode.Invalid);
    expect(node.stats().allocatedBytes).toBe(0);
  });

  test('more than there is', async () => {
    expect((await allocate(2 ** 40)).status).toBe(AcquireStatus.NoMem);
    expect((await allocate(0)).status).toBe(AcquireStatus.AddressOutOfRangeErr);
  });
});

describe('batches', () => {
  test('run in order, and say how far they came', async () => {
    const lease = await client.writeLease({ offset: 0, size: 64, termNs: LONG_NS });
    const buffer = client.getRdmaBuffer(256);
    const batch = client.createBatch();
    buffer.words.fill(7);
    expect(batch.prepareWrite(lease, buffer, 0, 64, 0)).toBe(RetCode.Ok);
    expect(batch.prepareFaa(lease, buffer, 64, 8, 1, 0)).toBe(RetCode.Ok);
    expect(batch.prepareFaa(lease, buffer, 72, 8, 1, 0)).toBe(RetCode.Ok);
    expect(batch.prepareRead(lease, buffer, 128, 64, 0)).toBe(RetCode.Ok);
    expect(await batch.commit()).toBe(RetCode.Ok);
    expect([buffer.words[16], buffer.words[18], buffer.words[32 + 2]]).toEqual([7, 8, 9]);

    batch.prepareFaa(lease, buffer, 64, 16, 1, 0);
    batch.prepareFaa(lease, buffer, 64, 64, 1, 0);
    batch.prepareFaa(lease, buffer, 64, 16, 1, 0);
    expect(await batch.commit()).toBe(RetCode.RdmaProtectionErr);
    expect(batch.executed).toBe(1);
    expect(batch.count).toBe(0);
    expect((await lease.read(16, 1))[0]).toBe(8);
  });

  test('refuse what can not be sent', async () => {
    const lease = await client.writeLease({ offset: 0, size: 64, termNs: LONG_NS });
    const buffer = client.getRdmaBuffer(64);
    const batch = client.createBatch();
    expect(batch.prepareRead(lease, buffer, 60, 8, 0)).toBe(RetCode.Invalid);
    expect(batch.prepareRead(lease, buffer, -8, 8, 0)).toBe(RetCode.Invalid);
    expect(batch.prepareRead({} as Lease, buffer, 0, 8, 0)).toBe(RetCode.Invalid);
    expect(batch.prepareRead(lease, { ...buffer }, 0, 8, 0)).toBe(RetCode.Invalid);
    for (let i = 0; i < 16; i++) expect(batch.prepareRead(lease, buffer, 0, 8, 0)).toBe(RetCode.Ok);
    expect(batch.prepareRead(lease, buffer, 0, 8, 0)).toBe(RetCode.Invalid);
    expect(await batch.commit()).toBe(RetCode.Ok);
    expect(await batch.commit()).toBe(RetCode.Ok);
    client.putRdmaBuffer(buffer);
    expect(() => client.putRdmaBuffer(buffer)).toThrow(TypeError);
  });

  test('go on through fault after fault', async () => {
    const lease = await client.writeLease({ offset: 0, size: 64, termNs: LONG_NS });
    const outcomes = await Promise.allSettled(
      Array.from({ length: 40 }, (_, i) => (i % 3 === 0 ? lease.faa(0, 1n) : lease.read(64, 8))),
    );
    const done = outcomes.filter((outcome) => outcome.status === 'fulfilled').length;
    expect(done).toBe(14);
    expect((await lease.read(0, 1))[0]).toBe(14);
  });
});

test.each([
  [{ nodeId: -1 }],
  [{ nodeId: 65536 }],
  [{ leaseBytes: -1 }],
  [{ leaseBytes: 0.5 }],
  [{ allocBytes: Number.NaN }],
  [{ maxLeases: 0 }],
  [{ maxLeases: 4, maxLeasesPerClient: 5 }],
  [{ maxClients: 0 }],
])('a node does not start with %o', async (options) => {
  await expect(PatronusNode.start(options)).rejects.toThrow(RangeError);
});

test('leases of all clients together are bounded too', async () => {
  await using small = await PatronusNode.start({ allocBytes: 65536, maxLeases: 10, maxLeasesPerClient: 8 });
  await using one = await Patronus.connect({ nodes: [small.endpoint] });
  await using two = await Patronus.connect({ nodes: [small.endpoint] });
  const range = { offset: 0, size: 64, termNs: LONG_NS };
  const all = (owner: Patronus) => Promise.all(Array.from({ length: 9 }, () => owner.getWlease(range)));
  const granted = (results: { status: AcquireStatus }[]) =>
    results.filter((result) => result.status === AcquireStatus.Success).length;
  const first = await all(one);
  expect(first[8]!.status).toBe(AcquireStatus.NoMw);
  expect(granted(first)).toBe(8);
  expect(granted(await all(two))).toBe(2);
  expect(small.stats()).toMatchObject({ liveLeases: 10, refused: 8 });
  // An allocation that gets no lease is given back.
  const flags = AcquireFlag.WithAllocation;
  expect((await two.getWlease({ size: 64, termNs: LONG_NS, flags })).status).toBe(AcquireStatus.NoMw);
  expect(small.stats().allocatedBytes).toBe(0);
  await first[0]!.lease!.relinquish();
  expect((await two.getWlease(range)).status).toBe(AcquireStatus.Success);
});

describe('connections', () => {
  test('as many as the node takes', async () => {
    const others = await Promise.all([1, 2, 3].map(() => Patronus.connect({ nodes: [node.endpoint] })));
    const refused = Patronus.connect({ nodes: [node.endpoint] });
    await expect(refused).rejects.toMatchObject({ code: 'ERR_PATRONUS_CONNECT' });
    await others[0]!.close();
    await until(() => node.stats().connections === 3);
    const again = await Patronus.connect({ nodes: [node.endpoint] });
    for (const other of [...others, again]) await other.close();
  });

  test('nobody there', async () => {
    const nowhere = Patronus.connect({ nodes: [{ nodeId: 0, address: 'loopback:0:0' }] });
    await expect(nowhere).rejects.toMatchObject({ code: 'ERR_PATRONUS_CONNECT' });
    const another = Patronus.connect({ nodes: [{ ...node.endpoint, nodeId: 3 }] });
    await expect(another).rejects.toMatchObject({ code: 'ERR_PATRONUS_CONNECT' });
  });

  test('the end of the client ends its leases', async () => {
    const other = await Patronus.connect({ nodes: [node.endpoint] });
    for (let i = 0; i < 20; i++) {
      await other.writeLease({ offset: 0, size: 64, termNs: 1, flags: AcquireFlag.NoGc });
    }
    await other.close();
    await until(() => node.stats().liveLeases === 0 && node.stats().connections === 1);
    await expect(other.readLease({ offset: 0, size: 1, termNs: 1 })).rejects.toMatchObject({
      code: 'ERR_PATRONUS_CLOSED',
    });
  });

  test('a closed client says so', async () => {
    const lease = await client.writeLease({ offset: 0, size: 64, termNs: LONG_NS });
    const pending = client.readLease({ offset: 0, size: 64, termNs: LONG_NS });
    const closing = client.close();
    await expect(pending).rejects.toMatchObject({ code: 'ERR_PATRONUS_CLOSED' });
    await closing;
    await client.close();
    const closed = { code: 'ERR_PATRONUS_CLOSED' };
    for (const size of [8, 2 ** 20]) await expect(lease.read(0, size)).rejects.toMatchObject(closed);
    await expect(lease.write(0, new Uint8Array(8))).rejects.toMatchObject(closed);
    await expect(lease.faa(0, 1n)).rejects.toMatchObject(closed);
    await expect(lease.relinquish()).rejects.toMatchObject(closed);
    expect(() => client.getRdmaBuffer(8)).toThrow(expect.objectContaining(closed));
    expect(() => client.createBatch()).toThrow(expect.objectContaining(closed));
  });

  test('the end of the node ends what is under way, and everything later', async () => {
    const lease = await client.writeLease({ offset: 0, size: 64, termNs: LONG_NS });
    const pending = Array.from({ length: 100 }, () =>
      client.getRlease({ offset: 0, size: 64, termNs: LONG_NS }).then(
        () => 'answered',
        (error) => error.code,
      ),
    );
    await node.close();
    const ends = new Set(await Promise.all(pending));
    ends.delete('answered');
    expect([...ends].filter((code) => code !== 'ERR_PATRONUS_DISCONNECTED')).toEqual([]);
    await expect(lease.read(0, 8)).rejects.toMatchObject({ code: 'ERR_PATRONUS_EXECUTION' });
    await expect(client.readLease({ offset: 0, size: 1, termNs: 1 })).rejects.toMatchObject({
      code: 'ERR_PATRONUS_DISCONNECTED',
    });
    await node.close();
  });

  test('the end of the node ends accesses that wait for a pair', async () => {
    const lease = await client.writeLease({ offset: 0, size: 64, termNs: LONG_NS });
    const buffer = client.getRdmaBuffer(64);
    const outcomes = Array.from({ length: 30 }, (_, i) =>
      client.read(lease, buffer, 8, i % 2 === 0 ? 0 : 64),
    );
    expect(outcomes[29]).toBeInstanceOf(Promise);
    await node.close();
    const possible: readonly RetCode[] = [
      RetCode.Ok,
      RetCode.RdmaProtectionErr,
      RetCode.RdmaExecutionErr,
      RetCode.OutcomeUnknown,
    ];
    for (const status of await Promise.all(outcomes)) expect(possible).toContain(status);
    expect(await client.read(lease, buffer, 8, 0)).toBe(RetCode.RdmaExecutionErr);
  });

  test('threads that work at once see their own leases only', async () => {
    const url = new URL('./sharing-thread.js', import.meta.url);
    const workers = [1, 2, 3].map(
      (id) => new Worker(url, { workerData: { endpoint: node.endpoint, id, seed: 5 } }),
    );
    const reports = await Promise.all(
      workers.map(
        (worker) =>
          new Promise<{ added: number; wrong: string[] }>((resolve, reject) => {
            worker.once('message', resolve).once('error', reject);
          }),
      ),
    );
    expect(reports.flatMap((report) => report.wrong)).toEqual([]);
    await until(() => node.stats().connections === 1 && node.stats().liveLeases === 0);
    const shared = await client.readLease({ offset: 0, size: 8, termNs: LONG_NS });
    const total = new BigUint64Array((await shared.read(0, 8)).buffer)[0];
    expect(total).toBe(BigInt(reports.reduce((sum, report) => sum + report.added, 0)));
    expect(node.stats().allocatedBytes).toBe(0);
  });

  test('threads that die at any moment leave nothing behind', async () => {
    const url = new URL('./lease-thread.js', import.meta.url);
    const next = random(11);
    for (let round = 0; round < 8; round++) {
      const workers = [0, 1, 2].map(
        (id) => new Worker(url, { workerData: { endpoint: node.endpoint, id, seed: round } }),
      );
      await Promise.all(
        workers.map(async (worker) => {
          await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
          await new Promise((resolve) => setTimeout(resolve, next() * 40));
          await worker.terminate();
        }),
      );
      await until(() => node.stats().connections === 1 && node.stats().liveLeases === 0);
    }
    await client.writeLease({ offset: 0, size: 64, termNs: LONG_NS });
  });
});
