/** Exclusive leases. With two directories each client asks another one. */
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  AcquireFlag,
  AcquireStatus,
  type Lease,
  Patronus,
  PatronusNode,
  RetCode,
} from '../../patronus/index.js';
import { until } from './until.js';

const EXCLUSIVE = AcquireFlag.WithConflictDetect;
const LONG_NS = 60e9;

let node: PatronusNode;
let client: Patronus;
let other: Patronus;

describe.each([1, 2])('%i directories', (directories) => {
  beforeEach(async () => {
    node = await PatronusNode.start({
      directories,
      allocBytes: 65536,
      maxLeases: 64,
      maxLeasesPerClient: 32,
    });
    client = await Patronus.connect({ nodes: [node.endpoint] });
    other = await Patronus.connect({ nodes: [node.endpoint] });
  });

  afterEach(async () => {
    await client.close();
    await other.close();
    await node.close();
  });

  const lock = (owner: Patronus, lockKey: number | undefined, termNs = LONG_NS, flags = 0) =>
    owner.getWlease({
      offset: 128,
      size: 64,
      termNs,
      flags: EXCLUSIVE | flags,
      ...(lockKey === undefined ? {} : { lockKey }),
    });

  test('one holder for each key, until it relinquishes', async () => {
    const { lease } = await lock(client, 5);
    for (const owner of [client, other]) expect((await lock(owner, 5)).status).toBe(AcquireStatus.LockedErr);
    expect((await lock(other, 6)).status).toBe(AcquireStatus.Success);
    // Who does not ask for the lock does not mind it.
    await other.writeLease({ offset: 128, size: 64, termNs: LONG_NS });
    await expect(
      other.writeLease({ offset: 0, size: 8, termNs: 1, flags: EXCLUSIVE, lockKey: 5 }),
    ).rejects.toMatchObject({ code: 'ERR_PATRONUS_LOCKED' });
    await lease!.relinquish();
    expect((await lock(other, 5)).status).toBe(AcquireStatus.Success);
  });

  test('the key is the start of the range unless another is given; any integer will do', async () => {
    await lock(client, undefined);
    expect((await lock(other, 128)).status).toBe(AcquireStatus.LockedErr);
    for (const key of [0, 2 ** 32 + 128, Number.MAX_SAFE_INTEGER]) {
      expect((await lock(other, key)).status).toBe(AcquireStatus.Success);
      expect((await lock(client, key)).status).toBe(AcquireStatus.LockedErr);
    }
    for (const key of [-1, 0.5, 2 ** 53]) await expect(lock(client, key)).rejects.toThrow(RangeError);
    const flags = EXCLUSIVE | AcquireFlag.WithAllocation;
    await expect(client.getWlease({ size: 64, termNs: LONG_NS, flags })).rejects.toThrow(TypeError);
    expect((await client.getWlease({ size: 64, termNs: LONG_NS, flags, lockKey: 77 })).status).toBe(
      AcquireStatus.Success,
    );
  });

  test('it ends with the term, which extensions put off', async () => {
    let lease: Lease | undefined;
    // On a busy machine a term may be over before it is extended.
    for (let termNs = 20e6; ; termNs *= 2) {
      ({ lease } = await lock(client, 1, termNs));
      if (lease !== undefined && (await client.extend(lease, termNs)) === RetCode.Ok) break;
    }
    let status: AcquireStatus;
    do {
      ({ status } = await lock(other, 1));
    } while (status === AcquireStatus.LockedErr);
    expect(status).toBe(AcquireStatus.Success);
    expect(other.now()).toBeGreaterThanOrEqual(lease!.deadlineNs);
    await expect(lease!.relinquish()).rejects.toMatchObject({ code: 'ERR_PATRONUS_NOT_FOUND' });
    expect((await lock(client, 1)).status).toBe(AcquireStatus.LockedErr);
  });

  test('it ends with its client', async () => {
    const url = new URL('./locking-thread.js', import.meta.url);
    const worker = new Worker(url, { workerData: { endpoint: node.endpoint, lockKey: 9 } });
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    expect((await lock(client, 9)).status).toBe(AcquireStatus.LockedErr);
    await worker.terminate();
    await until(() => node.stats().connections === 2);
    expect((await lock(client, 9)).status).toBe(AcquireStatus.Success);
  });

  test('a lock alone needs no permission, and is extended by message', async () => {
    const { lease } = await lock(client, 3, LONG_NS, AcquireFlag.NoBindAny);
    expect((await lock(other, 3)).status).toBe(AcquireStatus.LockedErr);
    await expect(lease!.read(0, 8)).rejects.toMatchObject({ code: 'ERR_PATRONUS_PROTECTION' });
    await lease!.relinquish();
    expect((await lock(other, 3, LONG_NS, AcquireFlag.NoBindAny)).status).toBe(AcquireStatus.Success);
  });

  test('a refused acquire takes no lock, and a refused lock nothing else', async () => {
    expect(
      (await other.getWlease({ offset: 2 ** 40, size: 1, termNs: 1, flags: EXCLUSIVE, lockKey: 4 })).status,
    ).toBe(AcquireStatus.AddressOutOfRangeErr);
    const flags = EXCLUSIVE | AcquireFlag.WithAllocation;
    const none = await other.getWlease({ size: 2 ** 30, termNs: LONG_NS, flags, lockKey: 4 });
    expect(none.status).toBe(AcquireStatus.NoMem);
    expect((await lock(client, 4)).status).toBe(AcquireStatus.Success);
    const locked = await other.getWlease({ size: 64, termNs: LONG_NS, flags, lockKey: 4 });
    expect(locked.status).toBe(AcquireStatus.LockedErr);
    expect(node.stats()).toMatchObject({ liveLeases: 1, allocatedBytes: 0 });
  });

  test('under contention there is never more than one holder', async () => {
    let holders = 0;
    let granted = 0;
    const contend = async (owner: Patronus) => {
      for (let i = 0; i < 400; i++) {
        const { lease } = await lock(owner, 8);
        if (lease === undefined) continue;
        expect(++holders).toBe(1);
        granted++;
        await new Promise((resolve) => setImmediate(resolve));
        holders--;
        await lease.relinquish();
      }
    };
    await Promise.all([client, other, client, other].map(contend));
    expect(granted).toBeGreaterThan(50);
  });
});
