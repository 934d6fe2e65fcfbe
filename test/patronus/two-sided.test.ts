/** Accesses by message: what refusal.test.ts does not show of them. And what a client remembers of its reads. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  AcquireFlag,
  type Lease,
  Patronus,
  PatronusNode,
  type RdmaBuffer,
  RetCode,
  RwFlag,
} from '../../patronus/index.js';
import { random } from './random.js';
import { until } from './until.js';

const LONG_NS = 60e9;
const BYTES = 65536;

let node: PatronusNode;
let client: Patronus;
let lease: Lease;
let buffer: RdmaBuffer;

beforeEach(async () => {
  node = await PatronusNode.start({ leaseBytes: BYTES, allocBytes: 65536 });
  client = await Patronus.connect({ nodes: [node.endpoint] });
  lease = await client.writeLease({ offset: 0, size: BYTES, termNs: LONG_NS });
  buffer = client.getRdmaBuffer(BYTES);
});

afterEach(async () => {
  await client.close();
  await node.close();
});

test.each([1, 31, 32, 33, 64, 1000, 4097])('%i bytes take as many messages as they need', async (size) => {
  const bytes = Uint8Array.from({ length: size }, (_, i) => i * 7 + size);
  for (const offset of [0, 5, 8]) {
    buffer.bytes.set(bytes);
    const { requests } = node.stats();
    expect(await client.rpcWrite(lease, buffer, size, offset)).toBe(RetCode.Ok);
    expect(node.stats().requests - requests).toBe(Math.ceil(size / 32));
    expect(await lease.read(offset, size)).toEqual(bytes);
    buffer.bytes.fill(0);
    expect(await client.rpcRead(lease, buffer, size, offset)).toBe(RetCode.Ok);
    expect(buffer.bytes.subarray(0, size)).toEqual(bytes);
    expect(buffer.bytes[size]).toBe(0);
  }
});

test('no lost additions, one-sided and two-sided together', async () => {
  const own = Array.from({ length: 100 }, () => client.getRdmaBuffer(8));
  const outcomes = await Promise.all(
    own.map((each, i) =>
      i % 2 === 0 ? client.rpcFaa(lease, each, 64, 1, 0) : client.faa(lease, each, 64, 1, 0),
    ),
  );
  expect(outcomes.every((status) => status === RetCode.Ok)).toBe(true);
  expect(own.map((each) => each.words[0]!).sort((a, b) => a - b)).toEqual(own.map((_, i) => i));
  expect(await client.rpcCas(lease, buffer, 64, 100, 0, 5, 0xffffffff)).toBe(RetCode.Ok);
  expect(await client.rpcFaa(lease, buffer, 64, 0xffffffff, 1)).toBe(RetCode.Ok);
  expect([buffer.words[0], buffer.words[1]]).toEqual([5, 0xffffffff]);
  expect(await lease.cas(64, 0n, 0n)).toBe(0x1_0000_0004n);
});

test('what makes no sense is not sent', async () => {
  const { requests } = node.stats();
  await using other = await Patronus.connect({ nodes: [node.endpoint] });
  const theirs = other.getRdmaBuffer(64);
  expect(await other.rpcRead(lease, theirs, 8, 0)).toBe(RetCode.Invalid);
  expect(await client.rpcRead(lease, theirs, 8, 0)).toBe(RetCode.Invalid);
  for (const size of [-1, 0.5, Number.NaN, BYTES + 1, 2 ** 32 + 8]) {
    expect(await client.rpcRead(lease, buffer, size, 0)).toBe(RetCode.Invalid);
  }
  for (const offset of [0.5, Number.NaN, 2 ** 53]) {
    expect(await client.rpcWrite(lease, buffer, 8, offset)).toBe(RetCode.Invalid);
  }
  expect(await client.rpcRead(lease, buffer, 8, 0, RwFlag.WithAutoExtend)).toBe(RetCode.Invalid);
  await lease.relinquish();
  expect(await client.rpcRead(lease, buffer, 8, 0)).toBe(RetCode.Invalid);
  const short = await client.writeLease({ offset: 0, size: 64, termNs: 1e6 });
  await until(() => !short.live);
  expect(await client.rpcRead(short, buffer, 8, 0)).toBe(RetCode.LeaseLocalExpiredErr);
  // Its own hello, two leases, a relinquish.
  expect(node.stats().requests - requests).toBe(3);
});

describe('remote copies', () => {
  test.each([1, 2])('as copyWithin, seed %i', async (seed) => {
    const next = random(seed);
    const model = Uint8Array.from({ length: BYTES }, (_, i) => (i * 31 + seed) >> 3);
    await lease.write(0, model);
    const second = await client.writeLease({ offset: 1000, size: BYTES - 1000, termNs: LONG_NS });
    for (let i = 0; i < 40; i++) {
      const size = Math.floor(next() * 40_000);
      const from = Math.floor(next() * (BYTES - size));
      const to = 1000 + Math.floor(next() * (BYTES - 1000 - size));
      if (to + size > BYTES) continue;
      expect(await client.remoteMemcpy(lease, from, second, to - 1000, size)).toBe(RetCode.Ok);
      model.copyWithin(to, from, from + size);
    }
    expect(await lease.read(0, BYTES)).toEqual(model);
  });

  test('only from what may be read to what may be written', async () => {
    const reader = await client.readLease({ offset: 0, size: 128, termNs: LONG_NS });
    const writer = await client.writeLease({ offset: 256, size: 128, termNs: LONG_NS });
    const before = await lease.read(0, 1024);
    const copy = (from: Lease, fromOffset: number, to: Lease, toOffset: number, size: number) =>
      client.remoteMemcpy(from, fromOffset, to, toOffset, size);
    expect(await copy(writer, 0, reader, 0, 8)).toBe(RetCode.RdmaProtectionErr);
    expect(await copy(reader, 121, writer, 0, 8)).toBe(RetCode.RdmaProtectionErr);
    expect(await copy(reader, 0, writer, 121, 8)).toBe(RetCode.RdmaProtectionErr);
    expect(await copy(reader, -8, writer, 0, 8)).toBe(RetCode.RdmaProtectionErr);
    for (const size of [-1, 0.5, Number.NaN])
      expect(await copy(reader, 0, writer, 0, size)).toBe(RetCode.Invalid);
    expect(await copy(reader, 0.5, writer, 0, 8)).toBe(RetCode.Invalid);
    expect(await lease.read(0, 1024)).toEqual(before);
    expect(await copy(reader, 8, writer, 0, 120)).toBe(RetCode.Ok);
    await writer.relinquish();
    expect(await copy(reader, 0, writer, 0, 8)).toBe(RetCode.Invalid);
  });
});

describe('remembered reads', () => {
  const cached = (size: number, offset: number) => client.read(lease, buffer, size, offset, RwFlag.WithCache);

  test('come without the memory node and its memory, until this client writes there', async () => {
    await using other = await Patronus.connect({ nodes: [node.endpoint] });
    const others = await other.writeLease({ offset: 0, size: BYTES, termNs: LONG_NS });
    await lease.write(0, Uint8Array.of(1, 2, 3, 4));
    expect(await cached(64, 0)).toBe(RetCode.Ok);
    await others.write(0, Uint8Array.of(9, 9, 9, 9));
    buffer.bytes.fill(0);
    expect(await cached(2, 2)).toBe(RetCode.Ok);
    expect([...buffer.bytes.subarray(0, 3)]).toEqual([3, 4, 0]);
    for (const write of [
      () => lease.write(63, Uint8Array.of(1)),
      () => lease.faa(0, 0n),
      () => client.rpcWrite(lease, buffer, 1, 5),
      () => client.remoteMemcpy(lease, 0, lease, 60, 8),
    ]) {
      await others.write(2, Uint8Array.of(7));
      await write();
      await cached(1, 2);
      expect(buffer.bytes[0]).toBe(7);
      await others.write(2, Uint8Array.of(8));
      await cached(64, 0);
      await cached(1, 2);
      expect(buffer.bytes[0]).toBe(8);
    }
    // Without the flag it is read.
    await others.write(2, Uint8Array.of(6));
    await client.read(lease, buffer, 1, 2);
    expect(buffer.bytes[0]).toBe(6);
  });

  test('are the sixteen used last', async () => {
    await using other = await Patronus.connect({ nodes: [node.endpoint] });
    const others = await other.writeLease({ offset: 0, size: BYTES, termNs: LONG_NS });
    for (let i = 0; i < 16; i++) await cached(8, 64 * i);
    await cached(8, 0);
    await cached(8, 64 * 16);
    await others.write(0, new Uint8Array(2000).fill(5));
    await cached(8, 0);
    expect(buffer.bytes[0]).toBe(0);
    await cached(8, 64);
    expect(buffer.bytes[0]).toBe(5);
  });

  test('end with the lease', async () => {
    const short = await client.readLease({ offset: 0, size: 64, termNs: 20e6 });
    expect(await client.read(short, buffer, 8, 0, RwFlag.WithCache)).toBe(RetCode.Ok);
    await until(() => !short.live);
    expect(await client.read(short, buffer, 8, 0, RwFlag.WithCache)).toBe(RetCode.LeaseLocalExpiredErr);
  });
});

describe('queue pairs', () => {
  test('that admit reads only, whatever the lease allows', async () => {
    await client.setReadOnly(true);
    expect(await client.read(lease, buffer, 8, 0)).toBe(RetCode.Ok);
    for (let i = 0; i < 3; i++) {
      expect(await client.write(lease, buffer, 8, 0)).toBe(RetCode.RdmaExecutionErr);
      expect(await client.faa(lease, buffer, 0, 1, 0)).toBe(RetCode.RdmaExecutionErr);
    }
    await client.setReadOnly(false);
    expect(await client.write(lease, buffer, 8, 0)).toBe(RetCode.Ok);
  });

  test.each([0, 1, 3])('with %i spares: faults and rebuilding, no operation is lost', async (spares) => {
    await using own = await Patronus.connect({ nodes: [node.endpoint], spares });
    const mine = await own.writeLease({ offset: 0, size: 64, termNs: 1, flags: AcquireFlag.NoGc });
    const rebuilt = (async () => {
      for (let i = 0; i < 5; i++) await own.reinitialise();
    })();
    const outcomes: PromiseLike<unknown>[] = [];
    for (let i = 0; i < 200; i++) {
      outcomes.push(mine.faa(8, 1n));
      if (i % 5 === 0)
        outcomes.push(mine.read(64, 8).catch((error) => expect(error.code).toMatch(/PROTECTION/)));
      if (i % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(outcomes);
    await rebuilt;
    expect(await mine.faa(8, 0n)).toBe(200n);
  });

  test('as many spares as fit', async () => {
    for (const spares of [-1, 8, 0.5]) {
      await expect(Patronus.connect({ nodes: [node.endpoint], spares })).rejects.toThrow(RangeError);
    }
  });
});
