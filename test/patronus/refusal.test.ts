/**
 * The protection, case by case: every one-sided operation, at every kind of place, under every kind of permission. The
 * status is the one that verbs give, and no byte outside of what the permission allows is changed.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LeaseHandle } from '../../patronus/client/lease.js';
import {
  AcquireFlag,
  type Lease,
  Patronus,
  PatronusNode,
  type RdmaBuffer,
  RetCode,
  RwFlag,
} from '../../patronus/index.js';
import { until } from './until.js';

const LEASE_BYTES = 65536;
const ALLOC_BYTES = 65536;
const MEMORY = LEASE_BYTES + ALLOC_BYTES;
/** The range that the permission under test is for. */
const START = 4096;
const SIZE = 512;
const LONG_NS = 60e9;
const CANARY = 0xc5;
const INSIDE = 0x11;
/** Of the operations: 24 bytes for read and write, 8 for atomics. */
const MOVED = 24;

type Operation = 'read' | 'write' | 'cas' | 'faa';
const OPERATIONS: readonly Operation[] = ['read', 'write', 'cas', 'faa'];

/** Offsets in the lease. Zero length is for read and write only: an atomic is always of 8 bytes. */
const PLACES: readonly { name: string; offset: (width: number) => number; size?: number }[] = [
  { name: 'inside', offset: () => 64 },
  { name: 'the last bytes', offset: (width) => SIZE - width },
  { name: 'crossing the end', offset: () => SIZE - 4 },
  { name: 'crossing the end, aligned', offset: (width) => SIZE - width + 8 },
  { name: 'just behind the end', offset: () => SIZE },
  { name: 'before the start', offset: () => -8 },
  { name: 'crossing the start', offset: () => -4 },
  { name: 'zero length', offset: () => 64, size: 0 },
  { name: 'zero length outside', offset: () => SIZE + 64, size: 0 },
  { name: 'misaligned', offset: () => 67 },
  { name: 'far outside', offset: () => 32768 },
  { name: 'outside the memory', offset: () => 2 ** 40 },
  { name: 'at the end of 48 bits', offset: () => 2 ** 48 - 8 - START },
  { name: 'at the largest exact number', offset: () => 2 ** 53 - 8 - START },
  { name: 'below address 0', offset: () => -START - 8 },
  { name: 'far below address 0', offset: () => -(2 ** 52) },
];

let node: PatronusNode;
let client: Patronus;
let other: Patronus;
let buffer: RdmaBuffer;
/** Everything, for looking and for laying out: another client's. */
let all: Lease;
let whole: RdmaBuffer;

beforeAll(async () => {
  node = await PatronusNode.start({
    leaseBytes: LEASE_BYTES,
    allocBytes: ALLOC_BYTES,
    maxLeasesPerClient: 1024,
  });
  client = await Patronus.connect({ nodes: [node.endpoint] });
  other = await Patronus.connect({ nodes: [node.endpoint] });
  buffer = client.getRdmaBuffer(64);
  whole = other.getRdmaBuffer(MEMORY);
  all = await other.writeLease({ offset: 0, size: MEMORY, termNs: 1, flags: AcquireFlag.NoGc });
});

afterAll(async () => {
  await client.close();
  await other.close();
  await node.close();
});

async function layOut(): Promise<void> {
  whole.bytes.fill(CANARY);
  whole.bytes.fill(INSIDE, START, START + SIZE);
  expect(await other.write(all, whole, MEMORY, 0)).toBe(RetCode.Ok);
}

async function snapshot(): Promise<Buffer> {
  whole.bytes.fill(0);
  expect(await other.read(all, whole, MEMORY, 0)).toBe(RetCode.Ok);
  return Buffer.from(whole.bytes.subarray(0, MEMORY));
}

/** Execute with the local check off: the memory node and the RNIC are to judge. */
async function run(
  lease: Lease,
  operation: Operation,
  offset: number,
  size: number,
  twoSided = false,
): Promise<RetCode> {
  const flags = RwFlag.NoLocalExpireCheck;
  if (twoSided) return runTwoSided(lease, operation, offset, size);
  switch (operation) {
    case 'read':
      buffer.bytes.fill(0xee);
      return client.read(lease, buffer, size, offset, flags);
    case 'write':
      buffer.bytes.fill(0x77);
      return client.write(lease, buffer, size, offset, flags);
    case 'cas':
      return client.cas(lease, buffer, offset, 0x11111111, 0x11111111, 0x22222222, 0x33333333, flags);
    case 'faa':
      return client.faa(lease, buffer, offset, 1, 0, flags);
  }
}

/** The same by messages to the memory node. */
async function runTwoSided(
  lease: Lease,
  operation: Operation,
  offset: number,
  size: number,
): Promise<RetCode> {
  const flags = RwFlag.NoLocalExpireCheck;
  switch (operation) {
    case 'read':
      buffer.bytes.fill(0xee);
      return client.rpcRead(lease, buffer, size, offset, flags);
    case 'write':
      buffer.bytes.fill(0x77);
      return client.rpcWrite(lease, buffer, size, offset, flags);
    case 'cas':
      return client.rpcCas(lease, buffer, offset, 0x11111111, 0x11111111, 0x22222222, 0x33333333, flags);
    case 'faa':
      return client.rpcFaa(lease, buffer, offset, 1, 0, flags);
  }
}

interface Permission {
  readonly name: string;
  readonly reads: boolean;
  readonly writes: boolean;
  make(): Promise<{ lease: Lease; end?: () => Promise<unknown> }>;
}

const longWrite = { offset: START, size: SIZE, termNs: LONG_NS };

async function worked(lease: Lease): Promise<void> {
  expect(await run(lease, 'write', 0, MOVED)).toBe(RetCode.Ok);
}

function forged(lease: Lease, rkey: number): Lease {
  const handle = lease as LeaseHandle;
  const { index, generation, offset, size, writable, headerRkey, headerAddress, unitNs, local } = handle;
  return new LeaseHandle(handle.node, {
    index,
    generation,
    offset,
    size,
    writable,
    headerRkey,
    headerAddress,
    beginNs: handle.deadlineNs - unitNs,
    unitNs,
    local,
    rkey: rkey >>> 0,
  });
}

const PERMISSIONS: readonly Permission[] = [
  {
    name: 'read lease',
    reads: true,
    writes: false,
    async make() {
      const lease = await client.readLease(longWrite);
      return { lease, end: () => lease.relinquish() };
    },
  },
  {
    name: 'write lease',
    reads: true,
    writes: true,
    async make() {
      const lease = await client.writeLease(longWrite);
      return { lease, end: () => lease.relinquish() };
    },
  },
  {
    name: 'relinquished',
    reads: false,
    writes: false,
    async make() {
      const lease = await client.writeLease(longWrite);
      await worked(lease);
      await lease.relinquish();
      return { lease };
    },
  },
  {
    name: 'expired',
    reads: false,
    writes: false,
    async make() {
      // On a busy machine a short term can be over before the access that shows that the lease was good.
      for (let termNs = 3e6; ; termNs *= 4) {
        const before = node.stats().expired;
        const lease = await client.writeLease({ ...longWrite, termNs });
        const status = await run(lease, 'write', 0, MOVED);
        await until(() => node.stats().expired > before);
        if (status === RetCode.Ok) return { lease };
        expect(status).toBe(RetCode.RdmaProtectionErr);
      }
    },
  },
  {
    name: 'range re-leased to another client',
    reads: false,
    writes: false,
    async make() {
      const lease = await client.writeLease(longWrite);
      await worked(lease);
      await lease.relinquish();
      const next = await other.writeLease(longWrite);
      await next.write(0, new Uint8Array(8));
      return { lease, end: () => next.relinquish() };
    },
  },
  {
    name: "another client's live key",
    reads: false,
    writes: false,
    async make() {
      const mine = await client.writeLease(longWrite);
      const theirs = (await other.writeLease(longWrite)) as LeaseHandle;
      await theirs.write(0, new Uint8Array(8));
      return {
        lease: forged(mine, theirs.rkey),
        end: () => Promise.all([mine.relinquish(), theirs.relinquish()]),
      };
    },
  },
  {
    name: 'forged index',
    reads: false,
    writes: false,
    async make() {
      const mine = (await client.writeLease(longWrite)) as LeaseHandle;
      await worked(forged(mine, mine.rkey));
      return { lease: forged(mine, mine.rkey + 0x100000), end: () => mine.relinquish() };
    },
  },
  {
    name: 'forged tag',
    reads: false,
    writes: false,
    async make() {
      const mine = (await client.writeLease(longWrite)) as LeaseHandle;
      await worked(forged(mine, mine.rkey));
      return { lease: forged(mine, mine.rkey ^ 0x80), end: () => mine.relinquish() };
    },
  },
  {
    name: 'key 0',
    reads: false,
    writes: false,
    async make() {
      const mine = await client.writeLease(longWrite);
      return { lease: forged(mine, 0), end: () => mine.relinquish() };
    },
  },
  {
    name: 'old tag of a reused window',
    reads: false,
    writes: false,
    async make() {
      const old = (await client.writeLease(longWrite)) as LeaseHandle;
      await worked(old);
      await old.relinquish();
      const next = (await client.writeLease(longWrite)) as LeaseHandle;
      // The same window, so this is about the tag.
      expect(next.rkey >>> 8).toBe(old.rkey >>> 8);
      expect(next.rkey).not.toBe(old.rkey);
      await worked(next);
      return { lease: old, end: () => next.relinquish() };
    },
  },
];

/** What verbs give. */
function expected(permission: Permission, operation: Operation, offset: number, size: number): RetCode {
  // A transfer of no bytes uses no key: InfiniBand specification, C9-88.
  if (size === 0) return RetCode.Ok;
  const allowed = operation === 'read' ? permission.reads : permission.writes;
  if (!allowed || offset < 0 || offset + size > SIZE) return RetCode.RdmaProtectionErr;
  const isAtomic = operation === 'cas' || operation === 'faa';
  if (isAtomic && (START + offset) % 8 !== 0) return RetCode.RdmaExecutionErr;
  return RetCode.Ok;
}

/** The memory after an operation that was executed. */
function changed(before: Buffer, operation: Operation, offset: number, size: number): Buffer {
  const after = Buffer.from(before);
  const at = START + offset;
  if (operation === 'write') after.fill(0x77, at, at + size);
  if (operation === 'faa')
    after.writeBigUInt64LE((before.readBigUInt64LE(at) + 1n) & 0xffffffffffffffffn, at);
  if (operation === 'cas' && before.readBigUInt64LE(at) === 0x1111111111111111n) {
    after.writeBigUInt64LE(0x3333333322222222n, at);
  }
  return after;
}

/** To the memory node a lease is not its key: what has another one is the same lease. */
const BY_LEASE = [
  'read lease',
  'write lease',
  'relinquished',
  'expired',
  'range re-leased to another client',
];
const CASES = [
  ...PERMISSIONS.map((permission) => ({ permission, twoSided: false })),
  ...PERMISSIONS.filter(({ name }) => BY_LEASE.includes(name)).map((permission) => ({
    permission,
    twoSided: true,
  })),
];

for (const { permission, twoSided } of CASES) {
  describe(`${permission.name}${twoSided ? ', two-sided' : ''}`, () => {
    for (const operation of OPERATIONS) {
      const isAtomic = operation === 'cas' || operation === 'faa';
      const width = isAtomic ? 8 : MOVED;
      for (const place of PLACES) {
        if (isAtomic && place.size === 0) continue;
        const offset = place.offset(width);
        const size = place.size ?? width;
        test(`${operation}, ${place.name}`, async () => {
          await layOut();
          const { lease, end } = await permission.make();
          const before = await snapshot();
          const status = await run(lease, operation, offset, size, twoSided);
          expect(status).toBe(expected(permission, operation, offset, size));
          const executed = status === RetCode.Ok && size > 0;
          const after = await snapshot();
          const shouldBe = executed ? changed(before, operation, offset, size) : before;
          expect(after.equals(shouldBe)).toBe(true);
          if (operation === 'read') {
            const got = Buffer.from(buffer.bytes.subarray(0, MOVED));
            // What was refused brings nothing either.
            const at = START + offset;
            expect(got).toEqual(executed ? before.subarray(at, at + size) : Buffer.alloc(MOVED, 0xee));
          } else if (isAtomic && executed) {
            const old = Buffer.from(buffer.bytes.subarray(0, 8));
            expect(old).toEqual(before.subarray(START + offset, START + offset + 8));
          }
          // A permission outlives the refusal of what it does not allow.
          if (permission.reads) expect(await run(lease, 'read', 0, MOVED, twoSided)).toBe(RetCode.Ok);
          await end?.();
          // The fault was this operation's alone: the client goes on.
          await using next = await client.writeLease(longWrite);
          await next.write(8, Uint8Array.of(1, 2, 3));
          expect(await next.read(8, 3)).toEqual(Uint8Array.of(1, 2, 3));
        });
      }
    }
  });
}

/** Sums of address and length that wrap at 2^64, or leave the memory, from leases at its two edges. */
describe.each([
  ['at address 0', 0],
  ['at the end of the memory', MEMORY - SIZE],
])('a write lease %s', (_name, start) => {
  for (const operation of OPERATIONS) {
    const width = operation === 'cas' || operation === 'faa' ? 8 : MOVED;
    for (const offset of [
      -8,
      -4,
      -width,
      -MOVED + 1,
      -SIZE,
      SIZE - 4,
      SIZE,
      SIZE - width + 8,
      2 ** 32,
      -(2 ** 32),
    ]) {
      test(`${operation} at ${offset}`, async () => {
        await layOut();
        const before = await snapshot();
        const lease = await client.writeLease({ offset: start, size: SIZE, termNs: LONG_NS });
        expect(await run(lease, operation, offset, width)).toBe(RetCode.RdmaProtectionErr);
        expect((await snapshot()).equals(before)).toBe(true);
        expect(await run(lease, operation, 0, width)).toBe(RetCode.Ok);
        expect(await run(lease, operation, SIZE - width, width)).toBe(RetCode.Ok);
        const inside = Buffer.from(before);
        const after = await snapshot();
        after.copy(inside, start, start, start + SIZE);
        expect(after.equals(inside)).toBe(true);
        await lease.relinquish();
      });
    }
  }
});

test('every key that a window has had is dead, also after its tags are used up', async () => {
  const mine = await client.readLease(longWrite);
  const keys = new Set<number>();
  const indices = new Set<number>();
  for (let i = 0; i < 300; i++) {
    const lease = (await client.writeLease(longWrite)) as LeaseHandle;
    keys.add(lease.rkey);
    indices.add(lease.rkey >>> 8);
    if (i % 50 === 0) await worked(lease);
    await lease.relinquish();
  }
  expect(keys.size).toBe(300);
  expect(indices.size).toBe(2);
  await layOut();
  const before = await snapshot();
  const live = (await client.writeLease(longWrite)) as LeaseHandle;
  for (const key of keys) {
    expect(await run(forged(mine, key), 'write', 0, MOVED)).toBe(RetCode.RdmaProtectionErr);
  }
  expect((await snapshot()).equals(before)).toBe(true);
  await worked(live);
  await Promise.all([mine.relinquish(), live.relinquish()]);
});

describe("the client's own check", () => {
  test('sends nothing under an expired lease', async () => {
    const before = node.stats().expired;
    const lease = await client.writeLease({ ...longWrite, termNs: 2e6 });
    await until(() => node.stats().expired > before);
    expect(lease.live).toBe(false);
    await layOut();
    const memory = await snapshot();
    buffer.bytes.fill(0x55);
    expect(await client.write(lease, buffer, 8, 0)).toBe(RetCode.LeaseLocalExpiredErr);
    expect(await client.faa(lease, buffer, 0, 1, 0)).toBe(RetCode.LeaseLocalExpiredErr);
    await expect(lease.write(0, Uint8Array.of(1))).rejects.toMatchObject({
      code: 'ERR_PATRONUS_LEASE_EXPIRED',
    });
    expect((await snapshot()).equals(memory)).toBe(true);
  });

  test('sends nothing under a relinquished lease', async () => {
    const lease = await client.writeLease(longWrite);
    await lease.relinquish();
    expect(await client.write(lease, buffer, 8, 0)).toBe(RetCode.Invalid);
    await expect(lease.read(0, 8)).rejects.toMatchObject({ code: 'ERR_PATRONUS_INVALID' });
  });

  test('a refusal by the NIC is a coded error of the convenient calls', async () => {
    const lease = await client.readLease(longWrite);
    await expect(lease.write(0, Uint8Array.of(1))).rejects.toMatchObject({ code: 'ERR_PATRONUS_PROTECTION' });
    await expect(lease.read(SIZE, 1)).rejects.toMatchObject({ code: 'ERR_PATRONUS_PROTECTION' });
    await expect(lease.cas(4, 0n, 1n)).rejects.toMatchObject({ code: 'ERR_PATRONUS_PROTECTION' });
    expect(await lease.read(0, 1)).toHaveLength(1);
    await lease.relinquish();
  });
});
