import { Worker } from 'node:worker_threads';
import { expect } from 'vitest';
import { SendFlag, WcStatus } from '../../../native/index.js';
import { nextConnection, type Side } from '../rig.js';
import { converse } from './converse.js';
import type { Ground } from './suite.js';

const LONG_NS = 10e9;
const SHORT_NS = 1e6;

/** Take away what connecting has signalled. */
function quiet(side: Side): void {
  while (side.channel.wait(SHORT_NS)) {}
}

export function waiting(on: Ground): void {
  const write = (flags: number = SendFlag.SIGNALED) => {
    const { client, node } = on.rig;
    client.qp.postWrite(1, flags, 0, client.mr.lkey, 8, 0, node.mr.rkey);
    client.qp.doorbell();
  };

  on.test('only an armed queue signals, and once', () => {
    const { client } = on.rig;
    quiet(client);
    write();
    client.take(client.sendCq, 1);
    expect(client.channel.wait(SHORT_NS)).toBe(false);
    client.sendCq.arm();
    write();
    expect(client.channel.wait(LONG_NS)).toBe(true);
    client.take(client.sendCq, 1);
    write();
    client.take(client.sendCq, 1);
    expect(client.channel.wait(SHORT_NS)).toBe(false);
  });

  on.test('an unsignalled success does not signal, a failure does', () => {
    const { client, node } = on.rig;
    quiet(client);
    client.sendCq.arm();
    write(0);
    expect(client.channel.wait(SHORT_NS)).toBe(false);
    client.qp.postWrite(2, 0, 0, client.mr.lkey, 8, 0, node.mr.rkey ^ 1);
    client.qp.doorbell();
    expect(client.channel.wait(LONG_NS)).toBe(true);
    expect(client.take(client.sendCq, 1)).toMatchObject([{ wrId: 2, status: WcStatus.REM_ACCESS_ERR }]);
  });

  on.test('armed for solicited completions, only a solicited message or an error signals', () => {
    const { client, node } = on.rig;
    for (let i = 0; i < 4; i++) node.qp.postRecv(i, 0, node.mr.lkey, 8);
    const send = (flags: number) => {
      client.status((f) => client.qp.postSend(1, f | flags, 0, client.mr.lkey, 8));
      node.take(node.recvCq, 1);
    };
    quiet(node);
    node.recvCq.arm(true);
    send(0);
    expect(node.channel.wait(SHORT_NS)).toBe(false);
    send(SendFlag.SOLICITED);
    expect(node.channel.wait(LONG_NS)).toBe(true);
    // Not armed any more.
    send(SendFlag.SOLICITED);
    expect(node.channel.wait(SHORT_NS)).toBe(false);
    node.recvCq.arm(true);
    expect(client.read(0, 0, 0)).toBe(WcStatus.REM_ACCESS_ERR);
    expect(node.take(node.recvCq, 1)).toMatchObject([{ status: WcStatus.WR_FLUSH_ERR }]);
    expect(node.channel.wait(LONG_NS)).toBe(true);
  });

  on.test(
    'armed for any completion, arming for solicited ones changes nothing; the other way round it does',
    () => {
      const { client } = on.rig;
      for (const [first, second] of [
        [false, true],
        [true, false],
      ] as const) {
        quiet(client);
        client.sendCq.arm(first);
        client.sendCq.arm(second);
        write();
        expect(client.channel.wait(LONG_NS)).toBe(true);
        client.take(client.sendCq, 1);
      }
    },
  );

  on.test('a poll, an arm and a poll lose no wake-up: two threads send each other messages', async () => {
    const { node, listener } = on.rig;
    const rounds = on.link.wakeUps;
    const worker = new Worker(new URL('./echo.js', import.meta.url), {
      workerData: { link: on.link.name, address: listener.address, rounds },
    });
    const ended = new Promise((resolve, reject) => {
      worker.once('error', reject);
      worker.once('exit', resolve);
    });
    const peer = node.newQp();
    node.qp = peer;
    peer.postRecv(0, 0, node.mr.lkey, 8);
    try {
      (await Promise.race([nextConnection(listener), ended.then(() => nextConnection(listener))])).accept([
        peer,
      ]);
      const slept = converse(node, rounds, true);
      await ended;
      // Otherwise the test would have tried nothing.
      expect(slept).toBeGreaterThan(rounds / 100);
    } finally {
      await worker.terminate();
    }
  });
}
