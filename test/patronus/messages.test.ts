/** What a memory node does with messages that no honest client sends. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  Access,
  type Completion,
  type Device,
  openDevice,
  QpState,
  type QueuePair,
} from '../../native/index.js';
import { Patronus, PatronusNode } from '../../patronus/index.js';
import {
  head,
  MESSAGE_BYTES,
  MessageType,
  putNumber,
  ReplyStatus,
  Word,
} from '../../patronus/wire/messages.js';
import { random } from './random.js';

const REPLIES_AT = 4096;
const MAX_MESSAGE = 512;

let node: PatronusNode;
let honest: Patronus;

beforeEach(async () => {
  node = await PatronusNode.start({ leaseBytes: 65536, allocBytes: 65536 });
  honest = await Patronus.connect({ nodes: [node.endpoint] });
});

afterEach(async () => {
  await honest.close();
  await node.close();
});

/** A connection driven by hand. */
class RawClient {
  readonly words: Uint32Array;
  readonly control: QueuePair;
  readonly data: QueuePair;
  private readonly device: Device = openDevice();
  private readonly lkey: number;
  private readonly cq;
  private readonly completion: Completion = {
    wrId: 0,
    status: 0,
    opcode: 0,
    flags: 0,
    byteLen: 0,
    qpNum: 0,
    imm: 0,
  };
  private readonly link;

  constructor() {
    const pd = this.device.allocPd();
    const memory = this.device.allocMemory(2 * REPLIES_AT);
    this.lkey = pd.regMr(memory, 0, memory.byteLength, Access.LOCAL_WRITE).lkey;
    this.words = new Uint32Array(memory.buffer);
    this.cq = this.device.createCq(64);
    const queues = { sendCq: this.cq, recvCq: this.cq, maxSendWr: 16, maxRecvWr: 16 };
    this.control = pd.createQp(queues);
    // Its faults are nobody's answer.
    const dataCq = this.device.createCq(64);
    this.data = pd.createQp({ ...queues, sendCq: dataCq, recvCq: dataCq });
    this.link = this.device.connect(
      node.endpoint.address,
      [this.control, this.data],
      this.device.createChannel(),
    );
  }

  async connected(): Promise<this> {
    await until(() => this.link.state !== 'connecting');
    expect(this.link.state).toBe('established');
    return this;
  }

  /** Send `length` bytes from the start of the memory, `times` over. */
  send(length: number, times = 1): void {
    for (let i = 0; i < times; i++) {
      this.control.postRecv(1, REPLIES_AT, this.lkey, MESSAGE_BYTES);
      this.control.postSend(2, 0, 0, this.lkey, length);
    }
    this.control.doorbell();
  }

  /** Bring the data pair to RTS and break it, and with it the node's pair, as far as that is ready. */
  fault(): void {
    for (const state of [QpState.RESET, QpState.INIT, QpState.RTR, QpState.RTS]) this.data.modify(state);
    this.data.postRead(3, 0, 0, this.lkey, 8, 0, 0);
    this.data.doorbell();
    while (this.data.state !== QpState.ERR);
  }

  /**
   * Send `length` bytes from the start of the memory; the reply's words, or undefined if the connection ended.
   * `meanwhile` runs again and again until then.
   */
  async exchange(length: number = MESSAGE_BYTES, meanwhile = () => {}): Promise<Uint32Array | undefined> {
    this.send(length);
    let failed = false;
    await until(() => {
      for (let i = 0; i < 8; i++) meanwhile();
      if (!this.cq.poll(this.completion)) return false;
      failed = this.completion.status !== 0;
      return true;
    });
    return failed ? undefined : this.words.subarray(REPLIES_AT / 4, REPLIES_AT / 4 + MESSAGE_BYTES / 4);
  }

  get state(): QpState {
    return this.control.state;
  }

  close(): void {
    this.device.close();
  }
}

async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 3_000_000; turn++) {
    if (condition()) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error('waited in vain');
}

async function othersGoOn(): Promise<void> {
  await using lease = await honest.writeLease({ offset: 0, size: 64, termNs: 60e9 });
  await lease.write(0, Uint8Array.of(5));
  expect(await lease.read(0, 1)).toEqual(Uint8Array.of(5));
}

test.each([
  ['another version', (words: Uint32Array) => words.fill(0x03ff, 0, 1), MESSAGE_BYTES],
  ['an unknown type', (words: Uint32Array) => words.fill(head(77, 0), 0, 1), MESSAGE_BYTES],
  ['nothing but zeros', () => {}, MESSAGE_BYTES],
  ['a short one', (words: Uint32Array) => words.fill(head(MessageType.HELLO, 0), 0, 1), 12],
  ['an empty one', () => {}, 0],
])('%s is answered and counted', async (_name, fill, length) => {
  const raw = await new RawClient().connected();
  const before = node.stats().malformed;
  fill(raw.words);
  const reply = await raw.exchange(length);
  expect(reply![0]! >>> 16).toBe(ReplyStatus.UNKNOWN_MESSAGE);
  expect(node.stats().malformed).toBe(before + 1);
  // The connection is as good as before.
  raw.words.fill(0, 0, MESSAGE_BYTES / 4);
  raw.words[0] = head(MessageType.HELLO, 0);
  expect((await raw.exchange())![0]! >>> 16).toBe(ReplyStatus.OK);
  raw.close();
  await othersGoOn();
});

test('one that is too long for the buffer ends the connection, and only that', async () => {
  const raw = await new RawClient().connected();
  expect(await raw.exchange(MAX_MESSAGE)).toBeUndefined();
  expect(raw.state).toBe(QpState.ERR);
  await until(() => node.stats().connections === 1);
  raw.close();
  await othersGoOn();
});

test('a pair that is not there is not rebuilt', async () => {
  const raw = await new RawClient().connected();
  for (const index of [1, 2, 63, 0xffffffff]) {
    raw.words.fill(0, 0, MESSAGE_BYTES / 4);
    raw.words[0] = head(MessageType.RECYCLE_QP, 0);
    raw.words[Word.LEASE_INDEX] = index;
    expect((await raw.exchange())![0]! >>> 16).toBe(ReplyStatus.INVALID);
  }
  raw.close();
  await othersGoOn();
});

test('a pair that its client breaks while it is rebuilt does no harm', async () => {
  const raw = await new RawClient().connected();
  raw.words[0] = head(MessageType.RECYCLE_QP, 0);
  const seen = new Set<number>();
  for (let i = 0; i < 2000; i++) {
    const status = await raw.exchange(MESSAGE_BYTES, () => raw.fault());
    seen.add(status![0]! >>> 16);
  }
  expect([...seen].filter((status) => status !== ReplyStatus.OK && status !== ReplyStatus.INVALID)).toEqual(
    [],
  );
  raw.close();
  await until(() => node.stats().connections === 1);
  await othersGoOn();
});

test('a client that goes while its pair is rebuilt does no harm', async () => {
  for (let i = 0; i < 100; i++) {
    const raw = await new RawClient().connected();
    raw.words[0] = head(MessageType.RECYCLE_QP, 0);
    raw.send(MESSAGE_BYTES, 12);
    raw.close();
  }
  await until(() => node.stats().connections === 1);
  await othersGoOn();
});

test('leases are not found by guessing', async () => {
  await using lease = await honest.writeLease({ offset: 0, size: 64, termNs: 60e9 });
  const raw = await new RawClient().connected();
  for (let index = 0; index < 64; index++) {
    for (const generation of [0, 1, 2]) {
      raw.words.fill(0, 0, MESSAGE_BYTES / 4);
      raw.words[0] = head(MessageType.RELINQUISH, 0);
      raw.words[Word.LEASE_INDEX] = index;
      raw.words[Word.LEASE_GENERATION] = generation;
      expect((await raw.exchange())![0]! >>> 16).toBe(ReplyStatus.NOT_FOUND);
    }
  }
  raw.words[Word.LEASE_INDEX] = 0xffffffff;
  expect((await raw.exchange())![0]! >>> 16).toBe(ReplyStatus.NOT_FOUND);
  await lease.write(0, Uint8Array.of(1));
  raw.close();
});

test('numbers beyond 2^53 are no offsets, sizes or terms', async () => {
  const raw = await new RawClient().connected();
  for (const wild of [Word.OFFSET, Word.SIZE, Word.TERM]) {
    raw.words.fill(0, 0, MESSAGE_BYTES / 4);
    raw.words[0] = head(MessageType.ACQUIRE_WRITE, 0);
    putNumber(raw.words, Word.SIZE, 64);
    putNumber(raw.words, Word.TERM, 1e9);
    raw.words[wild + 1] = 0x200000;
    expect((await raw.exchange())![0]! >>> 16).not.toBe(0);
  }
  expect(node.stats().liveLeases).toBe(0);
  raw.close();
});

test('ten thousand of random words', async () => {
  const seed = 20_231;
  const next = random(seed);
  const raw = await new RawClient().connected();
  for (let i = 0; i < 10_000; i++) {
    for (let word = 0; word < MESSAGE_BYTES / 4; word++) raw.words[word] = next() * 2 ** 32;
    // Most with a head that leads past the first check, and small numbers that make sense at times.
    const type = next() < 0.3 ? MessageType.ACQUIRE_WRITE : 1 + Math.floor(next() * 17);
    if (next() < 0.9) raw.words[0] = head(type, next() < 0.5 ? 0 : next() * (next() < 0.5 ? 65536 : 128));
    for (let word = 5; word < 10; word += 2) if (next() < 0.7) raw.words[word] = 0;
    if (next() < 0.7) raw.words.fill(0, Word.HINT, MESSAGE_BYTES / 4);
    if (next() < 0.5) raw.words[Word.OFFSET] = next() * 65536;
    if (next() < 0.5) raw.words[Word.SIZE] = next() * 8192;
    expect(await raw.exchange(), `seed ${seed}, message ${i}`).toBeDefined();
  }
  expect(node.stats().malformed).toBeGreaterThan(100);
  expect(node.stats().acquired).toBeGreaterThan(100);
  raw.close();
  await until(() => node.stats().connections === 1 && node.stats().liveLeases === 0);
  await othersGoOn();
});
