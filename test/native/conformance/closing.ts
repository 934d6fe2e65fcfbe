import { expect } from 'vitest';
import { signalChannel, WcStatus } from '../../../native/index.js';
import { ALL_ACCESS, emptyCompletion, failureOf, Side, until } from '../rig.js';
import type { Ground } from './suite.js';

export function closing(on: Ground): void {
  on.test('what is in use cannot be closed', () => {
    const side = new Side(on.link.openNode());
    expect(failureOf(() => side.sendCq.close())).toBe('ERR_NATIVE_BUSY');
    expect(failureOf(() => side.recvCq.close())).toBe('ERR_NATIVE_BUSY');
    expect(failureOf(() => side.pd.close())).toBe('ERR_NATIVE_BUSY');
    side.qp.close();
    side.sendCq.close();
    side.recvCq.close();
    expect(failureOf(() => side.pd.close())).toBe('ERR_NATIVE_BUSY');
    side.mr.close();
    const window = side.pd.allocMw();
    expect(failureOf(() => side.pd.close())).toBe('ERR_NATIVE_BUSY');
    window.close();
    side.pd.close();
    side.device.close();
  });

  on.test('closing twice is closing once', () => {
    const { client, node, listener, connection, accepted } = on.rig;
    const window = node.pd.allocMw();
    const objects = [
      connection,
      accepted,
      listener,
      client.qp,
      node.qp,
      window,
      node.mr,
      node.sendCq,
      node.recvCq,
    ];
    for (const object of [...objects, node.pd, node.memory, node.channel, node.device, client.device]) {
      object.close();
      object.close();
    }
  });

  on.test('use after close is refused and never crashes', async () => {
    const { client, node, listener, connection, accepted } = on.rig;
    const spare = node.newQp();
    const { qp, sendCq, recvCq, pd, memory, channel, device, mr } = node;
    const init = { sendCq, recvCq, maxSendWr: 4, maxRecvWr: 4 };
    device.close();
    const refused: Record<string, () => unknown> = {
      allocMemory: () => device.allocMemory(4096),
      allocPd: () => device.allocPd(),
      createChannel: () => device.createChannel(),
      createCq: () => device.createCq(4),
      listen: () => device.listen(channel),
      connect: () => client.device.connect(listener.address, [spare], client.channel),
      regMr: () => pd.regMr(memory, 0, 8, ALL_ACCESS),
      allocMw: () => pd.allocMw(),
      createQp: () => pd.createQp(init),
      createSrq: () => pd.createSrq(4),
      wait: () => channel.wait(0),
      onSignal: () => channel.onSignal(() => {}),
      nextConnection: () => listener.nextConnection(),
      nextDisconnection: () => listener.nextDisconnection(),
      accept: () => accepted.accept([]),
      modify: () => qp.modify(0),
      state: () => qp.state,
      remoteQpNum: () => qp.remoteQpNum,
    };
    for (const [name, use] of Object.entries(refused)) {
      expect([name, failureOf(use)]).toEqual([
        name,
        name === 'connect' ? expect.any(String) : 'ERR_NATIVE_CLOSED',
      ]);
    }
    expect(qp.postRead(1, 2, 0, mr.lkey, 8, 0, mr.rkey)).toBe(false);
    expect(qp.postRecv(1, 0, mr.lkey, 8)).toBe(false);
    expect(qp.postSendInline(1, 2, new Uint8Array(1))).toBe(false);
    qp.doorbell();
    sendCq.arm();
    expect(sendCq.poll(emptyCompletion())).toBe(false);
    expect(signalChannel(channel.fd)).toBe(false);
    accepted.reject();
    expect(accepted.state).toBe('closed');
    await until(() => connection.state === 'closed', 'the end of the connection');
    expect(client.read(0, 0, mr.rkey)).toBe(WcStatus.WR_FLUSH_ERR);
    client.device.close();
  });

  on.test("a device's arguments are checked", () => {
    const device = on.link.openClient();
    const pd = device.allocPd();
    const memory = device.allocMemory(4096);
    const cq = device.createCq(4);
    const qp = (maxSendWr: number, maxRecvWr: number) =>
      pd.createQp({ sendCq: cq, recvCq: cq, maxSendWr, maxRecvWr });
    const other = on.link.openClient();
    const otherCq = other.createCq(4);
    const ranges: (() => unknown)[] = [
      () => device.allocMemory(0),
      () => device.allocMemory(-1),
      () => device.allocMemory(1.5),
      () => device.allocMemory(Number.NaN),
      () => device.createCq(3),
      () => device.createCq(0),
      () => device.createCq(device.attr.maxCqe * 2),
      () => qp(3, 4),
      () => qp(4, 0),
      () => qp(device.attr.maxQpWr * 2, 4),
      () => qp(4, device.attr.maxQpWr * 2),
      () => pd.createSrq(3),
      () => pd.createSrq(0),
      () => pd.createSrq(device.attr.maxSrqWr * 2),
      () => pd.regMr(memory, 0, 0, ALL_ACCESS),
      () => pd.regMr(memory, 0, 4097, ALL_ACCESS),
      () => pd.regMr(memory, 4096, 1, ALL_ACCESS),
      () => pd.regMr(memory, 1, Number.MAX_SAFE_INTEGER, ALL_ACCESS),
      () => pd.regMr(memory, 0, 8, 32),
      () => pd.regMr(memory, 0, 8, 2),
      () => pd.regMr(memory, 0, 8, 8),
      () => pd.regMr(memory, 0, 8, ALL_ACCESS, -1),
      () => pd.regMr(memory, 0, 8, ALL_ACCESS, 2 ** 53),
    ];
    for (const call of ranges)
      expect([call.toString(), failureOf(call)]).toEqual([call.toString(), 'RangeError']);
    const types: (() => unknown)[] = [
      () => pd.createQp({ sendCq: otherCq, recvCq: otherCq, maxSendWr: 4, maxRecvWr: 4 }),
      () => pd.createQp({ sendCq: {} as never, recvCq: cq, maxSendWr: 4, maxRecvWr: 4 }),
      () => pd.regMr({} as never, 0, 8, ALL_ACCESS),
      () => device.allocMemory('8' as never),
      () => device.listen({} as never),
    ];
    for (const call of types)
      expect([call.toString(), failureOf(call)]).toEqual([call.toString(), 'TypeError']);
    expect(failureOf(() => device.allocMemory(Number.MAX_SAFE_INTEGER))).toBe('ERR_NATIVE_LIMIT');
    device.close();
    other.close();
  });

  on.test('registered memory outlives the closing of its object', () => {
    on.rig.node.memory.close();
    on.rig.node.words[0] = 5n;
    expect(on.rig.client.read(0, 0, on.rig.node.mr.rkey)).toBe(WcStatus.SUCCESS);
    expect(on.rig.client.words[0]).toBe(5n);
  });
}
