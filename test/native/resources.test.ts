import { expect, test } from 'vitest';
import { Access, openDevice } from '../../native/index.js';
import { ALL_ACCESS } from './rig.js';

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

test.each<[string, number, () => void]>([
  ['memory regions', 100_000, () => pd.regMr(memory, 0, 4096, ALL_ACCESS).close()],
  ['memory windows', 100_000, () => pd.allocMw().close()],
  ['protection domains', 10_000, () => device.allocPd().close()],
  ['completion queues', 10_000, () => device.createCq(512).close()],
  [
    'queue pairs',
    10_000,
    () => pd.createQp({ sendCq: cq, recvCq: cq, maxSendWr: 128, maxRecvWr: 8 }).close(),
  ],
  ['channels', 10_000, () => device.createChannel().close()],
  ['watched channels', 10_000, () => watched()],
  ['memories', 10_000, () => touched()],
  ['devices that close what was made from them', 500, () => family()],
])('%s that were closed leave nothing behind', async (_name, count, call) => {
  expect(await growth(count, call)).toBeLessThan(48 * MIB);
});

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
