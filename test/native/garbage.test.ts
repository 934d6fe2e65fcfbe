import { expect, test } from 'vitest';
import { addon } from '../../native/addon.js';
import { CqeLayout, Opcode, QpState, RingLayout, SendFlag, WcStatus, WqeLayout } from '../../native/verbs.js';
import { ALL_ACCESS } from './rig.js';

const DEPTH = 16;
const ERR = QpState.ERR;
const ringing = new Uint32Array(addon.ringing, 0, 1);

function ring(place: number): void {
  ringing[0] = place;
  addon.doorbell();
}

/** Reproducible 32-bit numbers (xorshift). */
function random(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** A pair made through the addon's own entry points: its rings are in the test's hands. */
class RawPair {
  readonly device = addon.openDevice(false);
  readonly channel = addon.createChannel(this.device).handle;
  readonly pd = addon.allocPd(this.device);
  readonly memory = addon.allocMemory(this.device, 3 * 4096);
  readonly bytes = new Uint8Array(addon.memoryBuffer(this.memory));
  /** Only the middle page is registered. */
  readonly key = addon.regMr(this.pd, this.memory, 4096, 4096, ALL_ACCESS, 0);
  readonly cq = addon.createCq(this.device, 64, this.channel);
  readonly qp = addon.createQp(this.pd, this.cq.handle, this.cq.handle, DEPTH, DEPTH, undefined);
  readonly send = new DataView(this.qp.sendRing);
  readonly recv = new DataView(this.qp.recvRing!);
  readonly completions = new DataView(this.cq.ring);
  /** Send requests posted. */
  posted = 0;

  connectTo(other: RawPair): void {
    const listener = addon.listen(other.channel, undefined, 1);
    addon.connect(listener.address, [this.qp.handle], this.channel);
    addon.acceptConnection(addon.nextConnection(listener.handle)!.handle, [other.qp.handle]);
    addon.closeListener(listener.handle);
  }

  ring(): void {
    this.send.setUint32(RingLayout.USER_COUNTER, this.posted, true);
    ring(this.qp.place);
  }

  /** Write the next send request; `fill` gets the byte offset of its place. */
  post(fill: (at: number) => void): void {
    const at = RingLayout.HEADER_BYTES + (this.posted % DEPTH) * WqeLayout.BYTES;
    for (let i = 0; i < WqeLayout.BYTES; i++) this.send.setUint8(at + i, 0);
    fill(at);
    this.posted++;
  }

  /** Status and opcode of the `index`-th completion since the beginning. */
  completion(index: number): { status: number; opcode: number; flags: number; imm: number } | undefined {
    const at = RingLayout.HEADER_BYTES + index * CqeLayout.BYTES;
    if (this.completions.getUint32(at + CqeLayout.SEQUENCE, true) !== index + 1) return undefined;
    return {
      status: this.completions.getUint32(at + CqeLayout.STATUS, true),
      opcode: this.completions.getUint8(at + CqeLayout.OPCODE),
      flags: this.completions.getUint8(at + CqeLayout.FLAGS),
      imm: this.completions.getUint32(at + CqeLayout.IMM, true),
    };
  }

  restart(): void {
    for (const state of [0, 1, 2, 3]) addon.modifyQp(this.qp.handle, state, 14);
    this.posted = this.send.getUint32(RingLayout.NIC_COUNTER, true);
    // All completions are polled.
    this.completions.setUint32(RingLayout.USER_COUNTER, this.newest(), true);
  }

  /** The number of completions so far. */
  private newest(): number {
    let most = this.completions.getUint32(RingLayout.USER_COUNTER, true);
    for (let i = 0; i < this.slots; i++) {
      const at = RingLayout.HEADER_BYTES + i * CqeLayout.BYTES + CqeLayout.SEQUENCE;
      most = Math.max(most, this.completions.getUint32(at, true));
    }
    return most;
  }

  private get slots(): number {
    return Math.floor((this.cq.ring.byteLength - RingLayout.HEADER_BYTES) / CqeLayout.BYTES);
  }
}

function connected(): { client: RawPair; node: RawPair } {
  const client = new RawPair();
  const node = new RawPair();
  client.connectTo(node);
  return { client, node };
}

test('random bytes in the rings crash nothing and reach no memory but what is registered', () => {
  const next = random(0x5eed);
  const { client, node } = connected();
  for (const { bytes } of [client, node]) bytes.fill(0xa5);
  let executed = 0;
  for (let round = 0; round < 3000; round++) {
    for (const side of [client, node]) {
      for (let at = RingLayout.HEADER_BYTES; at + 4 <= side.recv.byteLength; at += 4) {
        side.recv.setUint32(at, next() & 3 ? next() : side.key, true);
      }
      side.recv.setUint32(RingLayout.USER_COUNTER, round & 1 ? next() : round + 8, true);
    }
    const count = 1 + (next() % DEPTH);
    const isTame = next() % 4 === 0;
    for (let i = 0; i < count; i++) {
      client.post((at) => {
        for (let word = 0; word < WqeLayout.BYTES; word += 4) client.send.setUint32(at + word, next(), true);
        if (next() & 1 && !isTame) return;
        // Something that may work, at addresses about the region's bounds or, when tame, within them.
        const opcode = isTame ? 4 * (next() & 1) : next() % 12;
        client.send.setUint8(at + WqeLayout.OPCODE, opcode);
        client.send.setUint8(at + WqeLayout.SEND_FLAGS, isTame ? 0 : next() & 0xf);
        client.send.setUint32(at + WqeLayout.LENGTH, next() & 1 ? 8 : next() % (isTame ? 100 : 5000), true);
        client.send.setUint32(at + WqeLayout.RKEY, node.key, true);
        client.send.setUint32(at + WqeLayout.LKEY, client.key, true);
        client.send.setBigUint64(at + WqeLayout.REMOTE_ADDR, BigInt(next() % (isTame ? 3996 : 4200)), true);
        client.send.setBigUint64(at + WqeLayout.LOCAL_ADDR, BigInt(next() % (isTame ? 3996 : 4200)), true);
      });
    }
    if (next() % 4 === 0) client.posted = next();
    client.ring();
    if (addon.qpState(client.qp.handle) !== ERR) executed++;
    node.restart();
    client.restart();
  }
  // Otherwise the test would have tried nothing.
  expect(executed).toBeGreaterThan(100);
  for (const { bytes } of [client, node]) {
    expect(bytes.subarray(0, 4096).every((byte) => byte === 0xa5)).toBe(true);
    expect(bytes.subarray(8192).every((byte) => byte === 0xa5)).toBe(true);
  }
  expect(node.bytes.subarray(4096, 8192).some((byte) => byte !== 0xa5)).toBe(true);
});

test('a wild counter of posted requests flushes a ring at most, and the pair is in ERR', () => {
  for (const counter of [DEPTH + 1, 0x7fffffff, 0x80000000, 0xffffffff]) {
    const { client } = connected();
    client.posted = counter;
    client.ring();
    expect(addon.qpState(client.qp.handle)).toBe(ERR);
    for (let i = 0; i < DEPTH; i++) expect(client.completion(i)?.status).toBe(WcStatus.WR_FLUSH_ERR);
    expect(client.completion(DEPTH)).toBeUndefined();
  }
});

test('a wild counter of polled completions overwrites none and writes nowhere else', () => {
  const { client, node } = connected();
  client.completions.setUint32(RingLayout.USER_COUNTER, 0x80000000, true);
  client.post((at) => {
    client.send.setUint8(at + WqeLayout.OPCODE, Opcode.RDMA_WRITE);
    client.send.setUint8(at + WqeLayout.SEND_FLAGS, SendFlag.SIGNALED);
  });
  client.ring();
  expect(addon.qpState(client.qp.handle)).toBe(ERR);
  expect(client.completion(0)).toBeUndefined();
  expect(addon.qpState(node.qp.handle)).toBe(3);
});

test('a place where no pair is rings nothing', () => {
  for (const place of [0xffffffff, 123456]) expect(() => ring(place)).not.toThrow();
});

/** The operations that the contract's post calls do not offer. */
const INLINE = SendFlag.SIGNALED | SendFlag.INLINE;

function run(pair: RawPair, opcode: number, flags: number, fill: (at: number) => void) {
  const index = pair.posted;
  pair.post((at) => {
    pair.send.setUint8(at + WqeLayout.OPCODE, opcode);
    pair.send.setUint8(at + WqeLayout.SEND_FLAGS, flags);
    fill(at);
  });
  pair.ring();
  return pair.completion(index)!;
}

function postReceive(pair: RawPair): void {
  const at = RingLayout.HEADER_BYTES;
  pair.recv.setUint32(at + 16, pair.key, true);
  pair.recv.setUint32(at + 20, 64, true);
  pair.recv.setUint32(RingLayout.USER_COUNTER, 1, true);
}

test('inline payload comes from the request', () => {
  const { client, node } = connected();
  const done = run(client, Opcode.RDMA_WRITE, INLINE, (at) => {
    client.send.setUint32(at + WqeLayout.LENGTH, WqeLayout.INLINE_BYTES, true);
    client.send.setUint32(at + WqeLayout.RKEY, node.key, true);
    for (let i = 0; i < WqeLayout.INLINE_BYTES; i++)
      client.send.setUint8(at + WqeLayout.LOCAL_ADDR + i, i + 1);
  });
  expect(done.status).toBe(WcStatus.SUCCESS);
  expect([...node.bytes.subarray(4095, 4096 + 25)]).toEqual([
    0,
    ...Array.from({ length: WqeLayout.INLINE_BYTES }, (_, i) => i + 1),
    0,
  ]);
});

test.each([
  ['more inline payload than fits', Opcode.RDMA_WRITE, WqeLayout.INLINE_BYTES + 1],
  ['an inline read', Opcode.RDMA_READ, 8],
  ['an inline atomic', Opcode.FETCH_AND_ADD, 8],
])('%s is refused', (_name, opcode, length) => {
  const { client, node } = connected();
  const done = run(client, opcode, INLINE, (at) => {
    client.send.setUint32(at + WqeLayout.LENGTH, length, true);
    client.send.setUint32(at + WqeLayout.RKEY, node.key, true);
    client.send.setUint32(at + WqeLayout.LKEY, client.key, true);
  });
  expect(done.status).toBe(WcStatus.LOC_QP_OP_ERR);
});

test('an atomic of another length than 8 is refused', () => {
  const { client, node } = connected();
  const done = run(client, Opcode.FETCH_AND_ADD, SendFlag.SIGNALED, (at) => {
    client.send.setUint32(at + WqeLayout.LENGTH, 4, true);
    client.send.setUint32(at + WqeLayout.RKEY, node.key, true);
    client.send.setUint32(at + WqeLayout.LKEY, client.key, true);
  });
  expect(done.status).toBe(WcStatus.LOC_LEN_ERR);
});

test.each([
  ['SEND_WITH_IMM', Opcode.SEND_WITH_IMM, 128],
  ['RDMA_WRITE_WITH_IMM', Opcode.RDMA_WRITE_WITH_IMM, 129],
])('%s takes a receive and gives the number', (_name, opcode, receiveOpcode) => {
  const { client, node } = connected();
  postReceive(node);
  expect(
    run(client, opcode, SendFlag.SIGNALED, (at) =>
      client.send.setUint32(at + WqeLayout.IMM, 0xfeedbeef, true),
    ).status,
  ).toBe(WcStatus.SUCCESS);
  expect(node.completion(0)).toEqual({ status: 0, opcode: receiveOpcode, flags: 2, imm: 0xfeedbeef });
});

test('RDMA_WRITE_WITH_IMM without a receive fails', () => {
  const { client } = connected();
  expect(run(client, Opcode.RDMA_WRITE_WITH_IMM, SendFlag.SIGNALED, () => {}).status).toBe(
    WcStatus.RNR_RETRY_EXC_ERR,
  );
});

test('SEND_WITH_INV ends a window of the receiver, and only that', () => {
  const { client, node } = connected();
  const rkey = addon.allocMw(node.pd) + 1;
  run(node, Opcode.BIND_MW, SendFlag.SIGNALED, (at) => {
    node.send.setUint16(at + WqeLayout.BIND_ACCESS, 2, true);
    node.send.setUint32(at + WqeLayout.RKEY, rkey, true);
    node.send.setUint32(at + WqeLayout.LKEY, node.key, true);
    node.send.setBigUint64(at + WqeLayout.COMPARE_ADD, 64n, true);
  });
  const write = () =>
    run(client, Opcode.RDMA_WRITE, INLINE, (at) => {
      client.send.setUint32(at + WqeLayout.LENGTH, 8, true);
      client.send.setUint32(at + WqeLayout.RKEY, rkey, true);
    }).status;
  expect(write()).toBe(WcStatus.SUCCESS);
  postReceive(node);
  const invalidate = run(client, Opcode.SEND_WITH_INV, SendFlag.SIGNALED, (at) =>
    client.send.setUint32(at + WqeLayout.IMM, rkey, true),
  );
  expect(invalidate.status).toBe(WcStatus.SUCCESS);
  expect(node.completion(1)).toEqual({ status: 0, opcode: 128, flags: 8, imm: rkey });
  expect(write()).toBe(WcStatus.REM_ACCESS_ERR);
});

test('SEND_WITH_INV of a key that is not bound fails on both sides', () => {
  const { client, node } = connected();
  postReceive(node);
  expect(
    run(client, Opcode.SEND_WITH_INV, SendFlag.SIGNALED, (at) =>
      client.send.setUint32(at + WqeLayout.IMM, node.key, true),
    ).status,
  ).toBe(WcStatus.REM_ACCESS_ERR);
  expect(node.completion(0)?.status).toBe(WcStatus.LOC_QP_OP_ERR);
  expect(addon.qpState(node.qp.handle)).toBe(ERR);
});
