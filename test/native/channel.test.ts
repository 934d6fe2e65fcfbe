import { spawnSync } from 'node:child_process';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { nowNs, signalChannel } from '../../native/index.js';
import { Rig } from './rig.js';

let rig: Rig;

beforeEach(async () => {
  rig = await Rig.open();
  for (const side of [rig.client, rig.node]) side.channel.wait(0);
});

afterEach(() => rig.close());

const index = new URL('../../native/index.js', import.meta.url).href;

test('a wait ends at its time-out, not before', () => {
  const begin = nowNs();
  expect(rig.client.channel.wait(3e6)).toBe(false);
  expect(nowNs() - begin).toBeGreaterThanOrEqual(3e6);
});

test('a time-out that is no time is refused', () => {
  for (const timeout of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(() => rig.client.channel.wait(timeout)).toThrow(RangeError);
  }
});

test('another thread wakes a waiting one by the descriptor', async () => {
  const { channel } = rig.client;
  const worker = new Worker(
    `const { signalChannel } = await import(${JSON.stringify(index)}); signalChannel(${channel.fd});`,
    { eval: true },
  );
  // Blocks this thread; 20 s are only for the case that it fails.
  const signalled = channel.wait(20e9);
  await worker.terminate();
  expect(signalled).toBe(true);
});

test('no channel has the descriptor', () => {
  for (const fd of [0, 1, 2, 0x7fffffff]) expect(signalChannel(fd)).toBe(false);
});

test('a listener is called on the event loop for every signal until it is taken away', async () => {
  const { channel } = rig.client;
  let calls = 0;
  let wake = () => {};
  channel.onSignal(() => {
    calls++;
    wake();
  });
  for (let i = 1; i <= 3; i++) {
    const called = new Promise<void>((resolve) => {
      wake = resolve;
    });
    expect(signalChannel(channel.fd)).toBe(true);
    expect(calls).toBe(i - 1);
    await called;
    expect(calls).toBe(i);
  }
  channel.onSignal(undefined);
  signalChannel(channel.fd);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(calls).toBe(3);
  expect(channel.wait(0)).toBe(true);
});

test('a listener may close its channel', async () => {
  const { channel } = rig.client;
  await new Promise<void>((resolve) => {
    channel.onSignal(() => {
      channel.close();
      resolve();
    });
    signalChannel(channel.fd);
  });
  expect(signalChannel(channel.fd)).toBe(false);
});

/** Run a program that has `device` and `channel`; at most 10 s. */
function runProgram(body: string) {
  const program = `import { openDevice, signalChannel } from ${JSON.stringify(index)};
    const device = openDevice();
    const channel = device.createChannel();
    ${body}`;
  const { status, signal, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    timeout: 60_000,
    encoding: 'utf8',
  });
  return { status, signal, stdout };
}

const EXITED = { status: 0, signal: null };

test.each([
  ['with everything open', '', ''],
  ['after a listener was taken away', 'channel.onSignal(() => {}); channel.onSignal(undefined);', ''],
  ['after its channel was closed', 'channel.onSignal(() => {}); channel.close();', ''],
  [
    'after the signal it waited for',
    `channel.onSignal(() => { console.log('signalled'); channel.onSignal(undefined); });
     setTimeout(() => signalChannel(channel.fd), 20).unref();`,
    'signalled\n',
  ],
  ['at once when told to', 'channel.onSignal(() => {}); process.exit(0);', ''],
])('a process exits by itself %s', (_name, body, stdout) => {
  expect(runProgram(body)).toEqual({ ...EXITED, stdout });
});

test('what a listener throws is an uncaught exception', () => {
  const { status, stdout } = runProgram(`
    process.on('uncaughtException', (error) => { console.log(error.message); process.exit(3); });
    channel.onSignal(() => { throw new Error('thrown by the listener'); });
    signalChannel(channel.fd);`);
  expect({ status, stdout }).toEqual({ status: 3, stdout: 'thrown by the listener\n' });
});
