/** Memory that is allocated without a permission on it, what becomes of it, and who may use it. */
import { afterEach, expect, test } from 'vitest';
import {
  AcquireFlag,
  AcquireStatus,
  type GlobalAddress,
  ModifyFlag,
  Patronus,
  PatronusNode,
  type PatronusNodeOptions,
  RetCode,
} from '../../patronus/index.js';
import { until } from './until.js';

const LONG_NS = 60e9;
const SPAN = 65536;

let node: PatronusNode;
let client: Patronus;
let other: Patronus;

async function start(options: PatronusNodeOptions = {}): Promise<void> {
  node = await PatronusNode.start({ leaseBytes: SPAN, allocBytes: 8 * SPAN, ...options });
  client = await Patronus.connect({ nodes: [node.endpoint] });
  other = await Patronus.connect({ nodes: [node.endpoint] });
}

afterEach(async () => {
  await client.close();
  await other.close();
  await node.close();
});

async function allocate(owner: Patronus, size: number, options: { hint?: number; keep?: boolean } = {}) {
  const { status, address } = await owner.alloc({ size, ...options });
  expect(status).toBe(AcquireStatus.Success);
  return address!;
}

test('it comes and goes by the size that was asked for', async () => {
  await start();
  const address = await allocate(client, 1000);
  expect(address.offset % 64).toBe(0);
  expect(node.stats()).toMatchObject({ allocatedBytes: 1024, liveLeases: 0 });
  for (const size of [0, -1, 512, 2000, 2 ** 40, Number.NaN]) {
    expect(await client.dealloc(address, size)).toBe(RetCode.Invalid);
  }
  for (const offset of [address.offset + 64, address.offset + 1, -1, 0, 0.5, 2 ** 52]) {
    expect(await client.dealloc({ ...address, offset }, 1000)).toBe(RetCode.Invalid);
  }
  expect(await other.dealloc(address, 1000)).toBe(RetCode.Invalid);
  expect(await client.dealloc(address, 900)).toBe(RetCode.Ok);
  expect(await client.dealloc(address, 1000)).toBe(RetCode.Invalid);
  expect((await client.alloc({ size: 9 * SPAN })).status).toBe(AcquireStatus.NoMem);
  expect((await client.alloc({ size: 0 })).status).toBe(AcquireStatus.AddressOutOfRangeErr);
  await expect(client.alloc({ size: 0.5 })).rejects.toThrow(RangeError);
  expect(node.stats().allocatedBytes).toBe(0);
});

test('each hint has its own share', async () => {
  await start({ allocators: [{ hint: 7, bytes: 2 * SPAN }] });
  const [own, general] = [await allocate(client, SPAN, { hint: 7 }), await allocate(client, 64)];
  expect(own.offset - general.offset).toBeGreaterThanOrEqual(SPAN);
  await allocate(client, SPAN, { hint: 7 });
  expect((await client.alloc({ size: 64, hint: 7 })).status).toBe(AcquireStatus.NoMem);
  expect((await client.alloc({ size: 6 * SPAN })).status).toBe(AcquireStatus.NoMem);
  for (const hint of [1, 0xffff, 0x10000]) {
    expect((await client.alloc({ size: 64, hint })).status).toBe(AcquireStatus.InvalidErr);
  }
  expect(await client.dealloc(own, SPAN)).toBe(RetCode.Ok);
  const flags = AcquireFlag.WithAllocation;
  const lease = await client.writeLease({ size: SPAN, termNs: LONG_NS, flags, hint: 7 });
  expect(lease.offset).toBe(own.offset);
  await lease.relinquish(ModifyFlag.WithDeallocation);
  for (const allocators of [
    [{ hint: 0, bytes: SPAN }],
    [{ hint: 1, bytes: 100 }],
    [{ hint: 1, bytes: 9 * SPAN }],
    [
      { hint: 1, bytes: SPAN },
      { hint: 1, bytes: SPAN },
    ],
  ]) {
    await expect(PatronusNode.start({ allocBytes: 8 * SPAN, allocators })).rejects.toThrow(RangeError);
  }
});

test("what a client does not keep goes with it, as soon as no lease of another's lies in it", async () => {
  await start();
  const flags = AcquireFlag.WithAllocation;
  await allocate(other, 64);
  await allocate(other, 3 * SPAN);
  await other.getWlease({ size: 64, termNs: LONG_NS, flags });
  const used = await allocate(other, SPAN);
  const kept = [
    await allocate(other, 128, { keep: true }),
    await allocate(other, 128),
    await other.writeLease({ size: 128, termNs: LONG_NS, flags: flags | AcquireFlag.KeepAllocation }),
  ];
  expect(await other.keepAllocation(kept[1] as GlobalAddress)).toBe(RetCode.Ok);
  for (const offset of [used.offset + 64, 0, 2 ** 40, -1]) {
    expect(await other.keepAllocation({ nodeId: 0, offset })).toBe(RetCode.Invalid);
  }
  expect(await client.keepAllocation(used)).toBe(RetCode.Invalid);
  const user = await client.writeLease({ offset: used.offset + 100, size: 64, termNs: LONG_NS });
  await other.close();
  await until(() => node.stats().connections === 1);
  expect(node.stats()).toMatchObject({ allocatedBytes: SPAN + 3 * 128, liveLeases: 1 });
  await user.relinquish();
  expect(node.stats().allocatedBytes).toBe(3 * 128);
  // Nobody's any more: anybody's to free.
  for (const { offset } of kept) expect(await client.dealloc({ nodeId: 0, offset }, 128)).toBe(RetCode.Ok);
  expect(node.stats().allocatedBytes).toBe(0);
});

test('freed memory is not used again before the last lease on it has ended', async () => {
  await start({ allocBytes: SPAN });
  const address = await allocate(client, SPAN);
  const reader = await other.readLease({ offset: address.offset, size: 64, termNs: LONG_NS });
  expect(await client.dealloc(address, SPAN)).toBe(RetCode.Ok);
  expect(await client.dealloc(address, SPAN)).toBe(RetCode.Invalid);
  expect((await client.alloc({ size: SPAN })).status).toBe(AcquireStatus.NoMem);
  await reader.relinquish();
  await allocate(client, SPAN);
});

test('under the policy of owners memory is for who allocated it and those that it was granted to', async () => {
  await start({ policy: 'owner' });
  const address = await allocate(client, 1024);
  const range = { offset: address.offset + 64, size: 64, termNs: LONG_NS };
  const status = async (owner: Patronus, part: { offset: number; size: number }) =>
    (await owner.getRlease({ ...part, termNs: LONG_NS })).status;
  expect(await status(client, range)).toBe(AcquireStatus.Success);
  expect(await status(other, range)).toBe(AcquireStatus.DeniedErr);
  await expect(other.readLease(range)).rejects.toMatchObject({ code: 'ERR_PATRONUS_DENIED' });
  // The lease buffer is everybody's; free memory is nobody's; a range over more than the piece is not the owner's.
  expect(await status(other, { offset: 0, size: SPAN })).toBe(AcquireStatus.Success);
  expect(await status(client, { offset: address.offset, size: 1025 })).toBe(AcquireStatus.DeniedErr);
  expect(await status(client, { offset: address.offset - 1, size: 8 })).toBe(AcquireStatus.DeniedErr);
  expect(await status(client, { offset: address.offset + 4 * SPAN, size: 8 })).toBe(AcquireStatus.DeniedErr);

  expect(await other.grant(address, other.identity())).toBe(RetCode.Invalid);
  expect(await client.grant({ ...address, offset: address.offset + 64 }, other.identity())).toBe(
    RetCode.Invalid,
  );
  for (const identity of [-1, 0.5, Number.NaN])
    expect(await client.grant(address, identity)).toBe(RetCode.Invalid);
  expect(await client.grant(address, other.identity())).toBe(RetCode.Ok);
  expect(await status(other, range)).toBe(AcquireStatus.Success);
  await using third = await Patronus.connect({ nodes: [node.endpoint] });
  expect(await status(third, range)).toBe(AcquireStatus.DeniedErr);
  expect(await client.grant(address)).toBe(RetCode.Ok);
  expect(await status(third, range)).toBe(AcquireStatus.Success);
  expect(await other.dealloc(address, 1024)).toBe(RetCode.Invalid);
  // A grant goes with its piece.
  expect(await client.dealloc(address, 1024)).toBe(RetCode.Ok);
  await client.close();
  client = await Patronus.connect({ nodes: [node.endpoint] });
  expect(await status(other, range)).toBe(AcquireStatus.DeniedErr);
});

test('under the policy of owners nobody reads what another one left', async () => {
  await start({ policy: 'owner', allocBytes: SPAN });
  for (const size of [64, 4096, SPAN]) {
    const flags = AcquireFlag.WithAllocation;
    const mine = await client.writeLease({ size, termNs: LONG_NS, flags });
    await mine.write(0, new Uint8Array(size).fill(9));
    await mine.relinquish(ModifyFlag.WithDeallocation);
    const theirs = await other.writeLease({ size, termNs: LONG_NS, flags });
    expect(theirs.offset).toBe(mine.offset);
    expect((await theirs.read(0, size)).every((byte) => byte === 0)).toBe(true);
    await theirs.relinquish(ModifyFlag.WithDeallocation);
    if (size < SPAN) {
      // The span of this size stays cut; use another node.
      await client.close();
      await other.close();
      await node.close();
      await start({ policy: 'owner', allocBytes: SPAN });
    }
  }
});

test('an upgrade asks the policy too', async () => {
  await start({ policy: 'owner' });
  const address = await allocate(client, 64);
  await client.grant(address, other.identity());
  const lease = await other.readLease({ offset: address.offset, size: 64, termNs: LONG_NS });
  expect(await client.dealloc(address, 64)).toBe(RetCode.Ok);
  expect(await other.upgrade(lease)).toBe(AcquireStatus.DeniedErr);
  await lease.read(0, 8);
});

test('no policy but those there are', async () => {
  await start();
  await expect(PatronusNode.start({ policy: 'mine' as 'open' })).rejects.toThrow(RangeError);
});
