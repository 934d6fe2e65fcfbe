/** One client's load and the others: floods of requests, thousands of leases that end at once. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Access, openDevice, type QueuePair } from '../../native/index.js';
import { AcquireFlag, Patronus, PatronusNode } from '../../patronus/index.js';
import { head, MESSAGE_BYTES, MessageType } from '../../patronus/wire/messages.js';
import { until } from './until.js';

const RANGE = { offset: 0, size: 64, termNs: 60e9 };

let node: PatronusNode;
let honest: Patronus;

beforeEach(async () => {
  node = await PatronusNode.start({ allocBytes: 65536 });
  honest = await Patronus.connect({ nodes: [node.endpoint] });
});

afterEach(async () => {
  await honest.close();
  await node.close();
});

/** Clients that send hellos, as many at a time as they like; one queue tells in which order they are answered. */
class Callers {
  private readonly device = openDevice();
  private readonly pd = this.device.allocPd();
  private readonly memory = this.device.allocMemory(2 * MESSAGE_BYTES);
  private readonly lkey = this.pd.regMr(this.memory, 0, 2 * MESSAGE_BYTES, Access.LOCAL_WRITE).lkey;
  private readonly answers = this.device.createCq(1024);
  private readonly others = this.device.createCq(1024);
  private readonly controls: QueuePair[] = [];
  private readonly completion = { wrId: 0, status: 0, opcode: 0, flags: 0, byteLen: 0, qpNum: 0, imm: 0 };

  async connect(count: number): Promise<this> {
    new Uint32Array(this.memory.buffer)[0] = head(MessageType.HELLO, 0);
    const queues = { sendCq: this.others, maxSendWr: 128, maxRecvWr: 64 };
    for (let i = 0; i < count; i++) {
      const control = this.pd.createQp({ ...queues, recvCq: this.answers });
      const data = this.pd.createQp({ ...queues, recvCq: this.others });
      const channel = this.device.createChannel();
      const link = this.device.connect(node.endpoint.address, [control, data], channel);
      await until(() => link.state === 'established');
      this.controls.push(control);
    }
    return this;
  }

  send(caller: number, count: number): void {
    const control = this.controls[caller]!;
    for (let i = 0; i < count; i++) {
      control.postRecv(caller, MESSAGE_BYTES, this.lkey, MESSAGE_BYTES);
      control.postSend(0, 0, 0, this.lkey, MESSAGE_BYTES);
    }
    control.doorbell();
  }

  /** Take this many answers; to whom they were. */
  async take(count: number): Promise<number[]> {
    const order: number[] = [];
    await until(() => {
      while (this.answers.poll(this.completion)) order.push(this.completion.wrId);
      return order.length >= count;
    });
    return order;
  }

  close(): void {
    this.device.close();
  }
}

test('a flood of requests leaves the others their share', async () => {
  const callers = await new Callers().connect(5);
  const ahead: number[] = [];
  for (let round = 0; round < 100; round++) {
    for (let flooder = 1; flooder < 5; flooder++) callers.send(flooder, 64);
    callers.send(0, 1);
    ahead.push((await callers.take(4 * 64 + 1)).indexOf(0));
  }
  // First come, first served, it would always be all of them.
  expect(Math.min(...ahead)).toBeLessThan(4 * 64);
  callers.close();
});

test('the end of a client with thousands of leases holds nobody up, and leaves nothing', async () => {
  const big = await Patronus.connect({ nodes: [node.endpoint] });
  const grants = Array.from({ length: 8000 }, (_, i) =>
    big.getWlease({ ...RANGE, lockKey: i, flags: AcquireFlag.WithConflictDetect }),
  );
  await Promise.all(grants);
  expect(node.stats().liveLeases).toBe(8000);
  const { requests } = node.stats();
  await big.close();
  // Others are served while it is taken apart.
  let served = 0;
  while (node.stats().connections === 2) {
    const lease = await honest.readLease(RANGE);
    await lease.relinquish();
    served++;
  }
  expect(served).toBeGreaterThan(2);
  expect(node.stats().requests - requests).toBeGreaterThanOrEqual(2 * served);
  expect(node.stats().liveLeases).toBe(0);
  const flags = AcquireFlag.WithConflictDetect;
  for (let lockKey = 0; lockKey < 8000; lockKey += 999) await honest.readLease({ ...RANGE, flags, lockKey });
});
