/** Ways to have a permission, or none: upgraded, by a region, by the key of all memory, made up. */
import { afterEach, expect, test } from 'vitest';
import {
  AcquireFlag,
  AcquireStatus,
  ModifyFlag,
  Patronus,
  PatronusNode,
  type PatronusNodeOptions,
  RetCode,
  RwFlag,
} from '../../patronus/index.js';
import { until } from './until.js';

const RANGE = { offset: 64, size: 64, termNs: 60e9 };
const PROTECTION = { code: 'ERR_PATRONUS_PROTECTION' };

let node: PatronusNode;
let client: Patronus;

async function start(options: PatronusNodeOptions = {}): Promise<void> {
  node = await PatronusNode.start({ allocBytes: 65536, maxLeases: 64, maxLeasesPerClient: 4, ...options });
  client = await Patronus.connect({ nodes: [node.endpoint] });
}

afterEach(async () => {
  await client.close();
  await node.close();
});

test.each([
  ['a window', 0, {}],
  ['a window that can not be rebound', 0, { handover: false }],
  ['a region', AcquireFlag.UseMR, {}],
])('a read lease on %s becomes a write lease', async (_name, flags, options) => {
  await start(options);
  // As often as tags wrap.
  for (let i = 0; i < 600; i++) {
    const lease = await client.readLease({ ...RANGE, flags });
    const { deadlineNs } = lease;
    if (i % 100 === 0) await expect(lease.write(0, Uint8Array.of(1))).rejects.toMatchObject(PROTECTION);
    const { rkey } = lease as unknown as { rkey: number };
    await lease.upgrade();
    expect(lease).toMatchObject({ writable: true, live: true, deadlineNs });
    await lease.write(0, Uint8Array.of(i));
    expect(await lease.read(0, 1)).toEqual(Uint8Array.of(i));
    if (i % 100 === 0) {
      await expect(lease.read(64, 1)).rejects.toMatchObject(PROTECTION);
      // The old key is dead.
      const old = Object.assign(Object.create(Object.getPrototypeOf(lease)), lease, { rkey });
      await expect(old.read(0, 1)).rejects.toMatchObject(PROTECTION);
    }
    await lease.relinquish();
    if (i % 100 === 0) await expect(lease.write(0, Uint8Array.of(1))).rejects.toMatchObject({ code: /./ });
  }
  expect(node.stats().liveLeases).toBe(0);
});

test('nothing else is upgraded', async () => {
  await start();
  for (const [lease, owner] of [
    [await client.writeLease(RANGE), client],
    [await client.readLease({ ...RANGE, flags: AcquireFlag.NoBindAny }), client],
    [await client.readLease({ ...RANGE, flags: AcquireFlag.NoRpc }), client],
  ] as const) {
    const { writable } = lease;
    expect(await owner.upgrade(lease)).toBe(AcquireStatus.InvalidErr);
    expect(lease.writable).toBe(writable);
  }
  const lease = await client.readLease(RANGE);
  await using other = await Patronus.connect({ nodes: [node.endpoint] });
  expect(await other.upgrade(lease)).toBe(AcquireStatus.InvalidErr);
  await lease.relinquish();
  await expect(lease.upgrade()).rejects.toMatchObject({ code: 'ERR_PATRONUS_INVALID' });
});

test('an upgrade without a window left changes nothing', async () => {
  await start({ handover: false });
  const leases = await Promise.all(Array.from({ length: 4 }, () => client.readLease(RANGE)));
  expect(await client.upgrade(leases[0]!)).toBe(AcquireStatus.NoMw);
  expect(leases[0]!.writable).toBe(false);
  await leases[0]!.read(0, 8);
  await leases[1]!.relinquish();
  expect(await client.upgrade(leases[0]!)).toBe(AcquireStatus.Success);
});

test('a region protects as a window does, and ends as one', async () => {
  await start();
  const writer = await client.writeLease({ ...RANGE, flags: AcquireFlag.UseMR });
  const reader = await client.readLease({ ...RANGE, flags: AcquireFlag.UseMR });
  await writer.write(0, Uint8Array.of(4));
  expect(await reader.read(0, 1)).toEqual(Uint8Array.of(4));
  await expect(reader.write(0, Uint8Array.of(5))).rejects.toMatchObject(PROTECTION);
  for (const lease of [reader, writer]) await expect(lease.read(60, 8)).rejects.toMatchObject(PROTECTION);
  await reader.relinquish();
  const short = await client.writeLease({ ...RANGE, termNs: 2e6, flags: AcquireFlag.UseMR });
  await until(() => node.stats().expired === 1);
  const buffer = client.getRdmaBuffer(64);
  for (const lease of [short, reader]) {
    expect(await client.read(lease, buffer, 8, 0, RwFlag.NoLocalExpireCheck)).toBe(RetCode.RdmaProtectionErr);
  }
  const bad = AcquireFlag.UseMR | AcquireFlag.NoBindAny;
  expect((await client.getRlease({ ...RANGE, flags: bad })).status).toBe(AcquireStatus.InvalidErr);
});

test('the key of all memory is not given away unasked', async () => {
  await start();
  const lease = await client.writeLease(RANGE);
  const buffer = client.getRdmaBuffer(64);
  expect(await client.write(lease, buffer, 8, 0, RwFlag.UseUniversalRkey)).toBe(RetCode.Invalid);
});

test('the key of all memory knows no lease', async () => {
  await start({ bypass: true });
  const lease = await client.writeLease(RANGE);
  const { requests } = node.stats();
  const madeUp = await client.readLease({ offset: 0, size: 8, termNs: 1e9, flags: AcquireFlag.NoRpc });
  expect(node.stats().requests).toBe(requests);
  const buffer = client.getRdmaBuffer(64);
  buffer.bytes.fill(7);
  expect(await client.write(madeUp, buffer, 64, 32, RwFlag.UseUniversalRkey)).toBe(RetCode.Ok);
  expect(await lease.read(0, 1)).toEqual(Uint8Array.of(7));
  expect(await client.faa(madeUp, buffer, 64, 1, 0, RwFlag.UseUniversalRkey)).toBe(RetCode.Ok);
  expect(await client.relinquish(madeUp, ModifyFlag.WithDeallocation)).toBe(RetCode.Invalid);
  await madeUp.relinquish();
  expect(await client.read(madeUp, buffer, 8, 0, RwFlag.UseUniversalRkey)).toBe(RetCode.Invalid);
  expect(await client.relinquish(madeUp)).toBe(RetCode.NotFound);
  expect(node.stats().requests).toBe(requests);
  // Without the flag a made-up lease opens nothing.
  const opensNothing = await client.readLease({ offset: 0, size: 8, termNs: 1e9, flags: AcquireFlag.NoRpc });
  expect(await client.read(opensNothing, buffer, 8, 0)).toBe(RetCode.RdmaProtectionErr);
});

test('relinquished without a message a lease is over for its client and lives on to its term', async () => {
  await start();
  const lease = await client.writeLease({ ...RANGE, termNs: 30e6 });
  expect(await client.relinquish(lease, ModifyFlag.NoRpc)).toBe(RetCode.Ok);
  expect(lease.live).toBe(false);
  expect(node.stats().liveLeases).toBe(1);
  await until(() => node.stats().expired === 1);
});

test('at the limit of its leases a client gives back and takes with one breath, tag after tag', async () => {
  for (const options of [{}, { handover: false }, { handover: false, lastWindowFirst: false }]) {
    await start({ maxLeasesPerClient: 1, ...options });
    let lease = await client.readLease({ ...RANGE, flags: AcquireFlag.NoBindPR });
    for (let i = 0; i < 600; i++) {
      const [ended, next] = await Promise.all([client.relinquish(lease), client.getRlease(RANGE)]);
      expect([ended, next.status], `step ${i}`).toEqual([RetCode.Ok, AcquireStatus.Success]);
      lease = next.lease!;
      if (i % 50 === 0) expect(await lease.read(0, 8)).toHaveLength(8);
    }
    await client.close();
    await node.close();
  }
  await start();
});
