/** A memory node that does not answer, answers late, or hangs up. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { AcquireFlag, AcquireStatus, ModifyFlag, Patronus, RetCode } from '../../patronus/index.js';
import { MessageType, putNumber, Word } from '../../patronus/wire/messages.js';
import { type Request, SilentNode } from './silent-node.js';
import { until } from './until.js';

const RANGE = { offset: 0, size: 64, termNs: 60e9 };
const TIMEOUT = { code: 'ERR_PATRONUS_TIMEOUT' };

let node: SilentNode;
let client: Patronus;

beforeEach(async () => {
  node = new SilentNode();
  client = await Patronus.connect({ nodes: [node.endpoint], requestTimeoutMs: 40 });
});

afterEach(async () => {
  await client.close();
  node.close();
});

/** Grant what was asked for, as a lease with this index. */
function grant(request: Request, index = 7): void {
  request.answer(AcquireStatus.Success, (reply) => {
    reply[Word.LEASE_INDEX] = index;
    reply[Word.LEASE_GENERATION] = 3;
    putNumber(reply, Word.OFFSET, 4096);
    putNumber(reply, Word.SIZE, 64);
    putNumber(reply, Word.BEGIN, client.now());
    putNumber(reply, Word.GRANTED_TERM, 60e9);
  });
}

test('a request times out, however busy the connection is with others', async () => {
  node.onRequest = (request) => {
    if (node.requests.indexOf(request) > 0) grant(request);
  };
  const unanswered = client.readLease(RANGE);
  let over = false;
  const outcome = expect(unanswered)
    .rejects.toMatchObject(TIMEOUT)
    .then(() => {
      over = true;
    });
  for (let others = 0; !over; others++) {
    await client.readLease(RANGE);
    expect(others).toBeLessThan(1e6);
  }
  await outcome;
});

test.each([
  ['a lease', 0, 0],
  ['a lease with memory', AcquireFlag.WithAllocation, ModifyFlag.WithDeallocation],
])('%s that is granted too late is given back', async (_name, flags, modifyFlags) => {
  await expect(client.writeLease({ ...RANGE, flags })).rejects.toMatchObject(TIMEOUT);
  grant(node.requests[0]!);
  await until(() => node.requests.length === 2);
  const { type, flags: given, words } = node.requests[1]!;
  expect([type, given]).toEqual([MessageType.RELINQUISH, modifyFlags]);
  expect([words[Word.LEASE_INDEX], words[Word.LEASE_GENERATION]]).toEqual([7, 3]);
});

test('memory that is allocated too late is given back; what is refused too late is nothing', async () => {
  await expect(client.alloc({ size: 100 })).rejects.toMatchObject(TIMEOUT);
  await expect(client.readLease(RANGE)).rejects.toMatchObject(TIMEOUT);
  node.requests[1]!.answer(AcquireStatus.NoMw);
  node.requests[0]!.answer(AcquireStatus.Success, (reply) => putNumber(reply, Word.OFFSET, 4096));
  await until(() => node.requests.length === 3);
  const { type, words } = node.requests[2]!;
  expect([type, words[Word.OFFSET], words[Word.SIZE]]).toEqual([MessageType.DEALLOCATE, 4096, 100]);
});

test('an access that the end of the connection cuts off has an unknown outcome', async () => {
  node.onRequest = (request) => grant(request);
  const lease = await client.writeLease(RANGE);
  const buffer = client.getRdmaBuffer(64);
  node.hangUp();
  expect(await client.faa(lease, buffer, 0, 1, 0)).toBe(RetCode.OutcomeUnknown);
  await until(() => client.read(lease, buffer, 8, 0) === RetCode.RdmaExecutionErr);
  await expect(lease.faa(0, 1n)).rejects.toMatchObject({ code: 'ERR_PATRONUS_EXECUTION' });
});

test.each([0, 9, Number.NaN, 1e9])('no time-out of %d ms', async (requestTimeoutMs) => {
  await expect(Patronus.connect({ nodes: [node.endpoint], requestTimeoutMs })).rejects.toThrow(RangeError);
});
