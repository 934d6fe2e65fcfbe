/** Batches: order, outcome, what is not taken, several nodes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  AcquireFlag,
  type Lease,
  Patronus,
  PatronusNode,
  type RdmaBuffer,
  RetCode,
  RwFlag,
} from '../../patronus/index.js';

const FOREVER = { termNs: 1, flags: AcquireFlag.NoGc };

let nodes: PatronusNode[];
let client: Patronus;
let stranger: Patronus;
let buffer: RdmaBuffer;
/** 64 bytes on each node. */
let here: Lease;
let there: Lease;

beforeAll(async () => {
  nodes = await Promise.all([3, 8].map((nodeId) => PatronusNode.start({ nodeId, allocBytes: 65536 })));
  client = await Patronus.connect({ nodes: nodes.map((node) => node.endpoint) });
  stranger = await Patronus.connect({ nodes: [nodes[0]!.endpoint] });
  buffer = client.getRdmaBuffer(256);
  here = await client.writeLease({ offset: 64, size: 64, ...FOREVER });
  there = await client.writeLease({ nodeId: 8, offset: 64, size: 64, ...FOREVER });
});

afterAll(async () => {
  await client.close();
  await stranger.close();
  for (const node of nodes) await node.close();
});

/** Break pair after pair until an access has to wait for one: so has what is committed next. That access's outcome. */
function breakAllPairs(): Promise<RetCode> {
  for (let i = 0; i < 4; i++) {
    const outcome = client.read(here, buffer, 8, 64);
    if (outcome instanceof Promise) return outcome;
    expect(outcome).toBe(RetCode.RdmaProtectionErr);
  }
  throw new Error('there is always a pair left');
}

test('nodes keep their own memory, leases and batches', async () => {
  expect(client.nodes.map((layout) => layout.nodeId)).toEqual([3, 8]);
  expect([here.nodeId, there.nodeId]).toEqual([3, 8]);
  await here.write(0, Uint8Array.of(3));
  await there.write(0, Uint8Array.of(8));
  expect([(await here.read(0, 1))[0], (await there.read(0, 1))[0]]).toEqual([3, 8]);
  for (const [batch, right, wrong] of [
    [client.createBatch(), here, there],
    [client.createBatch(3), here, there],
    [client.createBatch(8), there, here],
  ] as const) {
    expect(batch.prepareRead(wrong, buffer, 0, 8, 0)).toBe(RetCode.Invalid);
    expect(batch.count).toBe(0);
    expect(batch.prepareRead(right, buffer, 0, 8, 0)).toBe(RetCode.Ok);
    expect(await batch.commit()).toBe(RetCode.Ok);
    expect(buffer.bytes[0]).toBe(right.nodeId);
  }
  expect(() => client.createBatch(4)).toThrow(RangeError);
  await expect(client.readLease({ nodeId: 4, offset: 0, size: 1, ...FOREVER })).rejects.toThrow(RangeError);
});

test("another client's buffers and leases are not taken", async () => {
  const foreign = stranger.getRdmaBuffer(256);
  const theirs = await stranger.writeLease({ offset: 64, size: 64, ...FOREVER });
  const batch = client.createBatch();
  buffer.bytes.fill(0x5a);
  expect(batch.prepareRead(here, foreign, 0, 8, 0)).toBe(RetCode.Invalid);
  expect(batch.prepareWrite(here, foreign, 0, 8, 0)).toBe(RetCode.Invalid);
  expect(batch.prepareCas(here, foreign, 0, 0, 0, 0, 1, 0)).toBe(RetCode.Invalid);
  expect(batch.prepareFaa(here, foreign, 0, 0, 1, 0)).toBe(RetCode.Invalid);
  expect(client.read(here, foreign, 8, 0)).toBe(RetCode.Invalid);
  expect(buffer.bytes.every((byte) => byte === 0x5a)).toBe(true);
  for (const mine of [buffer, foreign]) expect(client.write(theirs, mine, 8, 0)).toBe(RetCode.Invalid);
  expect(() => client.putRdmaBuffer(foreign)).toThrow(TypeError);
  stranger.putRdmaBuffer(foreign);
  await theirs.relinquish();
});

test.each([
  ['half a byte', 0, 0.5, 0],
  ['from half a byte', 0.5, 8, 0],
  ['a negative size', 0, -1, 0],
  ['a size that is no number', 0, Number.NaN, 0],
  ['over the end of the buffer', 250, 8, 0],
  ['sizes that wrap at 32 bits', 0, 2 ** 32 + 8, 0],
  ['a place in the buffer that wraps at 32 bits', 2 ** 32, 8, 0],
  ['half an offset', 0, 8, 0.5],
  ['an offset that is no number', 0, 8, Number.NaN],
  ['an endless offset', 0, 8, Number.POSITIVE_INFINITY],
  ['an offset of no exact number', 0, 8, 2 ** 53],
  ['an offset below all exact numbers', 0, 8, -(2 ** 54)],
])('nothing is prepared for %s', (_name, bufferOffset, size, offset) => {
  const batch = client.createBatch();
  expect(batch.prepareRead(here, buffer, bufferOffset, size, offset)).toBe(RetCode.Invalid);
  expect(batch.prepareWrite(here, buffer, bufferOffset, size, offset)).toBe(RetCode.Invalid);
  expect(batch.count).toBe(0);
});

test('nothing is added to or sent from a batch that is under way', async () => {
  await here.write(8, new Uint8Array(8));
  const broken = breakAllPairs();
  const batch = client.createBatch();
  expect(batch.prepareFaa(here, buffer, 0, 8, 1, 0)).toBe(RetCode.Ok);
  const outcome = batch.commit();
  expect(outcome).toBeInstanceOf(Promise);
  expect(batch.prepareFaa(here, buffer, 0, 8, 1, 0)).toBe(RetCode.Invalid);
  expect(batch.commit()).toBe(RetCode.Invalid);
  expect(() => batch.reset()).toThrow(TypeError);
  expect(await broken).toBe(RetCode.RdmaProtectionErr);
  expect(await outcome).toBe(RetCode.Ok);
  expect((await here.read(8, 1))[0]).toBe(1);
});

test('batches that had to wait run in the order of their commits, each once', async () => {
  await here.write(16, new Uint8Array(8));
  const broken = breakAllPairs();
  const buffers = Array.from({ length: 300 }, () => client.getRdmaBuffer(16));
  const outcomes = buffers.map((own, i) => {
    const batch = client.createBatch();
    batch.prepareFaa(here, own, 0, 16, 1, 0);
    // Every seventh fails behind its first operation and takes the pair with it.
    if (i % 7 === 0) batch.prepareFaa(here, own, 8, 64, 1, 0);
    batch.prepareRead(here, own, 8, 8, 16);
    return (async () => [await batch.commit(), batch.executed])();
  });
  expect(await broken).toBe(RetCode.RdmaProtectionErr);
  const expected = buffers.map((_, i) => (i % 7 === 0 ? [RetCode.RdmaProtectionErr, 1] : [RetCode.Ok, 2]));
  expect(await Promise.all(outcomes)).toEqual(expected);
  expect(buffers.map((own) => own.words[0])).toEqual(buffers.map((_, i) => i));
  for (const own of buffers) client.putRdmaBuffer(own);
});

test.each(['embedded', 'over shared memory'])(
  'batches are under way together, each with its own outcome: %s',
  async (link) => {
    const folder = mkdtempSync(join(tmpdir(), 'patronus-batches-'));
    const listen = link === 'embedded' ? {} : { listen: `unix:${join(folder, 'node')}` };
    await using node = await PatronusNode.start({ ...listen, allocBytes: 65536 });
    await using own = await Patronus.connect({ nodes: [node.endpoint] });
    const lease = await own.writeLease({ offset: 0, size: 64, ...FOREVER });
    const batches = Array.from({ length: 40 }, () => ({
      batch: own.createBatch(),
      buffer: own.getRdmaBuffer(16),
    }));
    for (const [i, { batch, buffer }] of batches.entries()) {
      batch.prepareFaa(lease, buffer, 0, 8, 1, 0);
      // Every seventh fails behind its first operation and takes the pair with it.
      if (i % 7 === 0) batch.prepareFaa(lease, buffer, 8, 64, 1, 0);
      expect(batch.post()).toBe(RetCode.Ok);
      expect(batch.post()).toBe(RetCode.Invalid);
      expect(batch.prepareRead(lease, buffer, 0, 8, 0)).toBe(RetCode.Invalid);
      expect(() => batch.reset()).toThrow(TypeError);
    }
    const seen = new Set<number>();
    for (const [i, { batch, buffer }] of [...batches.entries()].reverse()) {
      expect(await batch.commit()).toBe(i % 7 === 0 ? RetCode.RdmaProtectionErr : RetCode.Ok);
      expect([batch.executed, batch.count]).toEqual([1, 0]);
      seen.add(buffer.words[0]!);
      // It is over, and the batch can be filled again.
      expect(await batch.commit()).toBe(RetCode.Ok);
      expect(batch.prepareRead(lease, buffer, 0, 8, 8)).toBe(RetCode.Ok);
    }
    expect([...seen].sort((a, b) => a - b)).toEqual(batches.map((_, i) => i));
    const [first] = batches;
    expect(await first!.batch.commit()).toBe(RetCode.Ok);
    expect(first!.buffer.words[0]).toBe(batches.length);
    await lease.relinquish();
    rmSync(folder, { recursive: true });
  },
);

test.each([0, 1, 7, 15])(
  'of sixteen operations the ones before a refused one at %i take effect',
  async (at) => {
    await here.write(0, new Uint8Array(64));
    const batch = client.createBatch();
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 16; i++) {
        expect(batch.prepareFaa(here, buffer, 8 * i, i === at ? 64 : 8 * (i % 8), 1, 0)).toBe(RetCode.Ok);
      }
      expect(await batch.commit()).toBe(RetCode.RdmaProtectionErr);
      expect(batch.executed).toBe(at);
    }
    const words = new BigUint64Array((await here.read(0, 64)).buffer);
    const counts = Array.from(words, (_, word) => {
      const places = [word, word + 8].filter((place) => place < at);
      return BigInt(3 * places.length);
    });
    expect(Array.from(words)).toEqual(counts);
  },
);

test('a misaligned atomic ends the batch with another status', async () => {
  const batch = client.createBatch();
  batch.prepareRead(here, buffer, 0, 8, 0);
  batch.prepareCas(here, buffer, 8, 4, 0, 0, 1, 0);
  expect(await batch.commit()).toBe(RetCode.RdmaExecutionErr);
  expect(batch.executed).toBe(1);
  expect(await here.read(0, 1)).toHaveLength(1);
});

test('one ended lease keeps the whole batch from being sent', async () => {
  await here.write(24, new Uint8Array(8));
  const short = await client.writeLease({ offset: 128, size: 8, termNs: 1e6 });
  while (short.live) await new Promise((resolve) => setImmediate(resolve));
  const batch = client.createBatch();
  batch.prepareFaa(here, buffer, 0, 24, 1, 0);
  expect(batch.prepareFaa(short, buffer, 8, 0, 1, 0)).toBe(RetCode.Ok);
  expect(await batch.commit()).toBe(RetCode.LeaseLocalExpiredErr);
  expect([batch.count, batch.executed]).toEqual([0, 0]);
  batch.prepareFaa(short, buffer, 8, 0, 1, 0);
  expect(batch.post()).toBe(RetCode.LeaseLocalExpiredErr);
  expect([batch.count, batch.executed]).toEqual([0, 0]);
  expect((await here.read(24, 1))[0]).toBe(0);
  // The batch does not remember it.
  batch.prepareFaa(here, buffer, 0, 24, 1, 0);
  batch.reset();
  expect(await batch.commit()).toBe(RetCode.Ok);
  batch.prepareFaa(here, buffer, 0, 24, 1, 0, RwFlag.NoLocalExpireCheck);
  expect(await batch.commit()).toBe(RetCode.Ok);
  expect((await here.read(24, 1))[0]).toBe(1);
});

test('buffers are aligned, zero at first, apart from each other, and of bounded size', async () => {
  await using fresh = await Patronus.connect({ nodes: [nodes[0]!.endpoint] });
  for (const size of [0, -1, 1.5, Number.NaN, 2 ** 30 + 1]) {
    expect(() => fresh.getRdmaBuffer(size)).toThrow(RangeError);
  }
  const sizes = [1, 63, 64, 65, 4096, 300_000, 2 ** 20 + 1];
  const buffers = sizes.map((size) => fresh.getRdmaBuffer(size));
  buffers.forEach((own, i) => {
    expect(own.size).toBeGreaterThanOrEqual(sizes[i]!);
    expect(own.bytes.byteOffset % 64).toBe(0);
    expect(own.bytes.every((byte) => byte === 0)).toBe(true);
    own.bytes.fill(i + 1);
  });
  buffers.forEach((own, i) => {
    expect(own.bytes.every((byte) => byte === i + 1)).toBe(true);
    fresh.putRdmaBuffer(own);
  });
});
