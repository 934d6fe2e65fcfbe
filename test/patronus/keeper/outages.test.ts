import type { Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import {
  type Keeper,
  memcachedKeeper,
  Patronus,
  type PatronusError,
  PatronusNode,
} from '../../../patronus/index.js';
import { random } from '../random.js';
import { freePort, LyingServer, Memcached } from './memcached.js';

const FAST = { expirySeconds: 2, timeoutMs: 200 };
const UNAVAILABLE = { code: 'ERR_PATRONUS_KEEPER_UNAVAILABLE' };

/** Every call, against a server that is of no use. */
async function allUnavailable(keeper: Keeper): Promise<void> {
  const calls = [
    keeper.joinAsNode(0, 'unix:/x'),
    keeper.members('client'),
    keeper.put('k', Uint8Array.of(1)),
    keeper.tryGet('k'),
    keeper.get('k'),
    keeper.finished('k'),
    keeper.shouldExit('k'),
  ];
  for (const outcome of await Promise.allSettled(calls)) {
    expect(outcome).toMatchObject({ status: 'rejected', reason: UNAVAILABLE });
    expect((outcome as PromiseRejectedResult).reason.message).toMatch(
      /^memcached at 127\.0\.0\.1:\d+ can't be used: ./,
    );
  }
}

async function eventually(condition: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 2400; i++) {
    if (await condition().catch(() => false)) return;
    await pause(25);
  }
  throw new Error('waited in vain');
}

describe('memcached', () => {
  test('that is not there: every call says so, and works once it is', async () => {
    await using memcached = await Memcached.start();
    await memcached.stop();
    await using keeper = memcachedKeeper(memcached.address, FAST);
    await allUnavailable(keeper);
    await memcached.restart();
    await keeper.joinAsClient();
  });

  test('that does not answer: the same, in bounded time', async () => {
    await using memcached = await Memcached.start();
    await using keeper = memcachedKeeper(memcached.address, FAST);
    await keeper.members('node');
    await memcached.pause();
    await allUnavailable(keeper);
    memcached.resume();
    await keeper.joinAsClient();
    expect(await keeper.members('client')).toEqual([keeper.member]);
  });

  test('that is slow for a moment: nobody notices', async () => {
    await using memcached = await Memcached.start();
    await using keeper = memcachedKeeper(memcached.address, { ...FAST, timeoutMs: 1000 });
    await keeper.put('k', Uint8Array.of(7));
    await memcached.pause();
    const value = keeper.tryGet('k');
    await pause(100);
    memcached.resume();
    expect(await value).toEqual(Uint8Array.of(7));
  });

  test('that restarts with nothing in it: members enter themselves again', async () => {
    await using memcached = await Memcached.start();
    await using node = memcachedKeeper(memcached.address, FAST);
    await using client = memcachedKeeper(memcached.address, FAST);
    const entered = await node.joinAsNode(5, 'unix:/five');
    await client.joinAsClient();
    await memcached.restart();
    await eventually(async () => (await client.members('node')).length === 1);
    expect(await client.members('node')).toEqual([entered]);
    await eventually(async () => (await node.members('client')).length === 1);
  });

  test('that restarts does not hold up a barrier, nor break it', async () => {
    await using memcached = await Memcached.start();
    const keepers = [1, 2, 3].map(() => memcachedKeeper(memcached.address, FAST));
    for (const keeper of keepers) await keeper.joinAsClient();
    const early = keepers.slice(0, 2).map((keeper) => keeper.clientBarrier('b', 3));
    await pause(200);
    await memcached.restart();
    await pause(1500);
    await Promise.all([...early, keepers[2]!.clientBarrier('b', 3)]);
    await Promise.all(keepers.map((keeper) => keeper.close()));
  });

  test('whose loss leaves running connections alone, and whose return brings new ones', async () => {
    await using memcached = await Memcached.start();
    await using nodeKeeper = memcachedKeeper(memcached.address, FAST);
    await using clientKeeper = memcachedKeeper(memcached.address, FAST);
    await expect(Patronus.connect({ keeper: clientKeeper })).rejects.toMatchObject({
      code: 'ERR_PATRONUS_CONNECT',
    });
    await using _node = await PatronusNode.start({ nodeId: 9, keeper: nodeKeeper });
    await using client = await Patronus.connect({ keeper: clientKeeper });
    expect(client.nodes.map(({ nodeId }) => nodeId)).toEqual([9]);
    const lease = await client.writeLease({ offset: 0, size: 8, termNs: 60e9 });
    await memcached.stop();
    for (let i = 0; i < 10; i++) {
      await lease.faa(0, 1n);
      await (await client.readLease({ offset: 0, size: 8, termNs: 1e9 })).relinquish();
    }
    await using other = memcachedKeeper(memcached.address, FAST);
    await expect(Patronus.connect({ keeper: other })).rejects.toMatchObject(UNAVAILABLE);
    await memcached.restart();
    await eventually(async () => (await other.members('node')).length === 1);
    await using late = await Patronus.connect({ keeper: other });
    const reader = await late.readLease({ nodeId: 9, offset: 0, size: 8, termNs: 1e9 });
    expect((await reader.read(0, 1))[0]).toBe(10);
  });

  test('a node that ends is no member any more; its id is free', async () => {
    await using memcached = await Memcached.start();
    await using keeper = memcachedKeeper(memcached.address, FAST);
    await using other = memcachedKeeper(memcached.address, FAST);
    const node = await PatronusNode.start({ nodeId: 1, keeper });
    const taken = PatronusNode.start({ nodeId: 1, keeper: other });
    await expect(taken).rejects.toMatchObject({ code: 'ERR_PATRONUS_NODE_ID_TAKEN' });
    await node.close();
    expect(await other.members('node')).toEqual([]);
    await using _second = await PatronusNode.start({ nodeId: 1, keeper: other });
  });

  test('a barrier whose keeper stays away ends with its time', async () => {
    await using memcached = await Memcached.start();
    await using keeper = memcachedKeeper(memcached.address, FAST);
    await keeper.joinAsClient();
    const barrier = keeper.clientBarrier('b', 2, { timeoutMs: 1500 }).catch((error: PatronusError) => error);
    await memcached.stop();
    expect(await barrier).toMatchObject({ code: 'ERR_PATRONUS_TIMEOUT', cause: UNAVAILABLE });
  });
});

/** An answer of memcached's binary protocol whose header says what it is told to. */
function answer(
  opaque: number,
  fields: { opcode?: number; status?: number; body?: Buffer; total?: number },
): Buffer {
  const { opcode = 0, status = 0, body = Buffer.alloc(0), total = body.length } = fields;
  const header = Buffer.alloc(24);
  header[0] = 0x81;
  header[1] = opcode;
  header.writeUInt16BE(status, 6);
  header.writeUInt32BE(total, 8);
  header.writeUInt32BE(opaque, 12);
  return Buffer.concat([header, body]);
}

const opaqueOf = (request: Buffer): number => (request.length >= 16 ? request.readUInt32BE(12) : 0);

describe('a server that is no memcached', () => {
  const next = random(5);
  const noise = (bytes: number) => Buffer.from(Array.from({ length: bytes }, () => Math.floor(next() * 256)));
  test.each<[string, (socket: Socket, request: Buffer) => void]>([
    ['says nothing', () => {}],
    ['hangs up', (socket) => socket.destroy()],
    ['speaks HTTP', (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['sends noise', (socket) => socket.write(noise(200))],
    ['answers what nobody asked', (socket) => socket.write(answer(0xffffff, {}))],
    [
      'announces gigabytes',
      (socket, request) => socket.write(answer(opaqueOf(request), { total: 2 ** 32 - 1 })),
    ],
    ['sends megabytes', (socket) => socket.write(answer(1, { total: 2 ** 31, body: Buffer.alloc(4e6) }))],
    ['asks for a password', (socket, request) => socket.write(answer(opaqueOf(request), { opcode: 0x20 }))],
    ['refuses the password', (socket, request) => socket.write(answer(opaqueOf(request), { status: 0x20 }))],
    [
      'has an unknown error',
      (socket, request) => socket.write(answer(opaqueOf(request), { status: 0x4444 })),
    ],
    ['sends half an answer', (socket, request) => socket.end(answer(opaqueOf(request), {}).subarray(0, 12))],
  ])('%s: every call fails in bounded time', async (_name, lie) => {
    await using server = await LyingServer.start(lie);
    await using keeper = memcachedKeeper(`127.0.0.1:${server.port}`, { ...FAST, timeoutMs: 50 });
    await allUnavailable(keeper);
  });

  test('that trickles bytes does not put the time-out off', async () => {
    const timers: NodeJS.Timeout[] = [];
    await using server = await LyingServer.start((socket) => {
      timers.push(setInterval(() => socket.write(Buffer.of(0x81)), 5));
    });
    await using keeper = memcachedKeeper(`127.0.0.1:${server.port}`, { ...FAST, timeoutMs: 50 });
    await expect(keeper.tryGet('k')).rejects.toMatchObject(UNAVAILABLE);
    for (const timer of timers) clearInterval(timer);
  });

  test('a port where nobody listens', async () => {
    await using keeper = memcachedKeeper(`127.0.0.1:${await freePort()}`, FAST);
    await expect(keeper.tryGet('k')).rejects.toMatchObject(UNAVAILABLE);
  });
});
