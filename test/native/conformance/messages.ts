import { expect } from 'vitest';
import { Access, QpState, SendFlag, WcFlag, WcOpcode, WcStatus } from '../../../native/index.js';
import type { Ground } from './suite.js';

export function messages(on: Ground): void {
  const noInline = on.attr.maxInline === 0 && 'the device has no inline data';

  on.test('a send lands in the oldest receive buffer', () => {
    const { client, node } = on.rig;
    node.qp.postRecv(11, 100, node.mr.lkey, 50);
    node.qp.postRecv(12, 200, node.mr.lkey, 50);
    client.bytes.set([1, 2, 3], 7);
    expect(client.run((flags) => client.qp.postSend(5, flags, 7, client.mr.lkey, 3))).toMatchObject({
      wrId: 5,
      status: WcStatus.SUCCESS,
      opcode: WcOpcode.SEND,
    });
    expect(node.take(node.recvCq, 1)).toEqual([
      {
        wrId: 11,
        status: WcStatus.SUCCESS,
        opcode: WcOpcode.RECV,
        flags: 0,
        byteLen: 3,
        qpNum: node.qp.qpNum,
        imm: 0,
      },
    ]);
    expect([...node.bytes.subarray(99, 104)]).toEqual([0, 1, 2, 3, 0]);
  });

  on.test('messages of both directions arrive in order', () => {
    const { client, node } = on.rig;
    for (const [from, to] of [
      [client, node],
      [node, client],
    ] as const) {
      for (let i = 0; i < 8; i++) to.qp.postRecv(i, 512 + 8 * i, to.mr.lkey, 8);
      for (let i = 0; i < 8; i++) {
        from.words[i] = BigInt(i + 1);
        from.qp.postSend(i, i === 7 ? SendFlag.SIGNALED : 0, 8 * i, from.mr.lkey, 8);
      }
      from.qp.doorbell();
      expect(to.take(to.recvCq, 8).map(({ wrId, status }) => [wrId, status])).toEqual(
        Array.from({ length: 8 }, (_, i) => [i, WcStatus.SUCCESS]),
      );
      expect([...to.words.subarray(64, 72)]).toEqual([1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n]);
      from.take(from.sendCq, 1);
    }
  });

  on.test('a send with immediate data gives the number to the receiver', () => {
    const { client, node } = on.rig;
    node.qp.postRecv(1, 0, node.mr.lkey, 64);
    client.words[1] = 77n;
    const sent = client.run((f) => client.qp.postSendImm(2, f, 8, client.mr.lkey, 8, 0xfeedbeef));
    expect(sent).toMatchObject({ status: WcStatus.SUCCESS, opcode: WcOpcode.SEND });
    expect(node.take(node.recvCq, 1)).toMatchObject([
      { wrId: 1, opcode: WcOpcode.RECV, flags: WcFlag.WITH_IMM, byteLen: 8, imm: 0xfeedbeef },
    ]);
    expect(node.words[0]).toBe(77n);
  });

  on.test('a write with immediate data takes a receive buffer and leaves it as it is', () => {
    const { client, node } = on.rig;
    node.qp.postRecv(1, 0, node.mr.lkey, 64);
    client.words[1] = 78n;
    const written = client.run((f) =>
      client.qp.postWriteImm(2, f, 8, client.mr.lkey, 8, 512, node.mr.rkey, 0xffffffff),
    );
    expect(written).toMatchObject({ status: WcStatus.SUCCESS, opcode: WcOpcode.RDMA_WRITE });
    expect(node.take(node.recvCq, 1)).toMatchObject([
      { wrId: 1, opcode: WcOpcode.RECV_RDMA_WITH_IMM, flags: WcFlag.WITH_IMM, byteLen: 8, imm: 0xffffffff },
    ]);
    expect([node.words[0], node.words[64]]).toEqual([0n, 78n]);
  });

  on.test('a write with immediate data that finds no receive buffer fails', () => {
    const { client, node } = on.rig;
    const status = client.status((f) =>
      client.qp.postWriteImm(2, f, 8, client.mr.lkey, 8, 512, node.mr.rkey, 1),
    );
    expect(status).toBe(WcStatus.RNR_RETRY_EXC_ERR);
  });

  on.test('a write with immediate data that is refused takes no receive buffer', () => {
    const { client, node } = on.rig;
    node.qp.postRecv(1, 0, node.mr.lkey, 64);
    expect(client.status((f) => client.qp.postWriteImm(2, f, 8, client.mr.lkey, 8, 0, 0, 1))).toBe(
      WcStatus.REM_ACCESS_ERR,
    );
    expect(node.take(node.recvCq, 1)).toMatchObject([{ wrId: 1, status: WcStatus.WR_FLUSH_ERR }]);
  });

  on.test('a send can end a window of its receiver', () => {
    const { client, node } = on.rig;
    const rkey = node.pd.allocMw().keyBase + 1;
    node.bind(rkey, 0, 64, Access.REMOTE_WRITE);
    expect(client.write(0, 0, rkey)).toBe(WcStatus.SUCCESS);
    node.qp.postRecv(1, 512, node.mr.lkey, 64);
    expect(client.status((f) => client.qp.postSendInv(2, f, 0, client.mr.lkey, 8, rkey))).toBe(
      WcStatus.SUCCESS,
    );
    expect(node.take(node.recvCq, 1)).toMatchObject([
      { wrId: 1, status: WcStatus.SUCCESS, flags: WcFlag.WITH_INV, byteLen: 8, imm: rkey },
    ]);
    expect(client.write(0, 0, rkey)).toBe(WcStatus.REM_ACCESS_ERR);
    on.rig.recover();
    expect(node.invalidate(rkey)).toBe(WcStatus.LOC_QP_OP_ERR);
  });

  on.test('a send that is to end a key that is no bound window fails on both sides', () => {
    const { client, node } = on.rig;
    const unbound = node.pd.allocMw().keyBase + 1;
    for (const rkey of [unbound, node.mr.rkey, 0]) {
      node.qp.postRecv(1, 512, node.mr.lkey, 64);
      expect(client.status((f) => client.qp.postSendInv(2, f, 0, client.mr.lkey, 8, rkey))).toBe(
        WcStatus.REM_ACCESS_ERR,
      );
      expect(node.take(node.recvCq, 1)).toMatchObject([{ wrId: 1, status: WcStatus.LOC_QP_OP_ERR }]);
      expect([client.qp.state, node.qp.state]).toEqual([QpState.ERR, QpState.ERR]);
      on.rig.recover();
    }
    expect(client.read(0, 0, node.mr.rkey)).toBe(WcStatus.SUCCESS);
  });

  on.test(
    'inline bytes go as they were when they were posted, up to the limit',
    () => {
      const { client, node } = on.rig;
      for (let length = 0; length <= on.attr.maxInline; length++) {
        const bytes = Uint8Array.from({ length }, (_, i) => i + length);
        const expected = [...bytes];
        node.qp.postRecv(length, 512, node.mr.lkey, 64);
        node.bytes.fill(0, 0, 1024);
        expect(client.qp.postWriteInline(1, 0, bytes, 8, node.mr.rkey)).toBe(true);
        expect(client.qp.postSendInline(2, SendFlag.SIGNALED, bytes)).toBe(true);
        bytes.fill(0xff);
        client.qp.doorbell();
        expect(client.take(client.sendCq, 1)).toMatchObject([{ wrId: 2, status: WcStatus.SUCCESS }]);
        expect(node.take(node.recvCq, 1)).toMatchObject([{ wrId: length, byteLen: length }]);
        expect([...node.bytes.subarray(7, 9 + length)]).toEqual([0, ...expected, 0]);
        expect([...node.bytes.subarray(512, 513 + length)]).toEqual([...expected, 0]);
      }
    },
    noInline,
  );

  on.test('more inline bytes than the limit are not posted', () => {
    const { client, node } = on.rig;
    const bytes = new Uint8Array(on.attr.maxInline + 1);
    expect(client.qp.postSendInline(1, SendFlag.SIGNALED, bytes)).toBe(false);
    expect(client.qp.postWriteInline(1, SendFlag.SIGNALED, bytes, 0, node.mr.rkey)).toBe(false);
    expect(client.write(0, 0, node.mr.rkey)).toBe(WcStatus.SUCCESS);
    expect(client.drain(client.sendCq)).toEqual([]);
  });
}
