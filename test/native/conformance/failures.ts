import { expect } from 'vitest';
import { Access, QpState, WcStatus } from '../../../native/index.js';
import { ALL_ACCESS, MEMORY_BYTES } from '../rig.js';
import type { Ground } from './suite.js';

type Failure = [name: string, status: number, run: () => number];

export function failures(on: Ground): void {
  const far = 2 ** 53 - 8;
  const readOf =
    (remoteAddr: number, length = 8) =>
    () =>
      on.rig.client.read(0, remoteAddr, on.rig.node.mr.rkey, length);
  const localOf =
    (localAddr: number, length = 8) =>
    () =>
      on.rig.client.write(localAddr, 0, on.rig.node.mr.rkey, length);
  const region = (access: number) => on.rig.node.pd.regMr(on.rig.node.memory, 0, 4096, access).rkey;
  const atomics = (localAddr: number, remoteAddr: number, rkey: number, lkey = on.rig.client.mr.lkey) => [
    () =>
      on.rig.client.status((flags) =>
        on.rig.client.qp.postCas(1, flags, localAddr, lkey, remoteAddr, rkey, 0, 0, 1, 0),
      ),
    () =>
      on.rig.client.status((flags) =>
        on.rig.client.qp.postFaa(1, flags, localAddr, lkey, remoteAddr, rkey, 1, 0),
      ),
  ];
  const each = (runs: (() => number)[]) => {
    const statuses = new Set(
      runs.map((run) => {
        const status = run();
        on.rig.recover();
        return status;
      }),
    );
    expect(statuses.size).toBe(1);
    return [...statuses][0]!;
  };

  const cases: Failure[] = [
    ['key 0', WcStatus.REM_ACCESS_ERR, () => on.rig.client.read(0, 0, 0)],
    ['an unknown key', WcStatus.REM_ACCESS_ERR, () => on.rig.client.read(0, 0, 0xffffff00)],
    [
      'the right index with a wrong tag',
      WcStatus.REM_ACCESS_ERR,
      () => on.rig.client.read(0, 0, on.rig.node.mr.rkey ^ 1),
    ],
    ['a read that begins one byte early', WcStatus.REM_ACCESS_ERR, () => beside(4095, 8)],
    ['a read that ends one byte late', WcStatus.REM_ACCESS_ERR, () => beside(8185, 8)],
    ['a read that is longer than the region', WcStatus.REM_ACCESS_ERR, () => beside(4096, 4097)],
    ['a remote address near 2^53', WcStatus.REM_ACCESS_ERR, readOf(far)],
    ['a remote address of -8', WcStatus.REM_ACCESS_ERR, readOf(-8)],
    ['a remote address that is 2^32 too high', WcStatus.REM_ACCESS_ERR, readOf(2 ** 32)],
    ['a remote address far away with a great length', WcStatus.REM_ACCESS_ERR, readOf(far, MEMORY_BYTES)],
    ['a local address beyond the region', WcStatus.LOC_PROT_ERR, localOf(MEMORY_BYTES - 7)],
    ['a local address near 2^53', WcStatus.LOC_PROT_ERR, localOf(far)],
    ['a local address that is 2^32 too high', WcStatus.LOC_PROT_ERR, localOf(2 ** 32)],
    ['a length of 2^32 - 1', WcStatus.LOC_LEN_ERR, localOf(0, 2 ** 32 - 1)],
    ['a length of 2^31', WcStatus.LOC_PROT_ERR, localOf(0, 2 ** 31)],
    [
      'a local key of nothing',
      WcStatus.LOC_PROT_ERR,
      () => on.rig.client.status((f) => on.rig.client.qp.postWrite(1, f, 0, 0, 8, 0, on.rig.node.mr.rkey)),
    ],
    [
      'a local key of another protection domain',
      WcStatus.LOC_PROT_ERR,
      () => {
        const { client, node } = on.rig;
        const foreign = client.device.allocPd().regMr(client.memory, 0, 64, ALL_ACCESS).lkey;
        return client.status((f) => client.qp.postWrite(1, f, 0, foreign, 8, 0, node.mr.rkey));
      },
    ],
    [
      'a remote key of another protection domain',
      WcStatus.REM_ACCESS_ERR,
      () => {
        const { client, node } = on.rig;
        return client.read(0, 0, node.device.allocPd().regMr(node.memory, 0, 64, ALL_ACCESS).rkey);
      },
    ],
    [
      'a window as the local key of a write',
      WcStatus.LOC_PROT_ERR,
      () => {
        const { client, node } = on.rig;
        const rkey = client.pd.allocMw().keyBase + 1;
        expect(client.bind(rkey, 0, 64, Access.REMOTE_READ)).toBe(WcStatus.SUCCESS);
        return client.status((f) => client.qp.postWrite(1, f, 0, rkey, 8, 0, node.mr.rkey));
      },
    ],
    [
      'a window as the local key of a send',
      WcStatus.LOC_PROT_ERR,
      () => {
        const { client, node } = on.rig;
        const rkey = client.pd.allocMw().keyBase + 1;
        expect(client.bind(rkey, 0, 64, Access.REMOTE_READ)).toBe(WcStatus.SUCCESS);
        node.qp.postRecv(1, 0, node.mr.lkey, 64);
        return client.status((f) => client.qp.postSend(1, f, 0, rkey, 8));
      },
    ],
    [
      'a read into a region without LOCAL_WRITE',
      WcStatus.LOC_PROT_ERR,
      () => {
        const { client, node } = on.rig;
        const { lkey } = client.pd.regMr(client.memory, 0, 64, Access.REMOTE_READ);
        return client.status((f) => client.qp.postRead(1, f, 0, lkey, 8, 0, node.mr.rkey));
      },
    ],
    [
      'an atomic result into a region without LOCAL_WRITE',
      WcStatus.LOC_PROT_ERR,
      () =>
        each(atomics(0, 0, on.rig.node.mr.rkey, on.rig.client.pd.regMr(on.rig.client.memory, 0, 64, 0).lkey)),
    ],
    [
      'a read without REMOTE_READ',
      WcStatus.REM_ACCESS_ERR,
      () => on.rig.client.read(0, 0, region(ALL_ACCESS & ~Access.REMOTE_READ)),
    ],
    [
      'a write without REMOTE_WRITE',
      WcStatus.REM_ACCESS_ERR,
      () => on.rig.client.write(0, 0, region(ALL_ACCESS & ~Access.REMOTE_WRITE)),
    ],
    [
      'an atomic without REMOTE_ATOMIC',
      WcStatus.REM_ACCESS_ERR,
      () => each(atomics(0, 0, region(ALL_ACCESS & ~Access.REMOTE_ATOMIC))),
    ],
    [
      'an atomic at a misaligned address',
      WcStatus.REM_INV_REQ_ERR,
      () => each([1, 4, 7].flatMap((at) => atomics(0, at, on.rig.node.mr.rkey))),
    ],
    [
      'an atomic at an aligned address of misaligned memory',
      WcStatus.REM_INV_REQ_ERR,
      () => each(atomics(0, 8, on.rig.node.pd.regMr(on.rig.node.memory, 4, 64, ALL_ACCESS, 0).rkey)),
    ],
    [
      'an atomic that ends beyond the region',
      WcStatus.REM_ACCESS_ERR,
      () => each(atomics(0, MEMORY_BYTES, on.rig.node.mr.rkey)),
    ],
    [
      'a send that finds no receive buffer',
      WcStatus.RNR_RETRY_EXC_ERR,
      () => on.rig.client.status((f) => on.rig.client.qp.postSend(1, f, 0, on.rig.client.mr.lkey, 8)),
    ],
    [
      'a send longer than the receive buffer',
      WcStatus.REM_INV_REQ_ERR,
      () => {
        const { client, node } = on.rig;
        node.qp.postRecv(9, 0, node.mr.lkey, 7);
        const status = client.status((f) => client.qp.postSend(1, f, 0, client.mr.lkey, 8));
        expect(node.take(node.recvCq, 1)).toMatchObject([{ wrId: 9, status: WcStatus.LOC_LEN_ERR }]);
        return status;
      },
    ],
    [
      'a send into a receive buffer beyond its region',
      WcStatus.REM_OP_ERR,
      () => {
        const { client, node } = on.rig;
        node.qp.postRecv(9, MEMORY_BYTES - 4, node.mr.lkey, 8);
        const status = client.status((f) => client.qp.postSend(1, f, 0, client.mr.lkey, 8));
        expect(node.take(node.recvCq, 1)).toMatchObject([{ wrId: 9, status: WcStatus.LOC_PROT_ERR }]);
        return status;
      },
    ],
    [
      'a peer that is in ERR',
      WcStatus.RETRY_EXC_ERR,
      () => {
        on.rig.node.qp.modify(QpState.ERR);
        return on.rig.client.read(0, 0, on.rig.node.mr.rkey);
      },
    ],
    [
      'a peer that is closed',
      WcStatus.RETRY_EXC_ERR,
      () => {
        on.rig.node.qp.close();
        on.rig.node.qp = on.rig.node.newQp();
        return on.rig.client.read(0, 0, on.rig.node.mr.rkey);
      },
    ],
    ['the end of a key that is not bound', WcStatus.LOC_QP_OP_ERR, () => on.rig.client.invalidate(0xffff00)],
    ['LOCAL_INV of a region', WcStatus.LOC_QP_OP_ERR, () => on.rig.client.invalidate(on.rig.client.mr.rkey)],
  ];
  /** Access a region that lies within the memory, with memory on both sides of it. */
  function beside(remoteAddr: number, length: number): number {
    return on.rig.client.read(
      0,
      remoteAddr,
      on.rig.node.pd.regMr(on.rig.node.memory, 4096, 4096, ALL_ACCESS).rkey,
      length,
    );
  }

  for (const [title, status, run] of cases) {
    on.test(title, () => {
      const { client, node } = on.rig;
      node.bytes.fill(0xa5);
      client.bytes.fill(0x5a);
      expect(run()).toBe(status);
      expect(node.bytes.every((byte) => byte === 0xa5)).toBe(true);
      expect(client.bytes.every((byte) => byte === 0x5a)).toBe(true);
    });
  }

  on.test('regions may have any base address', () => {
    const { client, node } = on.rig;
    const iova = 2 ** 53 - 4096;
    const { rkey } = node.pd.regMr(node.memory, 0, 4095, ALL_ACCESS, iova);
    node.bytes[4094] = 77;
    expect(client.read(0, iova + 4094, rkey, 1)).toBe(WcStatus.SUCCESS);
    expect(client.bytes[0]).toBe(77);
    expect(client.read(0, iova + 4094, rkey, 2)).toBe(WcStatus.REM_ACCESS_ERR);
    on.rig.recover();
    expect(client.read(0, iova - 1, rkey, 1)).toBe(WcStatus.REM_ACCESS_ERR);
  });
}
