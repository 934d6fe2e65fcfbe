import { expect } from 'vitest';
import type { SharedReceiveQueue } from '../../../native/index.js';
import { QpState, SendFlag, WcStatus } from '../../../native/index.js';
import { failureOf, nextConnection, Rig, Side, until } from '../rig.js';
import type { Ground } from './suite.js';

const { ERR } = QpState;

export function queues(on: Ground): void {
  const noShared = on.attr.maxSrq === 0 && 'the device has no shared receive queues';

  on.test('full queues refuse and take again when there is room', () => {
    const { client, node } = on.rig;
    const post = (flags = 0) => client.qp.postWrite(1, flags, 0, client.mr.lkey, 8, 0, node.mr.rkey);
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 15; i++) expect(post()).toBe(true);
      expect(post(SendFlag.SIGNALED)).toBe(true);
      expect(post()).toBe(false);
      client.qp.doorbell();
      expect(client.take(client.sendCq, 1)).toMatchObject([{ status: WcStatus.SUCCESS }]);
    }
    const recv = () => node.qp.postRecv(1, 0, node.mr.lkey, 8);
    for (let i = 0; i < 16; i++) expect(recv()).toBe(true);
    expect(recv()).toBe(false);
    expect(client.status((f) => client.qp.postSend(1, f, 0, client.mr.lkey, 8))).toBe(WcStatus.SUCCESS);
    node.take(node.recvCq, 1);
    expect([recv(), recv()]).toEqual([true, false]);
  });

  on.test('a ring is used round and round in order', () => {
    const { client, node } = on.rig;
    for (let i = 0; i < 1000; i += 5) {
      for (let j = i; j < i + 5; j++) {
        client.qp.postFaa(j, SendFlag.SIGNALED, 8 * (j % 5), client.mr.lkey, 0, node.mr.rkey, 1, 0);
      }
      client.qp.doorbell();
      expect(client.take(client.sendCq, 5).map(({ wrId }) => wrId)).toEqual([i, i + 1, i + 2, i + 3, i + 4]);
      expect([...client.words.subarray(0, 5)]).toEqual([0, 1, 2, 3, 4].map((j) => BigInt(i + j)));
    }
  });

  on.test(
    'a completion queue that overflows keeps at least its depth, takes no more, and breaks the pair',
    async () => {
      const rig = await Rig.open(on.link, 4);
      const { client, node } = rig;
      for (let i = 0; i < 16; i++) {
        client.qp.postWrite(i, SendFlag.SIGNALED, 0, client.mr.lkey, 8, 0, node.mr.rkey);
      }
      client.qp.doorbell();
      await until(() => client.qp.state === ERR, 'ERR');
      const kept = client.drain(client.sendCq);
      expect(kept.length).toBeGreaterThanOrEqual(4);
      expect(kept.length).toBeLessThanOrEqual(8);
      kept.forEach((done, i) => {
        expect(done).toMatchObject({ wrId: i, status: WcStatus.SUCCESS });
      });
      rig.recover();
      client.qp.postWrite(11, SendFlag.SIGNALED, 0, client.mr.lkey, 8, 0, node.mr.rkey);
      client.qp.doorbell();
      await until(() => client.qp.state === ERR, 'ERR');
      expect(client.drain(client.sendCq)).toEqual([]);
      rig.close();
    },
  );

  on.test('an overflow wakes who waits for a completion', async () => {
    const rig = await Rig.open(on.link, 4);
    const { client, node } = rig;
    while (client.channel.wait(0)) {}
    client.words[0] = 1n;
    const write = (i: number) =>
      client.qp.postWrite(i, SendFlag.SIGNALED, 0, client.mr.lkey, 8, 8 * i, node.mr.rkey);
    for (let i = 0; i < 8; i++) write(i);
    client.qp.doorbell();
    await until(() => node.words[7] === 1n, 'the writes');
    // Nothing is polled before it is armed, so nothing else wakes.
    client.sendCq.arm();
    write(8);
    client.qp.doorbell();
    expect(client.channel.wait(10e9)).toBe(true);
    await until(() => client.qp.state === ERR, 'ERR');
    rig.close();
  });

  on.test('a completion queue that is polled in time does not overflow', async () => {
    const rig = await Rig.open(on.link, 4);
    for (let i = 0; i < 100; i++) expect(rig.client.write(0, 0, rig.node.mr.rkey)).toBe(WcStatus.SUCCESS);
    rig.close();
  });

  on.test(
    'pairs that share a receive queue take its oldest buffer, whichever is first',
    async () => {
      const { node } = on.rig;
      const srq = node.pd.createSrq(16);
      const peers = [await sharing(on, node, srq), await sharing(on, node, srq)];
      for (let i = 0; i < 8; i++) expect(srq.postRecv(i, 64 * i, node.mr.lkey, 64)).toBe(true);
      for (const { qp } of peers) expect(qp.postRecv(99, 0, node.mr.lkey, 8)).toBe(false);
      for (let i = 0; i < 8; i++) {
        const { client, qp } = peers[(i >> 1) & 1]!;
        client.words[0] = BigInt(i + 100);
        expect(client.status((f) => client.qp.postSend(1, f, 0, client.mr.lkey, 8))).toBe(WcStatus.SUCCESS);
        expect(node.take(node.recvCq, 1)).toMatchObject([
          { wrId: i, status: WcStatus.SUCCESS, byteLen: 8, qpNum: qp.qpNum },
        ]);
        expect(node.words[8 * i]).toBe(BigInt(i + 100));
      }
      const { client } = peers[0]!;
      expect(client.status((f) => client.qp.postSend(1, f, 0, client.mr.lkey, 8))).toBe(
        WcStatus.RNR_RETRY_EXC_ERR,
      );
    },
    noShared,
  );

  on.test(
    'a pair in ERR leaves the buffers of a shared queue to the others',
    async () => {
      const { node } = on.rig;
      const srq = node.pd.createSrq(4);
      const one = await sharing(on, node, srq);
      const other = await sharing(on, node, srq);
      for (let i = 0; i < 4; i++) srq.postRecv(i, 64 * i, node.mr.lkey, 64);
      expect(srq.postRecv(4, 0, node.mr.lkey, 8)).toBe(false);
      expect(one.client.read(0, 0, 0)).toBe(WcStatus.REM_ACCESS_ERR);
      expect(one.qp.state).toBe(ERR);
      const { client } = other;
      expect(client.status((f) => client.qp.postSend(1, f, 0, client.mr.lkey, 8))).toBe(WcStatus.SUCCESS);
      expect(node.take(node.recvCq, 1)).toMatchObject([{ wrId: 0, status: WcStatus.SUCCESS }]);
      expect(node.drain(node.recvCq)).toEqual([]);
      expect([srq.postRecv(4, 0, node.mr.lkey, 8), srq.postRecv(5, 0, node.mr.lkey, 8)]).toEqual([
        true,
        false,
      ]);
    },
    noShared,
  );

  on.test(
    'the pairs of a connecting client can share a receive queue',
    async () => {
      const client = new Side(on.link.openClient());
      const { node, listener } = on.rig;
      client.qp.close();
      const srq = client.pd.createSrq(8);
      const qps = [client.newQp({ srq }), client.newQp({ srq })];
      srq.postRecv(0, 0, client.mr.lkey, 64);
      const connection = client.device.connect(listener.address, qps, client.channel);
      const peers = qps.map(() => node.newQp());
      (await nextConnection(listener)).accept(peers);
      await until(() => connection.state === 'established', 'the connection');
      for (let i = 0; i < 20; i++) {
        node.qp = peers[i % 2]!;
        node.words[0] = BigInt(i + 1);
        expect(node.status((f) => node.qp.postSend(1, f, 0, node.mr.lkey, 8))).toBe(WcStatus.SUCCESS);
        expect(client.take(client.recvCq, 1)).toMatchObject([
          { wrId: i, status: WcStatus.SUCCESS, qpNum: qps[i % 2]!.qpNum },
        ]);
        expect(client.words[8 * (i % 8)]).toBe(BigInt(i + 1));
        srq.postRecv(i + 1, 64 * ((i + 1) % 8), client.mr.lkey, 64);
      }
      client.device.close();
    },
    noShared,
  );

  on.test(
    'a shared receive queue closes when no pair uses it',
    () => {
      const { node } = on.rig;
      const srq = node.pd.createSrq(4);
      const qp = node.newQp({ srq });
      expect(failureOf(() => srq.close())).toBe('ERR_NATIVE_BUSY');
      qp.close();
      srq.close();
      srq.close();
      expect(srq.postRecv(1, 0, node.mr.lkey, 8)).toBe(false);
      expect(failureOf(() => node.newQp({ srq }))).toBe('ERR_NATIVE_CLOSED');
    },
    noShared,
  );

  on.test(
    'a shared receive queue is of its protection domain',
    () => {
      const { node } = on.rig;
      const srq = node.device.allocPd().createSrq(4);
      expect(failureOf(() => node.newQp({ srq }))).toBe('TypeError');
    },
    noShared,
  );
}

/** A pair of the node that takes from `srq`, connected with a client of its own. */
async function sharing(on: Ground, node: Side, srq: SharedReceiveQueue) {
  const { listener } = on.rig;
  const client = new Side(on.link.openClient());
  const connection = client.device.connect(listener.address, [client.qp], client.channel);
  const qp = node.newQp({ srq });
  (await nextConnection(listener)).accept([qp]);
  await until(() => connection.state === 'established', 'the connection');
  return { client, qp };
}
