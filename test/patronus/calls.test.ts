/** Requests whose answers are late or never come: a peer that is driven by hand. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Access, type Device, openDevice, type QueuePair } from '../../native/index.js';
import { Calls, MAX_CALLS } from '../../patronus/client/calls.js';
import { MESSAGE_BYTES, MESSAGE_WORDS, Word } from '../../patronus/wire/messages.js';

const LATER = 1e15;

let device: Device;
let calls: Calls;
let peer: QueuePair;
let peerWords: Uint32Array;
let peerLkey: number;

beforeEach(async () => {
  device = openDevice();
  const pd = device.allocPd();
  const registered = () => {
    const memory = device.allocMemory(2 * MAX_CALLS * MESSAGE_BYTES);
    const { lkey } = pd.regMr(memory, 0, memory.byteLength, Access.LOCAL_WRITE);
    return { words: new Uint32Array(memory.buffer), lkey };
  };
  const pair = () => {
    const cq = device.createCq(4 * MAX_CALLS);
    return {
      cq,
      qp: pd.createQp({ sendCq: device.createCq(64), recvCq: cq, maxSendWr: 64, maxRecvWr: 64 }),
    };
  };
  const channel = device.createChannel();
  const listener = device.listen(channel);
  const own = pair();
  const other = pair();
  const mine = registered();
  calls = new Calls(own.qp, own.cq, mine.words, mine.lkey);
  peer = other.qp;
  ({ words: peerWords, lkey: peerLkey } = registered());
  for (let i = 0; i < MAX_CALLS; i++) peer.postRecv(i, i * MESSAGE_BYTES, peerLkey, MESSAGE_BYTES);
  device.connect(listener.address, [own.qp], device.createChannel());
  listener.nextConnection()!.accept([peer]);
});

afterEach(() => {
  device.close();
});

function ask(): Promise<number> {
  const answer = calls.call(
    () => {},
    (words, at) => words[at]!,
  );
  answer.catch(() => {});
  return answer;
}

/** Answer the request in this receive buffer of the peer. */
function reply(
  buffer: number,
  value: number,
  id = peerWords[buffer * MESSAGE_WORDS + Word.REQUEST_ID]!,
): void {
  const at = MAX_CALLS * MESSAGE_WORDS;
  peerWords[at] = value;
  peerWords[at + Word.REQUEST_ID] = id;
  peer.postSend(0, 0, at * 4, peerLkey, MESSAGE_BYTES);
  peer.doorbell();
}

const TIMED_OUT = { code: 'ERR_PATRONUS_TIMEOUT' };

test('without an answer they end in bounded time, those that wait for a place too', async () => {
  const asked = Array.from({ length: MAX_CALLS + 5 }, ask);
  calls.failOlderThan(0);
  expect(calls.pending).toBe(MAX_CALLS);
  calls.failOlderThan(LATER);
  for (const answer of asked) await expect(answer).rejects.toMatchObject(TIMED_OUT);
  // Places are free again only when the late answers come.
  expect(calls.pending).toBe(MAX_CALLS);
  const waits = ask();
  reply(3, 1);
  expect(calls.poll()).toBe(1);
  calls.failAll(new Error('over') as never);
  await expect(waits).rejects.toThrow('over');
  expect(calls.pending).toBe(0);
});

test('an answer that has come is not late, however late it is looked for', async () => {
  const first = ask();
  const second = ask();
  reply(0, 42);
  calls.failOlderThan(LATER);
  expect(await first).toBe(42);
  await expect(second).rejects.toMatchObject(TIMED_OUT);
});

test('answers find their requests in any order; made-up and repeated ones find none', async () => {
  const asked = [ask(), ask(), ask()];
  const ids = [0, 1, 2].map((buffer) => peerWords[buffer * MESSAGE_WORDS + Word.REQUEST_ID]!);
  for (const wrong of [0, 0xffffffff, ids[1]! + MAX_CALLS]) reply(0, 7, wrong);
  for (const buffer of [2, 0, 0, 1]) reply(buffer, 10 + buffer);
  calls.poll();
  expect(await Promise.all(asked)).toEqual([10, 11, 12]);
  expect(calls.pending).toBe(0);
});
