import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { QpState, SendFlag, WcStatus } from '../../native/index.js';
import { failureOf, Rig } from './rig.js';

let rig: Rig;

beforeEach(() => {
  rig = new Rig();
});

afterEach(() => rig.close());

const { RESET, INIT, RTR, RTS, ERR } = QpState;
const STATES = [RESET, INIT, RTR, RTS, ERR] as const;

describe('states', () => {
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
      test(`${from} to ${to} is ${isLegal ? 'legal' : 'refused'}`, () => {
        const { qp } = rig.client;
        for (const state of ways[from]!) qp.modify(state);
        expect(qp.state).toBe(from);
        expect(failureOf(() => qp.modify(to))).toBe(isLegal ? undefined : 'TypeError');
        expect(qp.state).toBe(isLegal ? to : from);
      });
    }
  }

  test('a pair that was never connected cannot get to RTR', () => {
    const qp = rig.client.newQp();
    qp.modify(INIT);
    expect(failureOf(() => qp.modify(RTR))).toBe('TypeError');
    expect([qp.state, qp.remoteQpNum]).toEqual([INIT, 0]);
  });

  test('a state that does not exist is refused', () => {
    for (const state of [4, 5, 7, -1, 1.5, Number.NaN]) {
      expect(failureOf(() => rig.client.qp.modify(state as QpState))).toMatch(/^(Type|Range)Error$/);
    }
    expect(rig.client.qp.state).toBe(RTS);
  });

  test('connected pairs name each other', () => {
    const { client, node } = rig;
    expect([client.qp.remoteQpNum, node.qp.remoteQpNum]).toEqual([node.qp.qpNum, client.qp.qpNum]);
    expect([client.qp.state, node.qp.state]).toEqual([RTS, RTS]);
  });
});

describe('a failed request', () => {
  test("flushes what follows, unsignalled too, and both sides' receives, and both pairs are in ERR", () => {
    const { client, node } = rig;
    client.qp.postRecv(50, 0, client.mr.lkey, 8);
    node.qp.postRecv(60, 0, node.mr.lkey, 8);
    node.qp.postRecv(61, 0, node.mr.lkey, 8);
    client.qp.postWrite(1, 0, 0, client.mr.lkey, 8, 0, node.mr.rkey);
    client.qp.postWrite(2, 0, 0, client.mr.lkey, 8, 0, 0);
    client.qp.postWrite(3, 0, 0, client.mr.lkey, 8, 0, node.mr.rkey);
    client.qp.postWrite(4, SendFlag.SIGNALED, 0, client.mr.lkey, 8, 0, node.mr.rkey);
    client.bytes.fill(1, 0, 8);
    client.qp.doorbell();
    expect(client.drain(client.sendCq).map((done) => [done.wrId, done.status])).toEqual([
      [2, WcStatus.REM_ACCESS_ERR],
      [3, WcStatus.WR_FLUSH_ERR],
      [4, WcStatus.WR_FLUSH_ERR],
    ]);
    expect([client.qp.state, node.qp.state]).toEqual([ERR, ERR]);
    expect(client.drain(client.recvCq)).toMatchObject([{ wrId: 50, status: WcStatus.WR_FLUSH_ERR }]);
    expect(node.drain(node.recvCq)).toMatchObject([
      { wrId: 60, status: WcStatus.WR_FLUSH_ERR },
      { wrId: 61, status: WcStatus.WR_FLUSH_ERR },
    ]);
    client.qp.postRead(5, 0, 0, client.mr.lkey, 8, 0, node.mr.rkey);
    client.qp.doorbell();
    expect(client.drain(client.sendCq)).toMatchObject([{ wrId: 5, status: WcStatus.WR_FLUSH_ERR }]);
  });

  test('on the own side leaves the peer in RTS', () => {
    const { client, node } = rig;
    expect(client.write(-1, 0, node.mr.rkey)).toBe(WcStatus.LOC_PROT_ERR);
    expect([client.qp.state, node.qp.state]).toEqual([ERR, RTS]);
  });

  test('is over when both pairs were reset', () => {
    const { client, node } = rig;
    for (let round = 0; round < 20; round++) {
      expect(client.read(0, 0, 0)).toBe(WcStatus.REM_ACCESS_ERR);
      rig.recover();
      node.words[0] = BigInt(round);
      expect(client.read(8, 0, node.mr.rkey)).toBe(WcStatus.SUCCESS);
      expect(client.words[1]).toBe(BigInt(round));
      client.qp.postRecv(1, 16, client.mr.lkey, 8);
      expect(node.status((f) => node.qp.postSend(1, f, 0, node.mr.lkey, 8))).toBe(WcStatus.SUCCESS);
      expect(client.drain(client.recvCq)).toMatchObject([{ wrId: 1, status: WcStatus.SUCCESS }]);
    }
  });
});

test('a reset drops what was posted, rung or not', () => {
  const { client, node } = rig;
  client.bytes.fill(9, 0, 8);
  client.qp.postWrite(1, SendFlag.SIGNALED, 0, client.mr.lkey, 8, 0, node.mr.rkey);
  client.qp.postRecv(2, 0, client.mr.lkey, 8);
  rig.recover();
  client.qp.doorbell();
  expect(client.drain(client.sendCq)).toEqual([]);
  expect(client.drain(client.recvCq)).toEqual([]);
  expect(node.words[0]).toBe(0n);
  for (let i = 0; i < 16; i++) expect(client.qp.postRecv(i, 0, client.mr.lkey, 8)).toBe(true);
});

test('a pair that has not reached RTS sends nothing', () => {
  const { client, node } = rig;
  for (const state of [RESET, INIT, RTR]) {
    client.qp.modify(state);
    expect(client.write(0, 0, node.mr.rkey)).toBe(WcStatus.WR_FLUSH_ERR);
  }
});

test('full queues refuse and take again when there is room', () => {
  const { client, node } = rig;
  const post = () => client.qp.postWrite(1, 0, 0, client.mr.lkey, 8, 0, node.mr.rkey);
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 16; i++) expect(post()).toBe(true);
    expect(post()).toBe(false);
    client.qp.doorbell();
  }
  expect(client.drain(client.sendCq)).toEqual([]);
  const recv = () => node.qp.postRecv(1, 0, node.mr.lkey, 8);
  for (let i = 0; i < 16; i++) expect(recv()).toBe(true);
  expect(recv()).toBe(false);
  expect(client.status((f) => client.qp.postSend(1, f, 0, client.mr.lkey, 8))).toBe(WcStatus.SUCCESS);
  expect([recv(), recv()]).toEqual([true, false]);
});

describe('a completion queue that overflows', () => {
  test('keeps at least its depth of them in order, takes no more, and the pair is in ERR', () => {
    rig.close();
    rig = new Rig(4);
    const { client, node } = rig;
    for (let i = 0; i < 16; i++) {
      client.qp.postWrite(i, SendFlag.SIGNALED, 0, client.mr.lkey, 8, 0, node.mr.rkey);
    }
    client.qp.doorbell();
    expect(client.qp.state).toBe(ERR);
    const kept = client.drain(client.sendCq);
    expect(kept.length).toBeGreaterThanOrEqual(4);
    expect(kept.length).toBeLessThanOrEqual(8);
    kept.forEach((done, i) => {
      expect(done).toMatchObject({ wrId: i, status: WcStatus.SUCCESS });
    });
    rig.recover();
    client.qp.postWrite(11, SendFlag.SIGNALED, 0, client.mr.lkey, 8, 0, node.mr.rkey);
    client.qp.doorbell();
    expect(client.drain(client.sendCq)).toEqual([]);
    expect(client.qp.state).toBe(ERR);
  });

  test('does not happen to one that is polled in time', () => {
    rig.close();
    rig = new Rig(4);
    for (let i = 0; i < 100; i++) expect(rig.client.write(0, 0, rig.node.mr.rkey)).toBe(WcStatus.SUCCESS);
  });
});
