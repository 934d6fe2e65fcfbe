import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Access, openDevice } from '../../native/index.js';
import { ALL_ACCESS, failureOf } from './rig.js';

const MIB = 1024 * 1024;

/** Resident bytes that `count` calls leave behind, after as many again as warm-up have filled the caches. */
async function growth(count: number, call: () => void): Promise<number> {
  const run = async () => {
    for (let i = 0; i < count; i++) {
      call();
      // Buffers are let go of on the event loop.
      if (i % 500 === 499) await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await run();
  const before = process.memoryUsage.rss();
  await run();
  return process.memoryUsage.rss() - before;
}

const device = openDevice();
const pd = device.allocPd();
const memory = device.allocMemory(4096);
const cq = device.createCq(8);
const channel = device.createChannel();
const listener = device.listen(channel);

const COUNT = 100_000;

/** In two halves. The C++ tests make 100,000 of each kind; here it is about what JavaScript keeps of them. */
test.each<[string, number, () => void]>([
  ['memory regions', COUNT, () => pd.regMr(memory, 0, 4096, ALL_ACCESS).close()],
  ['memory windows', COUNT, () => pd.allocMw().close()],
  ['protection domains', COUNT, () => device.allocPd().close()],
  ['completion queues', COUNT / 5, () => device.createCq(8).close()],
  ['shared receive queues', COUNT / 5, () => pd.createSrq(8).close()],
  [
    'queue pairs',
    COUNT / 10,
    () => pd.createQp({ sendCq: cq, recvCq: cq, maxSendWr: 8, maxRecvWr: 8 }).close(),
  ],
  ['channels', COUNT / 2, () => device.createChannel().close()],
  ['watched channels', COUNT / 10, () => watched()],
  ['memories', COUNT / 10, () => touched()],
  ['listeners', COUNT / 2, () => device.listen(channel).close()],
  ['connections', COUNT / 20, () => connected()],
  ['devices that close what was made from them', 500, () => family()],
])(
  '%s that were closed leave nothing behind',
  async (_name, count, call) => {
    const descriptors = readdirSync('/proc/self/fd').length;
    expect(await growth(count, call)).toBeLessThan(48 * MIB);
    expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(descriptors + 8);
  },
  120_000,
);

test('there are as many of each as the attributes say, and no more', () => {
  const own = openDevice();
  const { maxPd, maxCq, maxSrq, maxQp, maxMr, maxMw } = own.attr;
  const domain = own.allocPd();
  const room = own.allocMemory(4096);
  const queue = own.createCq(1);
  const limits: [string, number, () => { close(): void }][] = [
    ['maxPd', maxPd - 1, () => own.allocPd()],
    ['maxCq', maxCq - 1, () => own.createCq(1)],
    ['maxSrq', maxSrq, () => domain.createSrq(1)],
    ['maxQp', maxQp, () => domain.createQp({ sendCq: queue, recvCq: queue, maxSendWr: 1, maxRecvWr: 1 })],
    ['maxMr', maxMr, () => domain.regMr(room, 0, 8, 0)],
    ['maxMw', maxMw, () => domain.allocMw()],
  ];
  for (const [name, count, make] of limits) {
    const made = Array.from({ length: count }, make);
    expect([name, failureOf(make)]).toEqual([name, 'ERR_NATIVE_LIMIT']);
    // One that is closed makes room for another.
    made.pop()!.close();
    made.push(make());
    for (const object of made) object.close();
  }
  own.close();
}, 120_000);

/** A client that comes and goes; its listener hears of both. */
function connected(): void {
  const qp = pd.createQp({ sendCq: cq, recvCq: cq, maxSendWr: 8, maxRecvWr: 8 });
  const peer = pd.createQp({ sendCq: cq, recvCq: cq, maxSendWr: 8, maxRecvWr: 8 });
  const connection = device.connect(listener.address, [qp], channel);
  const incoming = listener.nextConnection()!;
  incoming.accept([peer]);
  connection.close();
  expect(listener.nextDisconnection()).toBe(incoming);
  for (const object of [incoming, qp, peer]) object.close();
}

function watched(): void {
  const channel = device.createChannel();
  channel.onSignal(() => {});
  channel.close();
}

function touched(): void {
  const own = device.allocMemory(64 * 1024);
  new Uint8Array(own.buffer)[0] = 1;
  own.close();
}

function family(): void {
  const own = openDevice();
  const domain = own.allocPd();
  const region = domain.regMr(own.allocMemory(4096), 0, 4096, Access.LOCAL_WRITE | Access.MW_BIND);
  const queue = own.createCq(8, own.createChannel());
  domain.createQp({ sendCq: queue, recvCq: queue, maxSendWr: 8, maxRecvWr: 8 });
  domain.allocMw();
  expect(region.length).toBe(4096);
  own.close();
}
