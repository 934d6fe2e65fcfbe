import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Access, WcOpcode, WcStatus } from '../../native/index.js';
import { ALL_ACCESS, MEMORY_BYTES, Rig } from './rig.js';

let rig: Rig;

beforeEach(() => {
  rig = new Rig();
});

afterEach(() => rig.close());

describe('success', () => {
  test('a write and a read move bytes of any length and alignment', () => {
    const { client, node } = rig;
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

  test('a completion says what it completes', () => {
    const { client, node } = rig;
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

  test('only signalled requests complete', () => {
    const { client, node } = rig;
    for (let i = 0; i < 4; i++) {
      client.qp.postWrite(i, i === 3 ? 2 : 0, 0, client.mr.lkey, 8, i * 8, node.mr.rkey);
    }
    client.qp.doorbell();
    expect(client.drain(client.sendCq).map((done) => done.wrId)).toEqual([3]);
  });

  test('compare-and-swap swaps on equality only and returns the old value', () => {
    const { client, node } = rig;
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

  test('fetch-and-add carries into the high half and wraps', () => {
    const { client, node } = rig;
    node.words[0] = 0xffffffffn;
    const faa = (lo: number, hi: number) =>
      client.run((flags) => client.qp.postFaa(1, flags, 0, client.mr.lkey, 0, node.mr.rkey, lo, hi));
    expect(faa(1, 0)).toMatchObject({ status: 0, opcode: WcOpcode.FETCH_ADD });
    expect([client.words[0], node.words[0]]).toEqual([0xffffffffn, 0x100000000n]);
    expect(faa(0xffffffff, 0xffffffff).status).toBe(WcStatus.SUCCESS);
    expect([client.words[0], node.words[0]]).toEqual([0x100000000n, 0xffffffffn]);
  });

  test('a send lands in the oldest receive buffer', () => {
    const { client, node } = rig;
    node.qp.postRecv(11, 100, node.mr.lkey, 50);
    node.qp.postRecv(12, 200, node.mr.lkey, 50);
    client.bytes.set([1, 2, 3], 7);
    expect(client.run((flags) => client.qp.postSend(5, flags, 7, client.mr.lkey, 3))).toMatchObject({
      status: 0,
      opcode: WcOpcode.SEND,
    });
    expect(node.drain(node.recvCq)).toEqual([
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

  test('an operation of no bytes touches nothing and needs no key', () => {
    const { client, node } = rig;
    node.qp.postRecv(1, 0, 0, 0);
    expect(client.status((flags) => client.qp.postRead(1, flags, 0, 0, 0, 0, 0))).toBe(WcStatus.SUCCESS);
    expect(client.status((flags) => client.qp.postWrite(1, flags, 0, 0, 0, 0, 0))).toBe(WcStatus.SUCCESS);
    expect(client.status((flags) => client.qp.postSend(1, flags, 0, 0, 0))).toBe(WcStatus.SUCCESS);
    expect(node.drain(node.recvCq)).toMatchObject([{ wrId: 1, status: WcStatus.SUCCESS, byteLen: 0 }]);
  });

  test('reads and writes within one memory may overlap', () => {
    const { client } = rig;
    const second = client.newQp();
    const listener = client.device.listen(client.channel);
    client.device.connect(listener.address, [second], client.channel);
    const own = client.newQp();
    listener.nextConnection()!.accept([own]);
    client.qp = second;
    for (let i = 0; i < 1000; i++) client.bytes[i] = i & 0xff;
    const expected = client.bytes.slice(0, 600);
    expect(client.write(0, 100, client.mr.rkey, 600)).toBe(WcStatus.SUCCESS);
    expect(client.bytes.slice(100, 700)).toEqual(expected);
  });
});

type Failure = [name: string, status: number, run: () => number];

describe('failures', () => {
  const far = 2 ** 53 - 8;
  const readOf =
    (remoteAddr: number, length = 8) =>
    () =>
      rig.client.read(0, remoteAddr, rig.node.mr.rkey, length);
  const localOf =
    (localAddr: number, length = 8) =>
    () =>
      rig.client.write(localAddr, 0, rig.node.mr.rkey, length);
  const region = (access: number) => rig.node.pd.regMr(rig.node.memory, 0, 4096, access).rkey;
  const atomics = (localAddr: number, remoteAddr: number, rkey: number, lkey = rig.client.mr.lkey) => [
    () =>
      rig.client.status((flags) =>
        rig.client.qp.postCas(1, flags, localAddr, lkey, remoteAddr, rkey, 0, 0, 1, 0),
      ),
    () =>
      rig.client.status((flags) => rig.client.qp.postFaa(1, flags, localAddr, lkey, remoteAddr, rkey, 1, 0)),
  ];
  const each = (runs: (() => number)[]) => {
    const statuses = new Set(
      runs.map((run) => {
        const status = run();
        rig.recover();
        return status;
      }),
    );
    expect(statuses.size).toBe(1);
    return [...statuses][0]!;
  };

  const failures: Failure[] = [
    ['key 0', WcStatus.REM_ACCESS_ERR, () => rig.client.read(0, 0, 0)],
    ['an unknown key', WcStatus.REM_ACCESS_ERR, () => rig.client.read(0, 0, 0xffffff00)],
    [
      'the right index with a wrong tag',
      WcStatus.REM_ACCESS_ERR,
      () => rig.client.read(0, 0, rig.node.mr.rkey ^ 1),
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
      () => rig.client.status((f) => rig.client.qp.postWrite(1, f, 0, 0, 8, 0, rig.node.mr.rkey)),
    ],
    [
      'a local key of another protection domain',
      WcStatus.LOC_PROT_ERR,
      () => {
        const { client, node } = rig;
        const foreign = client.device.allocPd().regMr(client.memory, 0, 64, ALL_ACCESS).lkey;
        return client.status((f) => client.qp.postWrite(1, f, 0, foreign, 8, 0, node.mr.rkey));
      },
    ],
    [
      'a remote key of another protection domain',
      WcStatus.REM_ACCESS_ERR,
      () => {
        const { client, node } = rig;
        return client.read(0, 0, node.device.allocPd().regMr(node.memory, 0, 64, ALL_ACCESS).rkey);
      },
    ],
    [
      'a window as the local key of a write',
      WcStatus.LOC_PROT_ERR,
      () => {
        const { client, node } = rig;
        const rkey = client.pd.allocMw().keyBase + 1;
        expect(client.bind(rkey, 0, 64, Access.REMOTE_READ)).toBe(WcStatus.SUCCESS);
        return client.status((f) => client.qp.postWrite(1, f, 0, rkey, 8, 0, node.mr.rkey));
      },
    ],
    [
      'a window as the local key of a send',
      WcStatus.LOC_PROT_ERR,
      () => {
        const { client, node } = rig;
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
        const { client, node } = rig;
        const { lkey } = client.pd.regMr(client.memory, 0, 64, Access.REMOTE_READ);
        return client.status((f) => client.qp.postRead(1, f, 0, lkey, 8, 0, node.mr.rkey));
      },
    ],
    [
      'an atomic result into a region without LOCAL_WRITE',
      WcStatus.LOC_PROT_ERR,
      () => each(atomics(0, 0, rig.node.mr.rkey, rig.client.pd.regMr(rig.client.memory, 0, 64, 0).lkey)),
    ],
    [
      'a read without REMOTE_READ',
      WcStatus.REM_ACCESS_ERR,
      () => rig.client.read(0, 0, region(ALL_ACCESS & ~Access.REMOTE_READ)),
    ],
    [
      'a write without REMOTE_WRITE',
      WcStatus.REM_ACCESS_ERR,
      () => rig.client.write(0, 0, region(ALL_ACCESS & ~Access.REMOTE_WRITE)),
    ],
    [
      'an atomic without REMOTE_ATOMIC',
      WcStatus.REM_ACCESS_ERR,
      () => each(atomics(0, 0, region(ALL_ACCESS & ~Access.REMOTE_ATOMIC))),
    ],
    [
      'an atomic at a misaligned address',
      WcStatus.REM_INV_REQ_ERR,
      () => each([1, 4, 7].flatMap((at) => atomics(0, at, rig.node.mr.rkey))),
    ],
    [
      'an atomic at an aligned address of misaligned memory',
      WcStatus.REM_INV_REQ_ERR,
      () => each(atomics(0, 8, rig.node.pd.regMr(rig.node.memory, 4, 64, ALL_ACCESS, 0).rkey)),
    ],
    [
      'an atomic that ends beyond the region',
      WcStatus.REM_ACCESS_ERR,
      () => each(atomics(0, MEMORY_BYTES, rig.node.mr.rkey)),
    ],
    [
      'a send that finds no receive buffer',
      WcStatus.RNR_RETRY_EXC_ERR,
      () => rig.client.status((f) => rig.client.qp.postSend(1, f, 0, rig.client.mr.lkey, 8)),
    ],
    [
      'a send longer than the receive buffer',
      WcStatus.REM_INV_REQ_ERR,
      () => {
        const { client, node } = rig;
        node.qp.postRecv(9, 0, node.mr.lkey, 7);
        const status = client.status((f) => client.qp.postSend(1, f, 0, client.mr.lkey, 8));
        expect(node.drain(node.recvCq)).toMatchObject([{ wrId: 9, status: WcStatus.LOC_LEN_ERR }]);
        return status;
      },
    ],
    [
      'a send into a receive buffer beyond its region',
      WcStatus.REM_OP_ERR,
      () => {
        const { client, node } = rig;
        node.qp.postRecv(9, MEMORY_BYTES - 4, node.mr.lkey, 8);
        const status = client.status((f) => client.qp.postSend(1, f, 0, client.mr.lkey, 8));
        expect(node.drain(node.recvCq)).toMatchObject([{ wrId: 9, status: WcStatus.LOC_PROT_ERR }]);
        return status;
      },
    ],
    [
      'a read that the pair does not admit',
      WcStatus.REM_INV_REQ_ERR,
      () => {
        rig.node.qp.modify(3, Access.REMOTE_WRITE | Access.REMOTE_ATOMIC);
        return rig.client.read(0, 0, rig.node.mr.rkey);
      },
    ],
    [
      'a write that the pair does not admit',
      WcStatus.REM_INV_REQ_ERR,
      () => {
        rig.node.qp.modify(3, Access.REMOTE_READ);
        return rig.client.write(0, 0, rig.node.mr.rkey);
      },
    ],
    [
      'a peer that is in ERR',
      WcStatus.RETRY_EXC_ERR,
      () => {
        rig.node.qp.modify(6);
        return rig.client.read(0, 0, rig.node.mr.rkey);
      },
    ],
    [
      'a peer that is closed',
      WcStatus.RETRY_EXC_ERR,
      () => {
        rig.node.qp.close();
        rig.node.qp = rig.node.newQp();
        return rig.client.read(0, 0, rig.node.mr.rkey);
      },
    ],
    ['the end of a key that is not bound', WcStatus.LOC_QP_OP_ERR, () => rig.client.invalidate(0xffff00)],
    ['LOCAL_INV of a region', WcStatus.LOC_QP_OP_ERR, () => rig.client.invalidate(rig.client.mr.rkey)],
  ];
  /** Access a region that lies within the memory, with memory on both sides of it. */
  function beside(remoteAddr: number, length: number): number {
    return rig.client.read(
      0,
      remoteAddr,
      rig.node.pd.regMr(rig.node.memory, 4096, 4096, ALL_ACCESS).rkey,
      length,
    );
  }

  test.each(failures)('%s', (_name, status, run) => {
    rig.node.bytes.fill(0xa5);
    rig.client.bytes.fill(0x5a);
    expect(run()).toBe(status);
    expect(rig.node.bytes.every((byte) => byte === 0xa5)).toBe(true);
    expect(rig.client.bytes.every((byte) => byte === 0x5a)).toBe(true);
  });

  test('regions may have any base address', () => {
    const { client, node } = rig;
    const iova = 2 ** 53 - 4096;
    const { rkey } = node.pd.regMr(node.memory, 0, 4095, ALL_ACCESS, iova);
    node.bytes[4094] = 77;
    expect(client.read(0, iova + 4094, rkey, 1)).toBe(WcStatus.SUCCESS);
    expect(client.bytes[0]).toBe(77);
    expect(client.read(0, iova + 4094, rkey, 2)).toBe(WcStatus.REM_ACCESS_ERR);
    rig.recover();
    expect(client.read(0, iova - 1, rkey, 1)).toBe(WcStatus.REM_ACCESS_ERR);
  });
});
