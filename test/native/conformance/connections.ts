import { expect } from 'vitest';
import { openDevice, QpState, WcStatus } from '../../../native/index.js';
import { failureOf, nextConnection, Offer, Rig, Side, until } from '../rig.js';
import type { Ground } from './suite.js';

const { RESET, RTS, ERR } = QpState;
const LONG_NS = 10e9;

export function connections(on: Ground): void {
  const noMore = !on.attr.queuesAcrossConnections && 'completion queues serve one connection only';

  /** A test with a client whose connection waits for an answer. */
  const offered = (title: string, run: (offer: Offer) => void | Promise<void>, lacks?: string | false) => {
    on.test(
      title,
      async () => {
        const offer = await Offer.make(on.link);
        try {
          await run(offer);
        } finally {
          offer.close();
        }
      },
      lacks,
    );
  };

  on.test('an address where nobody listens', () => {
    const side = new Side(on.link.openClient());
    const node = on.link.openNode();
    const listener = node.listen(node.createChannel(), on.link.listenOptions());
    listener.close();
    for (const address of ['', 'nowhere', listener.address]) {
      expect(failureOf(() => side.device.connect(address, [side.qp], side.channel))).toBe(
        'ERR_NATIVE_NO_LISTENER',
      );
    }
    side.device.close();
    node.close();
  });

  on.test('a device that does not exist', () => {
    for (const name of ['', 'soft1', 'nothing']) {
      expect(failureOf(() => openDevice(name))).toBe('ERR_NATIVE_NO_DEVICE');
    }
  });

  offered('accepting brings both sides to RTS', async ({ node, client, listener, connection, incoming }) => {
    expect([connection.state, incoming.state, incoming.qpCount]).toEqual(['connecting', 'connecting', 1]);
    expect(listener.nextConnection()).toBeUndefined();
    incoming.accept([node.qp]);
    await until(() => connection.state === 'established', 'the connection');
    expect(incoming.state).toBe('established');
    expect(client.channel.wait(LONG_NS)).toBe(true);
    expect([client.qp.state, node.qp.state]).toEqual([RTS, RTS]);
    expect(failureOf(() => incoming.accept([node.newQp()]))).toBe('ERR_NATIVE_CLOSED');
  });

  offered('receive buffers may be posted before', async ({ node, client, connection, incoming }) => {
    node.qp.postRecv(7, 0, node.mr.lkey, 8);
    incoming.accept([node.qp]);
    await until(() => connection.state === 'established', 'the connection');
    expect(client.status((f) => client.qp.postSend(1, f, 0, client.mr.lkey, 8))).toBe(WcStatus.SUCCESS);
    expect(node.take(node.recvCq, 1)).toMatchObject([{ wrId: 7, status: WcStatus.SUCCESS }]);
  });

  offered('rejecting frees the pairs of the client for another attempt', async (offer) => {
    const { node, client, listener, connection, incoming } = offer;
    incoming.reject();
    await until(() => connection.state === 'rejected', 'the answer');
    expect(client.channel.wait(LONG_NS)).toBe(true);
    expect(client.qp.state).toBe(RESET);
    const again = client.device.connect(listener.address, [client.qp], client.channel);
    (await nextConnection(listener)).accept([node.qp]);
    await until(() => again.state === 'established', 'the connection');
    expect(client.write(0, 0, node.mr.rkey)).toBe(WcStatus.SUCCESS);
  });

  offered(
    'a pair is in one connection only',
    async ({ node, client, listener, incoming }) => {
      const connect = (...qps: (typeof client.qp)[]) =>
        failureOf(() => client.device.connect(listener.address, qps, client.channel));
      expect(connect(client.qp)).toBe('TypeError');
      const fresh = client.newQp();
      expect(connect(fresh, fresh)).toBe('TypeError');
      expect(failureOf(() => incoming.accept([client.qp]))).toBe('TypeError');
      expect(failureOf(() => incoming.accept([]))).toBe('RangeError');
      expect(failureOf(() => incoming.accept([node.qp, node.newQp()]))).toBe('RangeError');
      incoming.accept([node.qp]);
      expect(connect(client.qp)).toBe('TypeError');
      // A refused attempt leaves its pairs free.
      expect(connect(fresh)).toBeUndefined();
    },
    noMore,
  );

  on.test('several pairs of one connection meet in their order', async () => {
    const client = new Side(on.link.openClient());
    const { node, listener } = on.rig;
    const qps = [client.qp, client.newQp(), client.newQp()];
    const connection = client.device.connect(listener.address, qps, client.channel);
    const incoming = await nextConnection(listener);
    expect([connection.qpCount, incoming.qpCount]).toEqual([3, 3]);
    const peers = qps.map(() => node.newQp());
    incoming.accept(peers);
    await until(() => connection.state === 'established', 'the connection');
    expect(peers.map((qp) => qp.remoteQpNum)).toEqual(qps.map((qp) => qp.qpNum));
    expect(qps.map((qp) => qp.remoteQpNum)).toEqual(peers.map((qp) => qp.qpNum));
    // What breaks one does not touch the others.
    client.qp = qps[1]!;
    expect(client.read(0, 0, 0)).toBe(WcStatus.REM_ACCESS_ERR);
    for (const i of [0, 2]) {
      client.qp = qps[i]!;
      expect(client.read(0, 0, node.mr.rkey)).toBe(WcStatus.SUCCESS);
    }
    client.device.close();
  });

  offered('only the listener side accepts and rejects', async ({ client, connection, incoming, node }) => {
    expect(failureOf(() => connection.accept([client.newQp()]))).toBe('TypeError');
    expect(failureOf(() => connection.reject())).toBe('TypeError');
    incoming.accept([node.qp]);
    await until(() => connection.state === 'established', 'the connection');
  });

  offered('the client closes before it is accepted', async ({ node, connection, incoming, listener }) => {
    connection.close();
    await until(() => incoming.state === 'closed', 'the end of the connection');
    expect(failureOf(() => incoming.accept([node.qp]))).toBe('ERR_NATIVE_CLOSED');
    expect(node.qp.state).toBe(RESET);
    expect(listener.nextDisconnection()).toBeUndefined();
  });

  offered('a pair that its client closed does not come to life by being accepted', (offer) => {
    const { node, client, incoming } = offer;
    client.qp.close();
    // Whether that is noticed in time or not.
    if (failureOf(() => incoming.accept([node.qp])) !== undefined) return;
    expect([WcStatus.RETRY_EXC_ERR, WcStatus.WR_FLUSH_ERR]).toContain(node.write(0, 0, client.mr.rkey));
  });

  on.test('the client closes: the listener hears of it once', async () => {
    const { node, client, connection, accepted, listener } = on.rig;
    while (node.channel.wait(0)) {}
    connection.close();
    expect(node.channel.wait(LONG_NS)).toBe(true);
    expect(listener.nextDisconnection()).toBe(accepted);
    expect(listener.nextDisconnection()).toBeUndefined();
    expect([accepted.state, client.qp.state, node.qp.state]).toEqual(['closed', ERR, ERR]);
  });

  on.test('the listener side closes: the client is signalled', async () => {
    const { node, client, connection, accepted, listener } = on.rig;
    while (client.channel.wait(0)) {}
    accepted.close();
    expect(client.channel.wait(LONG_NS)).toBe(true);
    await until(() => connection.state === 'closed', 'the end of the connection');
    expect([client.qp.state, node.qp.state]).toEqual([ERR, ERR]);
    expect(listener.nextDisconnection()).toBeUndefined();
  });

  on.test('the end of a connection flushes what is posted', async () => {
    const { node, client, accepted, connection } = on.rig;
    client.qp.postRecv(1, 0, client.mr.lkey, 8);
    node.qp.postRecv(2, 0, node.mr.lkey, 8);
    accepted.close();
    await until(() => connection.state === 'closed', 'the end of the connection');
    expect(client.take(client.recvCq, 1)).toMatchObject([{ wrId: 1, status: WcStatus.WR_FLUSH_ERR }]);
    expect(node.take(node.recvCq, 1)).toMatchObject([{ wrId: 2, status: WcStatus.WR_FLUSH_ERR }]);
    expect(client.read(0, 0, node.mr.rkey)).toBe(WcStatus.WR_FLUSH_ERR);
    client.qp.postRecv(3, 0, client.mr.lkey, 8);
    expect(client.take(client.recvCq, 1)).toMatchObject([{ wrId: 3, status: WcStatus.WR_FLUSH_ERR }]);
  });

  on.test('a pair in RESET is in ERR too when its connection closes', async () => {
    const { client, accepted } = on.rig;
    client.qp.modify(RESET);
    accepted.close();
    await until(() => client.qp.state === ERR, 'ERR');
  });

  on.test('a closing listener rejects those who wait and leaves the others', async () => {
    const { client, connection, listener } = on.rig;
    const other = new Side(on.link.openClient());
    const waiting = other.device.connect(listener.address, [other.qp], other.channel);
    listener.close();
    await until(() => waiting.state === 'rejected', 'the answer');
    expect(connection.state).toBe('established');
    expect(client.qp.state).toBe(RTS);
    other.device.close();
  });

  on.test('ids are not used again', async () => {
    const ids = new Set<number>();
    for (let i = 0; i < 20; i++) {
      const rig = await Rig.open(on.link);
      ids.add(rig.accepted.id);
      rig.close();
    }
    expect(ids.size).toBe(20);
  });
}
