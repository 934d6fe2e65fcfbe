/** EnableTrace: the steps of every call on a lease, and nothing without it. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  AcquireFlag,
  AcquireStatus,
  type Lease,
  ModifyFlag,
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

test('upgrade, extension and relinquish are traced, whatever comes of them', async () => {
  const BY_MESSAGE = ['written', 'posted', 'answered'];
  const flag = ModifyFlag.EnableTrace;
  const lease = await client.readLease({ ...REQUEST, flags: AcquireFlag.WithAllocation });
  const calls: [number, () => unknown, string[]][] = [
    [AcquireStatus.Success, () => client.upgrade(lease, flag), BY_MESSAGE],
    [RetCode.Ok, () => client.extend(lease, 1, flag), ['checked', 'posted', 'completed']],
    [RetCode.Ok, () => client.rpcExtend(lease, 1, flag), BY_MESSAGE],
    [RetCode.Ok, () => client.relinquish(lease, flag | ModifyFlag.WithDeallocation), BY_MESSAGE],
  ];
  for (const [status, call, steps] of calls) {
    const before = lease.trace;
    const began = client.now();
    expect(await call()).toBe(status);
    expect(lease.trace).not.toBe(before);
    expect(stepsOf(lease.trace, began)).toEqual(steps);
  }
  expect(await client.dealloc(lease, 64)).toBe(RetCode.Invalid);
  const last = lease.trace;
  expect(await client.relinquish(lease, flag)).toBe(RetCode.NotFound);
  expect(lease.trace).toBe(last);

  const other = await client.readLease(REQUEST);
  await other.extend(1);
  await other.upgrade();
  expect(other.trace).toBeUndefined();
  await other.extend(1, flag);
  expect(other.trace!.steps).toHaveLength(3);
  for (const flags of [ModifyFlag.NoRpc | flag, 8, 0.5]) {
    expect(await client.extend(other, 1, flags)).toBe(RetCode.Invalid);
    expect(await client.rpcExtend(other, 1, flags)).toBe(RetCode.Invalid);
    expect(await client.upgrade(other, flags)).toBe(AcquireStatus.InvalidErr);
  }
  await other.relinquish();
});

test('an extension that is too late is traced up to the look at the clock', async () => {
  const lease = await client.readLease({ offset: 0, size: 64, termNs: 1 });
  while (lease.live) await new Promise((resolve) => setImmediate(resolve));
  const began = client.now();
  expect(await client.extend(lease, 1, ModifyFlag.EnableTrace)).toBe(RetCode.LeaseLocalExpiredErr);
  expect(stepsOf(lease.trace, began)).toEqual(['checked']);
});

test('a two-sided access is traced message by message', async () => {
  const lease = await untraced();
  const flag = RwFlag.EnableTrace;
  const accesses: [RetCode, number, () => Promise<RetCode>][] = [
    [RetCode.Ok, 2, () => client.rpcRead(lease, buffer, 64, 0, flag)],
    [RetCode.Ok, 1, () => client.rpcWrite(lease, buffer, 8, 0, flag | RwFlag.NoLocalExpireCheck)],
    [RetCode.Ok, 1, () => client.rpcCas(lease, buffer, 0, 0, 0, 0, 0, flag)],
    [RetCode.Ok, 1, () => client.rpcFaa(lease, buffer, 0, 1, 0, flag)],
    [RetCode.RdmaProtectionErr, 1, () => client.rpcRead(lease, buffer, 8, 64, flag)],
  ];
  for (const [status, messages, access] of accesses) {
    const before = lease.trace;
    const began = client.now();
    expect(await access()).toBe(status);
    expect(lease.trace).not.toBe(before);
    const [first, ...steps] = stepsOf(lease.trace, began);
    expect(first).toBe('checked');
    for (const step of ['written', 'posted', 'answered']) {
      expect(steps.filter((name) => name === step)).toHaveLength(messages);
    }
    expect(steps).toHaveLength(3 * messages);
  }
  const last = lease.trace;
  expect(await client.rpcRead(lease, buffer, 8, 0)).toBe(RetCode.Ok);
  expect(lease.trace).toBe(last);
  await lease.relinquish();
});
