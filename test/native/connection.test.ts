import { expect, test } from 'vitest';
import { QpState, WcStatus } from '../../native/index.js';
import { failureOf, Rig, Side } from './rig.js';

const { RESET, RTS, ERR } = QpState;

function offered() {
  const node = new Side();
  const client = new Side();
  const listener = node.device.listen(node.channel);
  const connection = client.device.connect(listener.address, [client.qp], client.channel);
  expect(node.channel.wait(0)).toBe(true);
  const incoming = listener.nextConnection()!;
  const close = () => {
    client.device.close();
    node.device.close();
  };
  return { node, client, listener, connection, incoming, close };
}

test('an address where nobody listens', () => {
  const side = new Side();
  const listener = side.device.listen(side.channel);
  listener.close();
  for (const address of ['', 'nowhere', listener.address]) {
    expect(failureOf(() => side.device.connect(address, [side.qp], side.channel))).toBe(
      'ERR_NATIVE_NO_LISTENER',
    );
  }
  side.device.close();
});

test('accepting brings both sides to RTS', () => {
  const { node, client, listener, connection, incoming, close } = offered();
  expect([connection.state, incoming.state, incoming.qpCount]).toEqual(['connecting', 'connecting', 1]);
  expect(incoming.id).toBe(connection.id);
  expect(listener.nextConnection()).toBeUndefined();
  incoming.accept([node.qp]);
  expect(client.channel.wait(0)).toBe(true);
  expect([connection.state, incoming.state]).toEqual(['established', 'established']);
  expect([client.qp.state, node.qp.state]).toEqual([RTS, RTS]);
  expect(failureOf(() => incoming.accept([node.newQp()]))).toBe('ERR_NATIVE_CLOSED');
  close();
});

test('rejecting frees the pairs of the client for another attempt', () => {
  const { node, client, listener, connection, incoming, close } = offered();
  incoming.reject();
  expect(client.channel.wait(0)).toBe(true);
  expect([connection.state, client.qp.state]).toEqual(['rejected', RESET]);
  const again = client.device.connect(listener.address, [client.qp], client.channel);
  listener.nextConnection()!.accept([node.qp]);
  expect(again.state).toBe('established');
  expect(client.write(0, 0, node.mr.rkey)).toBe(WcStatus.SUCCESS);
  close();
});

test('a pair is in one connection only', () => {
  const { node, client, listener, incoming, close } = offered();
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
  close();
});

test('only the listener side accepts and rejects', () => {
  const { client, connection, incoming, node, close } = offered();
  expect(failureOf(() => connection.accept([client.newQp()]))).toBe('TypeError');
  expect(failureOf(() => connection.reject())).toBe('TypeError');
  incoming.accept([node.qp]);
  expect(connection.state).toBe('established');
  close();
});

test('the client closes before it is accepted', () => {
  const { node, connection, incoming, listener, close } = offered();
  connection.close();
  expect(incoming.state).toBe('closed');
  expect(failureOf(() => incoming.accept([node.qp]))).toBe('ERR_NATIVE_CLOSED');
  expect(node.qp.state).toBe(RESET);
  expect(listener.nextDisconnection()).toBeUndefined();
  close();
});

test('a pair that its client closed does not come to life by being accepted', () => {
  const { node, client, incoming, close } = offered();
  client.qp.close();
  incoming.accept([node.qp]);
  expect(node.write(0, 0, client.mr.rkey)).toBe(WcStatus.RETRY_EXC_ERR);
  close();
});

test('the client closes: the listener hears of it once', () => {
  const { node, client, connection, accepted, listener, close } = closable();
  node.channel.wait(0);
  connection.close();
  expect(node.channel.wait(0)).toBe(true);
  expect(listener.nextDisconnection()).toBe(accepted);
  expect(listener.nextDisconnection()).toBeUndefined();
  expect([accepted.state, client.qp.state, node.qp.state]).toEqual(['closed', ERR, ERR]);
  close();
});

test('the listener side closes: the client is signalled', () => {
  const { node, client, connection, accepted, listener, close } = closable();
  client.channel.wait(0);
  accepted.close();
  expect(client.channel.wait(0)).toBe(true);
  expect([connection.state, client.qp.state, node.qp.state]).toEqual(['closed', ERR, ERR]);
  expect(listener.nextDisconnection()).toBeUndefined();
  close();
});

test('a pair in RESET is in ERR too when its connection closes', () => {
  const { client, accepted, close } = closable();
  client.qp.modify(RESET);
  accepted.close();
  expect(client.qp.state).toBe(ERR);
  close();
});

test('a closing listener rejects those who wait and leaves the others', () => {
  const { client, connection, listener, close } = closable();
  const waiting = client.device.connect(listener.address, [client.newQp()], client.channel);
  listener.close();
  expect([waiting.state, connection.state]).toEqual(['rejected', 'established']);
  expect(client.qp.state).toBe(RTS);
  close();
});

test('ids are not used again', () => {
  const ids = new Set<number>();
  for (let i = 0; i < 20; i++) {
    const rig = new Rig();
    ids.add(rig.connection.id);
    rig.close();
  }
  expect(ids.size).toBe(20);
});

function closable() {
  const rig = new Rig();
  const { node, client, connection, accepted, listener } = rig;
  return { node, client, connection, accepted, listener, close: () => rig.close() };
}
