/** What a directory allocates on the heap of its thread under a steady load. */
import { expect, test } from 'vitest';
import { Access, openDevice } from '../../native/index.js';
import { AcquireFlag } from '../../patronus/index.js';
import { Directory } from '../../patronus/memory-node/directory.js';
import { STATS_LENGTH } from '../../patronus/memory-node/stats.js';
import {
  head,
  MESSAGE_BYTES,
  MESSAGE_WORDS,
  MessageType,
  putNumber,
  Word,
} from '../../patronus/wire/messages.js';

const PIPELINED = 16;
/** The smallest object takes 12 bytes. */
const LEAST_OBJECT_BYTES = 12;

/** A memory node and its client on one thread, in turns. */
function rig() {
  const device = openDevice();
  const options = {
    nodeId: 0,
    leaseBytes: 65536,
    allocOffset: 65536,
    allocBytes: 65536,
    shares: [],
    policy: 'open',
    bypass: false,
    handover: true,
    lastWindowFirst: true,
    maxLeases: 1024,
    maxLeasesPerClient: 512,
    maxClients: 4,
    listen: undefined,
    engineThreads: 1,
  } as const;
  const counters = new Float64Array(STATS_LENGTH);
  const directory = new Directory(device, options, new Int32Array(1), counters);
  const { turn, look } = directory as unknown as { turn(): boolean; look(): void };
  const pd = device.allocPd();
  const memory = device.allocMemory(2 * PIPELINED * MESSAGE_BYTES);
  const { lkey } = pd.regMr(memory, 0, memory.byteLength, Access.LOCAL_WRITE);
  const words = new Uint32Array(memory.buffer);
  const queue = () => device.createCq(256);
  const recvCq = queue();
  const pair = () => pd.createQp({ sendCq: queue(), recvCq, maxSendWr: 64, maxRecvWr: 64 });
  const control = pair();
  device.connect(directory.listener.address, [control, pair()], device.createChannel());
  look.call(directory);
  const completion = { wrId: 0, status: 0, opcode: 0, flags: 0, byteLen: 0, qpNum: 0, imm: 0 };

  const exchange = () => {
    for (let i = 0; i < PIPELINED; i++) {
      control.postRecv(i, (PIPELINED + i) * MESSAGE_BYTES, lkey, MESSAGE_BYTES);
      control.postSend(0, 0, i * MESSAGE_BYTES, lkey, MESSAGE_BYTES);
    }
    control.doorbell();
    let answers = 0;
    while (answers < PIPELINED) {
      turn.call(directory);
      while (recvCq.poll(completion)) answers++;
    }
  };
  /** Acquire as many leases, look at the grants, relinquish them. */
  const round = (flags: number) => {
    words.fill(0, 0, PIPELINED * MESSAGE_WORDS);
    for (let i = 0; i < PIPELINED; i++) {
      const at = i * MESSAGE_WORDS;
      words[at] = head(MessageType.ACQUIRE_WRITE, flags);
      putNumber(words, at + Word.SIZE, 64);
      putNumber(words, at + Word.TERM, 1_000_000_000);
      words[at + Word.LOCK_KEY] = i;
    }
    exchange();
    for (let i = 0; i < PIPELINED; i++) {
      const at = i * MESSAGE_WORDS;
      const grant = (PIPELINED + i) * MESSAGE_WORDS;
      const index = words[grant + Word.LEASE_INDEX]!;
      const generation = words[grant + Word.LEASE_GENERATION]!;
      words.fill(0, at, at + MESSAGE_WORDS);
      words[at] = head(MessageType.RELINQUISH, flags & AcquireFlag.WithAllocation ? 1 : 0);
      words[at + Word.LEASE_INDEX] = index;
      words[at + Word.LEASE_GENERATION] = generation;
    }
    exchange();
  };
  return { round, counters, close: () => device.close() };
}

test.each([
  ['with a header', 0],
  ['without a header', AcquireFlag.NoBindPR],
  ['with a lock', AcquireFlag.WithConflictDetect],
  ['with memory', AcquireFlag.WithAllocation],
])('leases %s come and go without an object for each', (_name, flags) => {
  const { round, close } = rig();
  for (let i = 0; i < 3000; i++) round(flags);
  const ROUNDS = 200;
  const perRequest: number[] = [];
  for (let sample = 0; sample < 31; sample++) {
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < ROUNDS; i++) round(flags);
    perRequest.push((process.memoryUsage().heapUsed - before) / (ROUNDS * 2 * PIPELINED));
  }
  close();
  // A collection in the middle of a sample makes that one small, and the compiler another one large.
  perRequest.sort((a, b) => a - b);
  expect(perRequest[15]).toBeLessThan(LEAST_OBJECT_BYTES);
});
