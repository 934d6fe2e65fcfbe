import { expect } from 'vitest';
import { WcOpcode, WcStatus } from '../../../native/index.js';
import { MEMORY_BYTES } from '../rig.js';
import type { Ground } from './suite.js';

export function operations(on: Ground): void {
  on.test('a write and a read move bytes of any length and alignment', () => {
    const { client, node } = on.rig;
    for (let i = 0; i < MEMORY_BYTES; i++) node.bytes[i] = (i * 7) & 0xff;
    for (const length of [1, 7, 8, 9, 255, 256, 257, 4097, 20000]) {
      for (const [local, remote] of [
        [0, 0],
        [3, 5],
        [8, 1],
      ] as const) {
        expect(client.read(local, remote, node.mr.rkey, length)).toBe(WcStatus.SUCCESS);
        expect(client.bytes.slice(local, local + length)).toEqual(node.bytes.slice(remote, remote + length));
        client.bytes.fill(length & 0xff, local, local + length);
        const [before, after] = [node.bytes[remote + 30000 - 1], node.bytes[remote + 30000 + length]];
        expect(client.write(local, remote + 30000, node.mr.rkey, length)).toBe(WcStatus.SUCCESS);
        expect(node.bytes.subarray(remote + 30000, remote + 30000 + length)).toEqual(
          client.bytes.subarray(local, local + length),
        );
        expect([node.bytes[remote + 30000 - 1], node.bytes[remote + 30000 + length]]).toEqual([
          before,
          after,
        ]);
      }
    }
  });

  on.test('a completion says what it completes', () => {
    const { client, node } = on.rig;
    const done = client.run((flags) =>
      client.qp.postRead(0xfffffffe, flags, 0, client.mr.lkey, 24, 0, node.mr.rkey),
    );
    expect(done).toEqual({
      wrId: 0xfffffffe,
      status: WcStatus.SUCCESS,
      opcode: WcOpcode.RDMA_READ,
      flags: 0,
      byteLen: 24,
      qpNum: client.qp.qpNum,
      imm: 0,
    });
  });

  on.test('only signalled requests complete', () => {
    const { client, node } = on.rig;
    for (let i = 0; i < 4; i++) {
      client.qp.postWrite(i, i === 3 ? 2 : 0, 0, client.mr.lkey, 8, i * 8, node.mr.rkey);
    }
    client.qp.doorbell();
    expect(client.take(client.sendCq, 1)).toMatchObject([{ wrId: 3, status: WcStatus.SUCCESS }]);
    expect(client.drain(client.sendCq)).toEqual([]);
  });

  on.test('compare-and-swap swaps on equality only and returns the old value', () => {
    const { client, node } = on.rig;
    node.words[2] = 0x1111111122222222n;
    const cas = (compareLo: number, compareHi: number) =>
      client.run((flags) =>
        client.qp.postCas(
          1,
          flags,
          8,
          client.mr.lkey,
          16,
          node.mr.rkey,
          compareLo,
          compareHi,
          0x44444444,
          0x99999999,
        ),
      );
    expect(cas(0x22222222, 0x11111112)).toMatchObject({ status: 0, opcode: WcOpcode.COMP_SWAP });
    expect([client.words[1], node.words[2]]).toEqual([0x1111111122222222n, 0x1111111122222222n]);
    expect(cas(0x22222222, 0x11111111).status).toBe(WcStatus.SUCCESS);
    expect([client.words[1], node.words[2]]).toEqual([0x1111111122222222n, 0x9999999944444444n]);
  });

  on.test('fetch-and-add carries into the high half and wraps', () => {
    const { client, node } = on.rig;
    node.words[0] = 0xffffffffn;
    const faa = (lo: number, hi: number) =>
      client.run((flags) => client.qp.postFaa(1, flags, 0, client.mr.lkey, 0, node.mr.rkey, lo, hi));
    expect(faa(1, 0)).toMatchObject({ status: 0, opcode: WcOpcode.FETCH_ADD });
    expect([client.words[0], node.words[0]]).toEqual([0xffffffffn, 0x100000000n]);
    expect(faa(0xffffffff, 0xffffffff).status).toBe(WcStatus.SUCCESS);
    expect([client.words[0], node.words[0]]).toEqual([0x100000000n, 0xffffffffn]);
  });

  on.test('an operation of no bytes touches nothing and needs no key', () => {
    const { client, node } = on.rig;
    node.qp.postRecv(1, 0, 0, 0);
    expect(client.status((flags) => client.qp.postRead(1, flags, 0, 0, 0, 0, 0))).toBe(WcStatus.SUCCESS);
    expect(client.status((flags) => client.qp.postWrite(1, flags, 0, 0, 0, 0, 0))).toBe(WcStatus.SUCCESS);
    expect(client.status((flags) => client.qp.postSend(1, flags, 0, 0, 0))).toBe(WcStatus.SUCCESS);
    expect(node.take(node.recvCq, 1)).toMatchObject([{ wrId: 1, status: WcStatus.SUCCESS, byteLen: 0 }]);
  });
}
