import { setTimeout as pause } from 'node:timers/promises';
import memjs from 'memjs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { inProcessKeeper, type Keeper, memcachedKeeper } from '../../../patronus/index.js';
import { Memcached } from './memcached.js';

const FAST = { expirySeconds: 2, timeoutMs: 500 };

let memcached: Memcached;
let clusters = 0;

beforeAll(async () => {
  memcached = await Memcached.start();
});

afterAll(() => memcached.stop());

/** Keepers of one cluster, of one of the two kinds. */
class Cluster implements AsyncDisposable {
  readonly name = `test-${process.pid}-${clusters++}`;
  private readonly kind: string;
  private readonly keepers: Keeper[] = [];

  constructor(kind: string) {
    this.kind = kind;
  }

  keeper(): Keeper {
    const options = { ...FAST, cluster: this.name };
    const keeper =
      this.kind === 'memcached' ? memcachedKeeper(memcached.address, options) : inProcessKeeper(options);
    this.keepers.push(keeper);
    return keeper;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.keepers.map((keeper) => keeper.close()));
  }
}

describe.each(['in-process', 'memcached'])('%s', (kind) => {
  test('members find each other, and are gone when they leave', async () => {
    await using cluster = new Cluster(kind);
    const [a, b, c] = [cluster.keeper(), cluster.keeper(), cluster.keeper()];
    expect(await a.members('node')).toEqual([]);
    await a.joinAsNode(7, 'unix:/somewhere/a');
    await b.joinAsNode(255, 'unix:/somewhere/b');
    expect(await c.joinAsClient()).toMatchObject({ kind: 'client', number: 0, address: undefined });
    const nodes = await c.members('node');
    expect(nodes).toEqual([a.member, b.member]);
    expect(nodes[0]).toMatchObject({
      kind: 'node',
      number: 7,
      address: 'unix:/somewhere/a',
      pid: process.pid,
    });
    expect(await a.members('client')).toEqual([c.member]);
    await b.close();
    expect(await c.members('node')).toEqual([a.member]);
    await a.leave();
    expect(a.member).toBeUndefined();
    await a.joinAsNode(8, 'unix:/elsewhere');
    expect(await c.members('node')).toEqual([a.member]);
  });

  test('an id is taken once, by who is alive', async () => {
    await using cluster = new Cluster(kind);
    const [a, b] = [cluster.keeper(), cluster.keeper()];
    await a.joinAsNode(1, 'unix:/a');
    await expect(b.joinAsNode(1, 'unix:/b')).rejects.toMatchObject({ code: 'ERR_PATRONUS_NODE_ID_TAKEN' });
    await expect(a.joinAsClient()).rejects.toThrow(TypeError);
    await a.close();
    await b.joinAsNode(1, 'unix:/b');
  });

  test('clients that join at once get different numbers', async () => {
    await using cluster = new Cluster(kind);
    const members = await Promise.all(Array.from({ length: 10 }, () => cluster.keeper().joinAsClient()));
    expect(members.map(({ number }) => number).sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test('an entry outlives its expiry as long as its member lives', async () => {
    await using cluster = new Cluster(kind);
    const [a, b] = [cluster.keeper(), cluster.keeper()];
    await a.joinAsNode(0, 'unix:/a');
    for (let i = 0; i < 8; i++) {
      await pause(400);
      expect(await b.members('node')).toEqual([a.member]);
    }
  });

  test('values: put, tryGet, get that waits', async () => {
    await using cluster = new Cluster(kind);
    const [a, b] = [cluster.keeper(), cluster.keeper()];
    expect(await a.tryGet('Schlüssel mit Leerzeichen\n')).toBeUndefined();
    const waiting = b.get('Schlüssel mit Leerzeichen\n');
    const value = Uint8Array.from({ length: 100_000 }, (_, i) => i);
    await a.put('Schlüssel mit Leerzeichen\n', value);
    expect(await waiting).toEqual(value);
    await a.put('k', new Uint8Array());
    expect(await b.tryGet('k')).toEqual(new Uint8Array());
    await expect(b.get('other', 50)).rejects.toMatchObject({ code: 'ERR_PATRONUS_TIMEOUT' });
    await a.put('k'.repeat(100), value);
    for (const key of ['', 'k'.repeat(101), 'é'.repeat(51)])
      await expect(a.put(key, value)).rejects.toThrow(RangeError);
    await expect(a.put('k', new Uint8Array(512 * 1024 + 1))).rejects.toThrow(RangeError);
    await a.put('k', new Uint8Array(512 * 1024));
    expect((await b.get('k')).length).toBe(512 * 1024);
  });

  test('finished is seen by all', async () => {
    await using cluster = new Cluster(kind);
    const [a, b] = [cluster.keeper(), cluster.keeper()];
    expect(await b.shouldExit('run')).toBe(false);
    await a.finished('run');
    expect(await b.shouldExit('run')).toBe(true);
    expect(await b.shouldExit('other')).toBe(false);
  });

  test('clusters of different names do not see each other', async () => {
    await using one = new Cluster(kind);
    await using two = new Cluster(kind);
    const [a, b] = [one.keeper(), two.keeper()];
    await a.joinAsNode(0, 'unix:/a');
    await a.put('k', Uint8Array.of(1));
    expect(await b.members('node')).toEqual([]);
    expect(await b.tryGet('k')).toBeUndefined();
  });

  describe('barriers', () => {
    test('open when all have come, for each group', async () => {
      await using cluster = new Cluster(kind);
      const nodes = [cluster.keeper(), cluster.keeper()];
      const clients = [cluster.keeper(), cluster.keeper(), cluster.keeper()];
      await Promise.all(nodes.map((keeper, i) => keeper.joinAsNode(i, 'unix:/x')));
      await Promise.all(clients.map((keeper) => keeper.joinAsClient()));
      let come = 0;
      const late = async (keeper: Keeper, barrier: 'keeperBarrier' | 'clientBarrier', ms: number) => {
        await pause(ms);
        come++;
        await keeper[barrier]('start', barrier === 'clientBarrier' ? 3 : 5);
        return come;
      };
      const ms = (i: number) => i * 30;
      expect(await Promise.all(clients.map((k, i) => late(k, 'clientBarrier', ms(i))))).toEqual([3, 3, 3]);
      await Promise.all(nodes.map((keeper) => keeper.serverBarrier('start', 2)));
      come = 0;
      const all = await Promise.all([...nodes, ...clients].map((k, i) => late(k, 'keeperBarrier', ms(i))));
      expect(all).toEqual([5, 5, 5, 5, 5]);
      // Coming again to one that is open.
      await nodes[0]!.serverBarrier('start', 2);
    });

    test('time out, and can be waited for again', async () => {
      await using cluster = new Cluster(kind);
      const [a, b] = [cluster.keeper(), cluster.keeper()];
      await a.joinAsClient();
      await b.joinAsClient();
      const timeout = { code: 'ERR_PATRONUS_TIMEOUT' };
      await expect(a.clientBarrier('b', 2, { timeoutMs: 100 })).rejects.toMatchObject(timeout);
      await Promise.all([a.clientBarrier('b', 2), b.clientBarrier('b', 2)]);
    });

    test('break when a member dies that has not come', async () => {
      await using cluster = new Cluster(kind);
      const [a, b, c] = [cluster.keeper(), cluster.keeper(), cluster.keeper()];
      await a.joinAsClient();
      await b.joinAsClient();
      await c.joinAsClient();
      const waits = Promise.allSettled([a.clientBarrier('b', 3), b.clientBarrier('b', 3)]);
      await pause(100);
      await c.leave();
      const broken = { status: 'rejected', reason: { code: 'ERR_PATRONUS_BARRIER_BROKEN' } };
      expect(await waits).toMatchObject([broken, broken]);
    });

    test('are for members of the group, and for no more than was said', async () => {
      await using cluster = new Cluster(kind);
      const [a, b] = [cluster.keeper(), cluster.keeper()];
      await expect(a.keeperBarrier('b', 1)).rejects.toThrow(TypeError);
      await a.joinAsNode(0, 'unix:/a');
      await b.joinAsNode(1, 'unix:/b');
      await expect(a.clientBarrier('b', 1)).rejects.toThrow(TypeError);
      await a.serverBarrier('b', 1);
      await expect(b.serverBarrier('b', 1)).rejects.toMatchObject({ code: 'ERR_PATRONUS_INVALID' });
      for (const count of [0, 257, 1.5])
        await expect(a.serverBarrier('c', count)).rejects.toThrow(RangeError);
    });
  });

  test('a keeper that is closed does nothing any more', async () => {
    await using cluster = new Cluster(kind);
    const keeper = cluster.keeper();
    await keeper.joinAsClient();
    await keeper.close();
    await keeper.close();
    const closed = { code: 'ERR_PATRONUS_CLOSED' };
    await expect(keeper.members('node')).rejects.toMatchObject(closed);
    await expect(keeper.joinAsClient()).rejects.toMatchObject(closed);
    await expect(keeper.tryGet('k')).rejects.toMatchObject(closed);
    await expect(keeper.clientBarrier('b', 1)).rejects.toMatchObject(closed);
  });
});

test.each(['127.0.0.1', ':11211', 'host:0', 'host:65536', 'a b:1', 'unix:/x'])(
  '%j is no server',
  (server) => {
    expect(() => memcachedKeeper(server)).toThrow(RangeError);
  },
);

test.each([
  { cluster: '' },
  { cluster: 'a/b' },
  { cluster: 'x'.repeat(65) },
  { expirySeconds: 1 },
  { expirySeconds: 2.5 },
  { timeoutMs: 0 },
])('%j are no options', (options) => {
  expect(() => memcachedKeeper('127.0.0.1:11211', options)).toThrow(RangeError);
});

test('the longest keys fit into those of memcached', async () => {
  const keeper = memcachedKeeper(memcached.address, { ...FAST, cluster: 'c'.repeat(64) });
  await using _ = keeper;
  await keeper.joinAsClient();
  await keeper.put('k'.repeat(100), Uint8Array.of(1));
  expect(await keeper.get('k'.repeat(100))).toEqual(Uint8Array.of(1));
  await keeper.clientBarrier('b'.repeat(100), 1);
});

describe('garbage under the keys', () => {
  test('is no member, makes way for one, and is an error where a value is asked for', async () => {
    const cluster = `garbage-${process.pid}`;
    const raw = new memjs.Client(
      [new memjs.Server('127.0.0.1', memcached.port, undefined, undefined, {})],
      {},
    );
    const garbage = [
      Buffer.alloc(0),
      Buffer.from('garbage'),
      Buffer.alloc(100_000, 0x91),
      Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff, 1]),
      Buffer.from([0xdb, 0xff, 0xff, 0xff, 0xff, 1]),
      Buffer.from([0x96, 1, 0xa4, 0x6e, 0x6f, 0x64, 0x65]),
      Buffer.from([0xd4, 0x72, 0x40, 0x91]),
      Buffer.from([0x92, 1, 5]),
    ];
    await using keeper = memcachedKeeper(memcached.address, { ...FAST, cluster });
    for (const [number, bytes] of garbage.entries()) {
      await raw.set(`patronus/${cluster}/node/${number}`, bytes, {});
      const key = Buffer.from(`k${number}`).toString('base64url');
      await raw.set(`patronus/${cluster}/value/${key}`, bytes, {});
      await raw.set(`patronus/${cluster}/finished/${key}`, bytes, {});
      const code = 'ERR_PATRONUS_KEEPER_GARBAGE';
      await expect(keeper.tryGet(`k${number}`)).rejects.toMatchObject({ code });
      await expect(keeper.get(`k${number}`)).rejects.toMatchObject({ code });
      await expect(keeper.shouldExit(`k${number}`)).rejects.toMatchObject({ code });
    }
    expect(await keeper.members('node')).toEqual([]);
    await keeper.joinAsNode(3, 'unix:/three');
    expect(await keeper.members('node')).toEqual([keeper.member]);
    raw.close();
  });
});
