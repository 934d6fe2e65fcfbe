import { expect } from 'vitest';
import { Access, QpState, SendFlag, WcStatus } from '../../../native/index.js';
import { failureOf } from '../rig.js';
import type { Ground } from './suite.js';

const { RESET, INIT, RTR, RTS, ERR } = QpState;
const STATES = [RESET, INIT, RTR, RTS, ERR] as const;
const READ_ONLY = Access.REMOTE_READ;
const ALL_REMOTE = Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC;

export function states(on: Ground): void {
  const ways: Record<number, QpState[]> = {
    [RESET]: [RESET],
    [INIT]: [RESET, INIT],
    [RTR]: [RESET, INIT, RTR],
    [RTS]: [RESET, INIT, RTR, RTS],
    [ERR]: [RESET, INIT, ERR],
  };
  const legal = new Set(['0-1', '1-2', '2-3', '3-3']);

  for (const from of STATES) {
    for (const to of STATES) {
      const isLegal = to === RESET || to === ERR || legal.has(`${from}-${to}`);
      on.test(`${from} to ${to} is ${isLegal ? 'legal' : 'refused'}`, () => {
        const { qp } = on.rig.client;
        for (const state of ways[from]!) qp.modify(state);
        expect(qp.state).toBe(from);
        expect(failureOf(() => qp.modify(to))).toBe(isLegal ? undefined : 'TypeError');
        expect(qp.state).toBe(isLegal ? to : from);
      });
    }
  }

  on.test('a pair that was never connected cannot get to RTR', () => {
    const qp = on.rig.client.newQp();
    qp.modify(INIT);
    expect(failureOf(() => qp.modify(RTR))).toBe('TypeError');
    expect([qp.state, qp.remoteQpNum]).toEqual([INIT, 0]);
  });

  on.test('a state that does not exist is refused', () => {
    for (const state of [4, 5, 7, -1, 1.5, Number.NaN]) {
      expect(failureOf(() => on.rig.client.qp.modify(state as QpState))).toMatch(/^(Type|Range)Error$/);
    }
    expect(on.rig.client.qp.state).toBe(RTS);
  });

  on.test('connected pairs name each other', () => {
    const { client, node } = on.rig;
    expect([client.qp.remoteQpNum, node.qp.remoteQpNum]).toEqual([node.qp.qpNum, client.qp.qpNum]);
    expect([client.qp.state, node.qp.state]).toEqual([RTS, RTS]);
  });

  on.test('a failed request flushes all that follows and all receives; both pairs are in ERR', () => {
    const { client, node } = on.rig;
    client.qp.postRecv(50, 0, client.mr.lkey, 8);
    node.qp.postRecv(60, 0, node.mr.lkey, 8);
    node.qp.postRecv(61, 0, node.mr.lkey, 8);
    client.qp.postWrite(1, 0, 0, client.mr.lkey, 8, 0, node.mr.rkey);
    client.qp.postWrite(2, 0, 0, client.mr.lkey, 8, 0, 0);
    client.qp.postWrite(3, 0, 0, client.mr.lkey, 8, 64, node.mr.rkey);
    client.qp.postWrite(4, SendFlag.SIGNALED, 0, client.mr.lkey, 8, 64, node.mr.rkey);
    client.bytes.fill(1, 0, 8);
    client.qp.doorbell();
    expect(client.take(client.sendCq, 3).map((done) => [done.wrId, done.status])).toEqual([
      [2, WcStatus.REM_ACCESS_ERR],
      [3, WcStatus.WR_FLUSH_ERR],
      [4, WcStatus.WR_FLUSH_ERR],
    ]);
    expect([client.qp.state, node.qp.state]).toEqual([ERR, ERR]);
    expect(client.take(client.recvCq, 1)).toMatchObject([{ wrId: 50, status: WcStatus.WR_FLUSH_ERR }]);
    expect(node.take(node.recvCq, 2)).toMatchObject([
      { wrId: 60, status: WcStatus.WR_FLUSH_ERR },
      { wrId: 61, status: WcStatus.WR_FLUSH_ERR },
    ]);
    expect([node.words[0], node.words[8]]).toEqual([0x0101010101010101n, 0n]);
  });

  on.test('what is posted to a pair in ERR is flushed, signalled or not', () => {
    const { client, node } = on.rig;
    client.qp.modify(ERR);
    for (let round = 0; round < 50; round++) {
      expect(client.qp.postRead(2 * round, 0, 0, client.mr.lkey, 8, 0, node.mr.rkey)).toBe(true);
      client.qp.doorbell();
      expect(client.take(client.sendCq, 1)).toMatchObject([
        { wrId: 2 * round, status: WcStatus.WR_FLUSH_ERR },
      ]);
      expect(client.qp.postRecv(2 * round + 1, 0, client.mr.lkey, 8)).toBe(true);
      expect(client.take(client.recvCq, 1)).toMatchObject([
        { wrId: 2 * round + 1, status: WcStatus.WR_FLUSH_ERR },
      ]);
    }
  });

  on.test("a failure on the pair's own side leaves the peer in RTS", () => {
    const { client, node } = on.rig;
    expect(client.write(-1, 0, node.mr.rkey)).toBe(WcStatus.LOC_PROT_ERR);
    expect([client.qp.state, node.qp.state]).toEqual([ERR, RTS]);
  });

  on.test('a failure is over when both pairs were reset', () => {
    const { client, node } = on.rig;
    for (let round = 0; round < 20; round++) {
      expect(client.read(0, 0, 0)).toBe(WcStatus.REM_ACCESS_ERR);
      on.rig.recover();
      node.words[0] = BigInt(round);
      expect(client.read(8, 0, node.mr.rkey)).toBe(WcStatus.SUCCESS);
      expect(client.words[1]).toBe(BigInt(round));
      client.qp.postRecv(1, 16, client.mr.lkey, 8);
      expect(node.status((f) => node.qp.postSend(1, f, 0, node.mr.lkey, 8))).toBe(WcStatus.SUCCESS);
      expect(client.take(client.recvCq, 1)).toMatchObject([{ wrId: 1, status: WcStatus.SUCCESS }]);
    }
  });

  on.test('the peer of a pair that was reset finds nobody until it is in RTR again', () => {
    const { client, node } = on.rig;
    for (const state of [RESET, INIT]) {
      node.qp.modify(state);
      expect(client.read(0, 0, node.mr.rkey)).toBe(WcStatus.RETRY_EXC_ERR);
      client.restart();
      expect(node.qp.state).toBe(state);
    }
    node.qp.modify(RTR);
    expect(client.read(0, 0, node.mr.rkey)).toBe(WcStatus.SUCCESS);
  });

  on.test('a reset drops what was posted, rung or not', () => {
    const { client, node } = on.rig;
    client.bytes.fill(9, 0, 8);
    client.qp.postWrite(1, SendFlag.SIGNALED, 0, client.mr.lkey, 8, 0, node.mr.rkey);
    client.qp.postRecv(2, 0, client.mr.lkey, 8);
    on.rig.recover();
    client.qp.doorbell();
    expect(client.read(8, 0, node.mr.rkey)).toBe(WcStatus.SUCCESS);
    expect(client.drain(client.sendCq)).toEqual([]);
    expect(client.drain(client.recvCq)).toEqual([]);
    expect(node.words[0]).toBe(0n);
    for (let i = 0; i < 16; i++) expect(client.qp.postRecv(i, 0, client.mr.lkey, 8)).toBe(true);
  });

  on.test('a pair that has not reached RTS sends nothing', () => {
    const { client, node } = on.rig;
    for (const state of [RESET, INIT, RTR]) {
      client.qp.modify(state);
      expect(client.write(0, 0, node.mr.rkey)).toBe(WcStatus.WR_FLUSH_ERR);
    }
  });

  on.test('a running pair can be made read-only and back', () => {
    const { client, node } = on.rig;
    client.words[0] = 5n;
    for (let round = 0; round < 10; round++) {
      node.qp.modify(RTS, READ_ONLY);
      expect(client.read(8, 0, node.mr.rkey)).toBe(WcStatus.SUCCESS);
      node.qp.modify(RTS, ALL_REMOTE);
      expect(client.write(0, 0, node.mr.rkey)).toBe(WcStatus.SUCCESS);
      expect([client.qp.state, node.qp.state]).toEqual([RTS, RTS]);
    }
    expect(node.words[0]).toBe(5n);
  });

  const refusals: [string, number, () => number][] = [
    ['a read', ALL_REMOTE & ~Access.REMOTE_READ, () => on.rig.client.read(0, 0, on.rig.node.mr.rkey)],
    ['a write', READ_ONLY, () => on.rig.client.write(0, 0, on.rig.node.mr.rkey)],
    [
      'an atomic',
      READ_ONLY | Access.REMOTE_WRITE,
      () => {
        const { client, node } = on.rig;
        return client.status((f) => client.qp.postFaa(1, f, 0, client.mr.lkey, 0, node.mr.rkey, 1, 0));
      },
    ],
  ];
  for (const [name, access, run] of refusals) {
    on.test(`${name} that the peer does not admit breaks both pairs, whatever the key grants`, () => {
      const { client, node } = on.rig;
      client.words[0] = 1n;
      node.qp.modify(RTS, access);
      expect(run()).toBe(WcStatus.REM_INV_REQ_ERR);
      expect([client.qp.state, node.qp.state]).toEqual([ERR, ERR]);
      expect(node.words[0]).toBe(0n);
      on.rig.recover();
      // A reset takes the restriction away.
      expect(run()).toBe(WcStatus.SUCCESS);
    });
  }

  on.test('a pair that admits nothing still takes messages', () => {
    const { client, node } = on.rig;
    node.qp.modify(RTS, 0);
    node.qp.postRecv(1, 0, node.mr.lkey, 8);
    expect(client.status((f) => client.qp.postSend(1, f, 0, client.mr.lkey, 8))).toBe(WcStatus.SUCCESS);
    expect(node.take(node.recvCq, 1)).toMatchObject([{ status: WcStatus.SUCCESS }]);
  });
}
