/** EnableTrace: the steps of an acquire, an access, a batch, and nothing without it. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  AcquireFlag,
  AcquireStatus,
  type Lease,
  Patronus,
  PatronusNode,
  type RdmaBuffer,
  RetCode,
  RwFlag,
  type Trace,
} from '../../patronus/index.js';

const FOREVER = { termNs: 1, flags: AcquireFlag.NoGc };
const REQUEST = { offset: 0, size: 64, termNs: 3600e9 };

let node: PatronusNode;
let client: Patronus;
let buffer: RdmaBuffer;

beforeAll(async () => {
  node = await PatronusNode.start();
  client = await Patronus.connect({ nodes: [node.endpoint] });
  buffer = client.getRdmaBuffer(64);
});

afterAll(async () => {
  await client.close();
  await node.close();
});

/** The names of the steps, once their times are known to be in order and within the call. */
function stepsOf(trace: Trace | undefined, beganNs: number): string[] {
  const { beginNs, steps } = trace!;
  const times = [beganNs, beginNs, ...steps.map(({ ns }) => beginNs + ns), client.now()];
  expect(times).toEqual([...times].sort((a, b) => a - b));
  return steps.map(({ name }) => name);
}

function untraced(): Promise<Lease> {
  return client.writeLease({ ...REQUEST, ...FOREVER });
}

test('an acquire is traced from the message to the answer', async () => {
  for (const more of [0, AcquireFlag.WithAllocation, AcquireFlag.UseMR, AcquireFlag.NoBindAny]) {
    const began = client.now();
    const flags = AcquireFlag.EnableTrace | more;
    const { lease, trace } = await client.getWlease({ ...REQUEST, flags });
    expect(lease!.trace).toBe(trace);
    const steps = stepsOf(trace, began);
    // Posting ends when the doorbell returns, which may be after the grant.
    expect(steps.filter((name) => name !== 'granted')).toEqual(['written', 'posted', 'answered']);
    expect(steps.indexOf('granted')).toBeGreaterThan(0);
    expect(steps.at(-1)).toBe('answered');
    await lease!.relinquish();
  }
});

test('so is one that is refused', async () => {
  const began = client.now();
  const { status, trace } = await client.getRlease({
    ...REQUEST,
    offset: 1e9,
    flags: AcquireFlag.EnableTrace,
  });
  expect(status).toBe(AcquireStatus.AddressOutOfRangeErr);
  expect(stepsOf(trace, began)).toEqual(['written', 'posted', 'answered']);
});

test('each kind of access is traced, whatever comes of it', async () => {
  const lease = await untraced();
  const flag = RwFlag.EnableTrace;
  const accesses: [RetCode, () => unknown][] = [
    [RetCode.Ok, () => client.read(lease, buffer, 64, 0, flag)],
    [RetCode.Ok, () => client.write(lease, buffer, 64, 0, flag)],
    [RetCode.Ok, () => client.cas(lease, buffer, 0, 0, 0, 0, 0, flag)],
    [RetCode.Ok, () => client.faa(lease, buffer, 0, 1, 0, flag)],
    [RetCode.RdmaProtectionErr, () => client.read(lease, buffer, 64, 1, flag)],
  ];
  for (const [status, access] of accesses) {
    const before = lease.trace;
    const began = client.now();
    expect(await access()).toBe(status);
    expect(lease.trace).not.toBe(before);
    expect(stepsOf(lease.trace, began)).toEqual(['checked', 'posted', 'completed']);
  }
  const last = lease.trace;
  expect(await client.read(lease, buffer, 64, 0)).toBe(RetCode.Ok);
  expect(lease.trace).toBe(last);
  await lease.relinquish();
  expect(await client.read(lease, buffer, 64, 0, flag)).toBe(RetCode.Invalid);
  expect(lease.trace).toBe(last);
});

test('an access that is too late is traced up to the look at the clock', async () => {
  const lease = await client.readLease({ offset: 0, size: 64, termNs: 1 });
  while (lease.live) await new Promise((resolve) => setImmediate(resolve));
  const began = client.now();
  expect(await client.read(lease, buffer, 64, 0, RwFlag.EnableTrace)).toBe(RetCode.LeaseLocalExpiredErr);
  expect(stepsOf(lease.trace, began)).toEqual(['checked']);
});

test('a batch has one trace, for the leases of its traced operations', async () => {
  const [first, second, third] = [await untraced(), await untraced(), await untraced()];
  const batch = client.createBatch();
  batch.prepareRead(first, buffer, 0, 8, 0, RwFlag.EnableTrace);
  batch.reset();
  batch.prepareRead(third, buffer, 0, 8, 0);
  const began = client.now();
  batch.prepareRead(first, buffer, 0, 8, 0, RwFlag.EnableTrace);
  batch.prepareWrite(second, buffer, 8, 8, 8, RwFlag.EnableTrace);
  expect(await batch.commit()).toBe(RetCode.Ok);
  expect(stepsOf(first.trace, began)).toEqual(['checked', 'posted', 'completed']);
  expect(second.trace).toBe(first.trace);
  expect(third.trace).toBeUndefined();
  batch.prepareRead(third, buffer, 0, 8, 0);
  expect(await batch.commit()).toBe(RetCode.Ok);
  expect(third.trace).toBeUndefined();
  for (const lease of [first, second, third]) await lease.relinquish();
});
