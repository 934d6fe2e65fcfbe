/** Leases that are extended: one-sided, by message, by the way; and those whose time has come. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { LeaseHandle } from '../../patronus/client/lease.js';
import { AcquireFlag, type Lease, Patronus, PatronusNode, RetCode, RwFlag } from '../../patronus/index.js';
import { until } from './until.js';

const RANGE = { offset: 0, size: 64 };
const UNIT_NS = 150e6;

let node: PatronusNode;
let client: Patronus;

beforeEach(async () => {
  node = await PatronusNode.start({ allocBytes: 65536, maxLeases: 64, maxLeasesPerClient: 32 });
  client = await Patronus.connect({ nodes: [node.endpoint] });
});

afterEach(async () => {
  await client.close();
  await node.close();
});

function pastFirstTerm(lease: Lease, deadlineNs: number): Promise<void> {
  return until(() => client.now() > deadlineNs + 5e6 || !lease.live);
}

test('one-sided: without a message, in whole units, and the memory node holds to it', async () => {
  const lease = await client.writeLease({ ...RANGE, termNs: UNIT_NS });
  const first = lease.deadlineNs;
  const { requests } = node.stats();
  expect(client.extend(lease, 1)).toBe(RetCode.Ok);
  expect(lease.deadlineNs).toBe(first + UNIT_NS);
  await lease.extend(2.5 * UNIT_NS);
  expect(lease.deadlineNs).toBe(first + 4 * UNIT_NS);
  expect(node.stats().requests).toBe(requests);
  await pastFirstTerm(lease, first);
  expect(lease.live).toBe(true);
  await lease.write(0, Uint8Array.of(1));
  expect(node.stats()).toMatchObject({ liveLeases: 1, expired: 0 });
  await until(() => node.stats().expired === 1);
  expect(client.now()).toBeGreaterThanOrEqual(lease.deadlineNs);
  expect(lease.live).toBe(false);
});

test.each([0, AcquireFlag.NoBindPR, AcquireFlag.UseMR])(
  'by message, with acquire flags %i',
  async (flags) => {
    const lease = await client.writeLease({ ...RANGE, termNs: UNIT_NS, flags });
    const first = lease.deadlineNs;
    expect(await client.rpcExtend(lease, UNIT_NS + 1)).toBe(RetCode.Ok);
    expect(lease.deadlineNs).toBe(first + 2 * UNIT_NS);
    await pastFirstTerm(lease, first);
    await lease.write(0, Uint8Array.of(1));
    await until(() => node.stats().expired === 1);
  },
);

test('both at once: nothing is lost', async () => {
  const lease = await client.writeLease({ ...RANGE, termNs: 1e9 });
  const begin = lease.deadlineNs - 1e9;
  const outcomes = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      i % 2 === 0 ? client.rpcExtend(lease, 1e9) : client.extend(lease, 1e9),
    ),
  );
  expect(outcomes).toEqual(outcomes.map(() => RetCode.Ok));
  expect(client.extend(lease, 1)).toBe(RetCode.Ok);
  expect(lease.deadlineNs).toBe(begin + 22e9);
});

test('not what has no header, no term, or is over', async () => {
  for (const flags of [AcquireFlag.NoBindPR, AcquireFlag.NoBindAny, AcquireFlag.NoGc, AcquireFlag.NoRpc]) {
    const lease = await client.writeLease({ ...RANGE, termNs: 1e9, flags });
    expect(await client.extend(lease, 1)).toBe(RetCode.Invalid);
  }
  const forever = await client.writeLease({ ...RANGE, termNs: 1, flags: AcquireFlag.NoGc });
  expect(await client.rpcExtend(forever, 1)).toBe(RetCode.Invalid);
  const lease = await client.writeLease({ ...RANGE, termNs: 1e9 });
  for (const ns of [0, -1, 0.5, Number.NaN, 2 ** 53, 2 ** 32 * 1e9]) {
    expect(await client.extend(lease, ns)).toBe(RetCode.Invalid);
    expect(await client.rpcExtend(lease, ns)).toBe(RetCode.Invalid);
  }
  await lease.relinquish();
  expect(await client.extend(lease, 1)).toBe(RetCode.NotFound);
  expect(await client.rpcExtend(lease, 1)).toBe(RetCode.NotFound);
  const short = await client.writeLease({ ...RANGE, termNs: 1e6 });
  await until(() => !short.live);
  expect(await client.extend(short, 1)).toBe(RetCode.LeaseLocalExpiredErr);
  expect(await client.rpcExtend(short, 1)).toBe(RetCode.LeaseLocalExpiredErr);
});

test('a header that belongs to another lease by now is left alone', async () => {
  const old = (await client.writeLease({ ...RANGE, termNs: 1e9 })) as LeaseHandle;
  await old.relinquish();
  let current = (await client.writeLease({ ...RANGE, termNs: 1e9 })) as LeaseHandle;
  for (let i = 0; i < 200 && current.index !== old.index; i++) {
    await current.relinquish();
    current = (await client.writeLease({ ...RANGE, termNs: 1e9 })) as LeaseHandle;
  }
  expect(current.index).toBe(old.index);
  old.ended = false;
  // Its window is gone.
  expect(await client.extend(old, 1)).toBe(RetCode.NotFound);
  // And with a key that works, the count in the word differs.
  Object.assign(old, { headerRkey: current.headerRkey });
  expect(await client.extend(old, 1)).toBe(RetCode.NotFound);
  const deadline = current.deadlineNs;
  expect(await client.extend(current, 1)).toBe(RetCode.Ok);
  expect(current.deadlineNs).toBe(deadline + 1e9);
});

test('by the way: for as long as it is used, by doubling steps, no longer', async () => {
  const lease = await client.writeLease({ ...RANGE, termNs: 150e6 });
  const first = lease.deadlineNs;
  const buffer = client.getRdmaBuffer(64);
  while (client.now() < first + 400e6) {
    expect(await client.write(lease, buffer, 8, 0, RwFlag.WithAutoExtend)).toBe(RetCode.Ok);
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(node.stats().requests).toBeLessThan(5);
  await until(() => node.stats().expired === 1);
  // Too late: the flag brings nothing back.
  expect(await client.write(lease, buffer, 8, 0, RwFlag.WithAutoExtend)).toBe(RetCode.LeaseLocalExpiredErr);
});

test('what a client writes into its header extends its own lease or nothing', async () => {
  const neighbours = await Promise.all(
    Array.from({ length: 8 }, () => client.writeLease({ ...RANGE, termNs: 1e9 })),
  );
  const lease = (await client.writeLease({ ...RANGE, termNs: 5e6 })) as LeaseHandle;
  const buffer = client.getRdmaBuffer(64);
  const batch = client.createBatch();
  // Another count, no units: the term is as it was.
  const header = Object.assign(Object.create(Object.getPrototypeOf(lease)) as LeaseHandle, lease, {
    offset: lease.headerAddress,
    rkey: lease.headerRkey,
  });
  buffer.words.fill(0xffffff);
  buffer.words[0] = 0;
  expect(batch.prepareWrite(header, buffer, 0, 8, 0, RwFlag.NoLocalExpireCheck)).toBe(RetCode.Ok);
  // Beside it: not its own.
  expect(await batch.commit()).toBe(RetCode.Ok);
  for (const offset of [-8, 8, 4]) {
    batch.prepareWrite(header, buffer, 0, 8, offset, RwFlag.NoLocalExpireCheck);
    expect(await batch.commit()).toBe(RetCode.RdmaProtectionErr);
  }
  await until(() => node.stats().expired === 1);
  expect(neighbours.every((neighbour) => neighbour.live)).toBe(true);
  expect(node.stats().liveLeases).toBe(8);
});

test('a stranger extends nothing', async () => {
  const lease = await client.writeLease({ ...RANGE, termNs: 1e9 });
  await using other = await Patronus.connect({ nodes: [node.endpoint] });
  expect(await other.extend(lease, 1)).toBe(RetCode.Invalid);
  expect(await other.rpcExtend(lease, 1)).toBe(RetCode.Invalid);
});

test('terms of tens of microseconds end, in time for the next', async () => {
  for (let i = 0; i < 300; i++) {
    const termNs = 10_000 + i * 300;
    const before = client.now();
    const lease = await client.writeLease({ ...RANGE, termNs });
    expect(lease.deadlineNs).toBeGreaterThanOrEqual(before + termNs);
    expect(lease.deadlineNs).toBeLessThanOrEqual(client.now() + termNs);
  }
  await until(() => node.stats().expired === 300);
  const { lateness, latenessMaxNs } = node.stats();
  expect(lateness.reduce((sum, bucket) => sum + bucket.count, 0)).toBe(300);
  expect(lateness.at(-1)!.belowNs).toBeGreaterThan(latenessMaxNs);
});
