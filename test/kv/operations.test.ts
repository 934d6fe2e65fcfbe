import { afterEach, describe, expect, test } from 'vitest';
import { KvError } from '../../kv/api.js';
import { TableContext } from '../../kv/context.js';
import { type CreateOptions, createTable } from '../../kv/create.js';
import { scanPage } from '../../kv/scan.js';
import { Sweeper } from '../../kv/sweeper.js';
import { Table } from '../../kv/table.js';
import { type FakeClient, type FakeNode, fakeNode, jumping } from './fake-patronus.js';
import { bytesOf, pick, seeded, textOf } from './random.js';

const MS = 1e6;
const opened: { table: Table; client: FakeClient }[] = [];

async function open(options: CreateOptions = {}, bytes = 8 * 1024 * 1024) {
  const node = fakeNode(bytes);
  await createTable(node.connect(), options);
  return another(node);
}

async function another(node: FakeNode) {
  const client = node.connect();
  const context = await TableContext.open(client, jumping(node));
  const kv = new Table(context);
  opened.push({ table: kv, client });
  return { node, kv, context };
}

afterEach(async () => {
  for (const { table, client } of opened.splice(0)) {
    await table.close();
    expect(client.buffersOut).toBe(0);
  }
});

const key = bytesOf('key');

describe('conditions on versions', () => {
  test('put: only the version that is there', async () => {
    const { kv } = await open();
    expect(await kv.put(key, key, { ifVersion: '1' })).toEqual({ outcome: 'refused', version: undefined });
    const first = await kv.put(key, bytesOf('one'));
    const second = await kv.put(key, bytesOf('two'), { ifVersion: first.version! });
    expect(second.outcome).toBe('replaced');
    expect(await kv.put(key, bytesOf('three'), { ifVersion: first.version! })).toEqual({
      outcome: 'refused',
      version: second.version,
    });
    expect(textOf(await kv.get(key))).toBe('two');
  });

  test('del: only the version that is there', async () => {
    const { kv } = await open();
    const first = await kv.put(key, bytesOf('one'));
    const second = await kv.put(key, bytesOf('one'));
    expect(await kv.del(key, { ifVersion: first.version! })).toBe(false);
    expect(await kv.has(key)).toBe(true);
    expect(await kv.del(key, { ifVersion: second.version! })).toBe(true);
    expect(await kv.del(key, { ifVersion: second.version! })).toBe(false);
    // The same value again is another version.
    await kv.put(key, bytesOf('one'));
    expect(await kv.del(key, { ifVersion: second.version! })).toBe(false);
  });

  test('of writers with one version one succeeds', async () => {
    const { node, kv } = await open();
    const others = [kv, (await another(node)).kv, (await another(node)).kv];
    let { version } = await kv.put(key, bytesOf('0'));
    for (let i = 0; i < 50; i++) {
      const results = await Promise.all(
        others.map((table, n) => table.put(key, bytesOf(`${i} ${n}`), { ifVersion: version! })),
      );
      const done = results.filter(({ outcome }) => outcome === 'replaced');
      expect(done).toHaveLength(1);
      version = done[0]!.version;
    }
  });
});

describe('metadata', () => {
  test('comes back with the value', async () => {
    const { kv } = await open();
    for (const [metaLength, length] of [
      [1, 0],
      [24, 100],
      [255, 20_000],
    ] as const) {
      const meta = Uint8Array.from({ length: metaLength }, (_, i) => i + length);
      const value = Uint8Array.from({ length }, (_, i) => i * 13);
      const { version } = await kv.put(key, value, { meta });
      expect(await kv.getEntry(key)).toEqual({ value, version, meta });
      expect(await kv.get(key)).toEqual(value);
    }
    await kv.put(key, key);
    expect((await kv.getEntry(key))!.meta).toBeUndefined();
  });
});

describe('time to live', () => {
  test('an expired key is absent at once', async () => {
    const { node, kv } = await open();
    const at = node.clockNs / MS;
    const first = await kv.put(key, bytesOf('one'), { ttlMs: 500 });
    expect((await kv.getEntry(key))!.expiresAtMs).toBe(at + 500);
    node.clockNs += 499 * MS;
    expect(textOf(await kv.get(key))).toBe('one');
    expect((await kv.put(key, key, { ifAbsent: true })).outcome).toBe('refused');
    node.clockNs += MS;
    expect(await kv.get(key)).toBeUndefined();
    expect(await kv.has(key)).toBe(false);
    expect(await kv.getMany([key])).toEqual([undefined]);
    expect(await kv.put(key, key, { ifVersion: first.version! })).toEqual({
      outcome: 'refused',
      version: undefined,
    });
    expect(await kv.del(key)).toBe(false);
    await kv.put(key, key, { ttlMs: 1 });
    node.clockNs += MS;
    expect((await kv.put(key, bytesOf('two'), { ifAbsent: true })).outcome).toBe('created');
    expect(textOf(await kv.get(key))).toBe('two');
    // Without a time to live it stays.
    node.clockNs += 3600e9;
    expect(await kv.has(key)).toBe(true);
  });

  test('the space of expired keys comes back without anybody asking for them', async () => {
    const { node, kv, context } = await open({ groups: 20 });
    for (let i = 0; i < 300; i++) await kv.put(bytesOf(`short ${i}`), key, { ttlMs: 100 });
    for (let i = 0; i < 100; i++) await kv.put(bytesOf(`long ${i}`), key, { ttlMs: 1e6 });
    expect((await kv.usage()).records).toBe(400);
    node.clockNs += 200 * MS;
    const sweeper = new Sweeper(context, (expired) =>
      (kv as unknown as { sweep(key: Uint8Array): Promise<unknown> }).sweep(expired),
    );
    await sweeper.sweep();
    await sweeper.close();
    expect((await kv.usage()).records).toBe(100);
  });
});

describe('counters', () => {
  test('add, also below zero and around', async () => {
    const { kv } = await open();
    expect(await kv.incr(key)).toBe(1n);
    expect(await kv.incr(key, 41)).toBe(42n);
    expect(textOf(await kv.get(key))).toBe('42');
    expect(await kv.incr(key, -43n)).toBe(-1n);
    expect(await kv.incr(key, 0)).toBe(-1n);
    expect(textOf(await kv.get(key))).toBe('-1');
    expect(await kv.incr(key, 2n ** 63n)).toBe(2n ** 63n - 1n);
    expect(await kv.incr(key)).toBe(-(2n ** 63n));
    expect(await kv.del(key)).toBe(true);
    expect(await kv.incr(key, 5)).toBe(5n);
  });

  test('and values are different things', async () => {
    const { kv } = await open();
    await kv.put(key, bytesOf('12'));
    await expect(kv.incr(key)).rejects.toMatchObject({ code: 'ERR_KV_NOT_A_COUNTER' });
    expect(textOf(await kv.get(key))).toBe('12');
    await kv.del(key);
    await kv.incr(key);
    expect((await kv.put(key, bytesOf('13'))).outcome).toBe('replaced');
    expect(textOf(await kv.get(key))).toBe('13');
  });

  test('no version names a counter for a condition', async () => {
    const { kv } = await open();
    await kv.incr(key);
    const one = (await kv.getEntry(key))!.version;
    await kv.incr(key, 1);
    expect((await kv.getEntry(key))!.version).not.toBe(one);
    await kv.incr(key, -1);
    const { version } = (await kv.getEntry(key))!;
    const refused = await kv.put(key, key, { ifVersion: version });
    expect(refused.outcome).toBe('refused');
    expect((await kv.put(key, key, { ifVersion: refused.version! })).outcome).toBe('refused');
    expect((await kv.put(key, key, { ifVersion: version.slice(0, version.indexOf('.')) })).outcome).toBe(
      'refused',
    );
    expect(await kv.del(key, { ifVersion: version })).toBe(false);
  });

  test('an addition takes no memory', async () => {
    const { node, kv } = await open();
    await kv.incr(key);
    let writes = 0;
    node.fault = ({ kind }) => {
      if (kind === 'write') writes++;
      return undefined;
    };
    for (let i = 0; i < 100; i++) await kv.incr(key);
    expect(writes).toBe(0);
  });

  test('an addition whose answer is lost says so', async () => {
    const { node, kv } = await open();
    await kv.incr(key);
    node.fault = ({ kind }) => (kind === 'faa' ? 'lose-after' : undefined);
    await expect(kv.incr(key)).rejects.toMatchObject({ code: 'ERR_KV_OUTCOME_UNKNOWN' });
    node.fault = () => undefined;
    expect(await kv.incr(key)).toBe(3n);
  });
});

describe('many keys at once', () => {
  test.each([1, 2, 3])('getMany agrees with get, seed %i', async (seed) => {
    const random = seeded(seed);
    const { node, kv } = await open({ groups: 3 });
    const names = Array.from({ length: 200 }, (_, i) => bytesOf(`key ${i}`));
    await kv.putMany(
      names
        .filter(() => random() < 0.7)
        .map((name) => ({
          key: name,
          value: new Uint8Array(pick(random, [0, 10, 500, 9000])).fill(name.length),
        })),
    );
    for (let i = 0; i < 30; i++) {
      node.clockNs += random() * 1e9;
      const some = Array.from({ length: Math.floor(random() * 50) }, () => pick(random, names));
      const one = await Promise.all(some.map((name) => kv.get(name)));
      const many = await kv.getMany(some);
      expect(many.map((value) => value && Buffer.from(value).toString('hex'))).toEqual(
        one.map((value) => value && Buffer.from(value).toString('hex')),
      );
    }
    expect(await kv.getMany([])).toEqual([]);
  });

  test('a get takes one round where the key was last seen, else one for the buckets and one for the block', async () => {
    const { node, kv } = await open();
    const { kv: other } = await another(node);
    await kv.put(key, key);
    const rounds = async (work: () => Promise<unknown>) => {
      const before = node.commits;
      await work();
      return node.commits - before;
    };
    expect(await rounds(() => other.get(key))).toBe(2);
    expect(await rounds(() => other.get(key))).toBe(1);
    expect(await rounds(() => other.has(key))).toBe(1);
    expect(await rounds(() => kv.get(key))).toBe(1);
    await kv.put(key, bytesOf('other'));
    expect(
      await rounds(async () => expect(textOf(await other.get(key))).toBe(textOf(bytesOf('other')))),
    ).toBe(2);
    expect(await rounds(() => other.get(key))).toBe(1);
    await kv.del(key);
    expect(await rounds(async () => expect(await other.get(key)).toBeUndefined())).toBe(1);
  });

  test('getMany sends the reads of eight keys together', async () => {
    const { node, kv } = await open();
    const names = Array.from({ length: 8 }, (_, i) => bytesOf(`key ${i}`));
    await kv.putMany(names.map((name) => ({ key: name, value: name })));
    expect((await kv.getMany(names)).map(textOf)).toEqual(names.map(textOf));
    const { commits } = node;
    await kv.getMany(names);
    expect(node.commits - commits).toBe(2);
  });

  test('a failure of one is a failure of all', async () => {
    const { node, kv } = await open();
    node.fault = () => 'refuse';
    const names = Array.from({ length: 20 }, (_, i) => bytesOf(`key ${i}`));
    await expect(kv.getMany(names)).rejects.toMatchObject({ code: 'ERR_KV_CONTENTION' });
    await expect(kv.putMany(names.map((name) => ({ key: name, value: name })))).rejects.toBeInstanceOf(
      KvError,
    );
    node.fault = () => undefined;
    expect(await kv.getMany(names)).toEqual(names.map(() => undefined));
  });

  /** Another client of the table, whose commits all have to be waited for. */
  async function slow(node: FakeNode) {
    const client = node.connect();
    const create = client.createBatch.bind(client);
    const posted = new Set<object>();
    const seen = { underWay: 0 };
    client.createBatch = () => {
      const batch = create();
      const { post, commit } = batch;
      batch.post = () => {
        posted.add(batch);
        seen.underWay = Math.max(seen.underWay, posted.size);
        return post.call(batch);
      };
      batch.commit = () => {
        posted.delete(batch);
        return Promise.resolve(commit.call(batch));
      };
      return batch;
    };
    const kv = new Table(await TableContext.open(client, jumping(node)));
    opened.push({ table: kv, client });
    return { kv, seen };
  }

  test('the caller may change keys and values once getMany or putMany has been called', async () => {
    const { node } = await open();
    const { kv } = await slow(node);
    const numbers = Array.from({ length: 100 }, (_, i) => i);
    const requests = numbers.map((i) => ({
      key: bytesOf(`key ${i}`),
      value: bytesOf(`value ${i}`),
      options: { meta: bytesOf(`meta ${i}`) },
    }));
    const put = kv.putMany(requests);
    for (const { key, value, options } of requests)
      for (const bytes of [key, value, options.meta]) bytes.fill(0);
    expect((await put).map(({ outcome }) => outcome)).toEqual(numbers.map(() => 'created'));
    const names = numbers.map((i) => bytesOf(`key ${i}`));
    const got = kv.getMany(names);
    for (const name of names) name.fill(0);
    expect((await got).map(textOf)).toEqual(numbers.map((i) => `value ${i}`));
    expect(textOf((await kv.getEntry(bytesOf('key 99')))!.meta)).toBe('meta 99');
  });

  test('the rounds of several are under way at the same time', async () => {
    const { node } = await open();
    const { kv, seen } = await slow(node);
    const names = Array.from({ length: 64 }, (_, i) => bytesOf(`key ${i}`));
    const puts = names.map((key) => ({ key, value: key }));
    // The first ones wait for leases, memory and version numbers, each by itself.
    await kv.putMany(puts);
    await kv.putMany(puts);
    expect(seen.underWay).toBe(16);
    seen.underWay = 0;
    expect((await kv.getMany(names)).map(textOf)).toEqual(names.map(textOf));
    expect(seen.underWay).toBe(4);
  });

  test('putMany looks at all requests before it begins with any', async () => {
    const { kv } = await open();
    const bad = { key, value: 'text' as never };
    await expect(kv.putMany([{ key, value: key }, bad])).rejects.toBeInstanceOf(TypeError);
    expect(await kv.has(key)).toBe(false);
  });

  test('any number of keys', async () => {
    const { kv } = await open();
    const names = Array.from({ length: 5000 }, (_, i) => bytesOf(`key ${i}`));
    await kv.putMany(names.map((name) => ({ key: name, value: name })));
    expect((await kv.getMany(names)).map(textOf)).toEqual(names.map(textOf));
  });
});

describe('scans', () => {
  async function all(
    kv: Table,
    options: { prefix?: Uint8Array; limit?: number } = {},
    between?: () => Promise<unknown>,
  ) {
    const found: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await kv.scan(cursor === undefined ? options : { ...options, cursor });
      found.push(...page.keys.map((name) => textOf(name)!));
      cursor = page.cursor;
      await between?.();
    } while (cursor !== undefined);
    return found;
  }

  test('find every key once while nothing splits', async () => {
    const { kv } = await open({ groups: 5, subtables: 4 });
    const names = Array.from({ length: 500 }, (_, i) => (i % 3 ? `a${i}` : `b${'b'.repeat(i)}`));
    for (const name of names) await kv.put(bytesOf(name), key);
    expect((await all(kv)).sort()).toEqual([...names].sort());
    expect((await all(kv, { prefix: bytesOf('bb'), limit: 3 })).sort()).toEqual(
      names.filter((name) => name.startsWith('bb')).sort(),
    );
    expect(await all(kv, { prefix: bytesOf('c') })).toEqual([]);
  });

  test.each([1, 2, 3, 4])('find every key that stays, through splits, seed %i', async (seed) => {
    const random = seeded(seed);
    const { node, kv } = await open({ groups: 2 });
    const writer = (await another(node)).kv;
    const stay = Array.from({ length: 60 }, (_, i) => `stays ${i}`);
    for (const name of stay) await kv.put(bytesOf(name), key);
    let added = 0;
    const found = await all(kv, { limit: 5 }, async () => {
      for (let i = 0; i < 20; i++) {
        await writer.put(bytesOf(`new ${added++}`), key);
        await writer.put(bytesOf(pick(random, stay)), bytesOf(`${added}`));
        if (random() < 0.3) await writer.del(bytesOf(`new ${Math.floor(random() * added)}`));
      }
    });
    expect(writer.stats().splits).toBeGreaterThan(1);
    const seen = new Set(found);
    for (const name of stay) expect(seen.has(name), name).toBe(true);
  });

  test('a page is bounded and may be empty', async () => {
    const { node, kv, context } = await open({ subtables: 2 });
    let reads = 0;
    node.fault = ({ kind }) => {
      if (kind === 'read') reads++;
      return undefined;
    };
    const page = await kv.scan({ limit: 10_000 });
    expect(page.keys).toEqual([]);
    expect(page.cursor).toBeDefined();
    expect(reads).toBeLessThan(1100);
    expect((await scanPage(context, { cursor: page.cursor! })).keys).toEqual([]);
  });

  test('what is no cursor is refused', async () => {
    const { kv } = await open({ groups: 5 });
    for (const cursor of ['', 'x', '0', '000000005', '00000000fff', '0000000g1', '-00000001']) {
      await expect(kv.scan({ cursor }), cursor).rejects.toBeInstanceOf(RangeError);
    }
    await expect(kv.scan({ limit: 0 })).rejects.toBeInstanceOf(RangeError);
    await expect(kv.scan({ prefix: 'a' as never })).rejects.toBeInstanceOf(TypeError);
    expect((await kv.scan({ cursor: 'ffffffff1' })).cursor).toBeUndefined();
  });
});

describe('usage', () => {
  test('counts records and their bytes', async () => {
    const { kv } = await open({ groups: 10 });
    let bytes = 0;
    for (const length of [0, 10, 100, 1000, 10_000, 100_000]) {
      await kv.put(bytesOf(`key ${length}`), new Uint8Array(length));
      bytes += Math.ceil((40 + `key ${length}`.length + length) / 64) * 64;
    }
    const usage = await kv.usage();
    expect(usage).toMatchObject({ records: 6, subtables: 1, slots: 210, loadFactor: 6 / 210 });
    expect(Math.abs(usage.bytes - bytes)).toBeLessThan(6 * 64);
  });
});

describe('arguments', () => {
  test('that are wrong', async () => {
    const { kv } = await open();
    expect(() => kv.put(key, key, { ttlMs: 0 })).toThrow(RangeError);
    expect(() => kv.put(key, key, { ttlMs: 1.5 })).toThrow(RangeError);
    expect(() => kv.put(key, key, { meta: new Uint8Array(256) })).toThrow(RangeError);
    expect(() => kv.put(key, key, { meta: 'text' as never })).toThrow(TypeError);
    expect(() => kv.put(key, key, { ifVersion: 1 as never })).toThrow(TypeError);
    expect(() => kv.put(key, key, { ifVersion: '1', ifAbsent: true })).toThrow(TypeError);
    expect(() => kv.del(key, { ifVersion: 1 as never })).toThrow(TypeError);
    expect(() => kv.incr(key, 0.5)).toThrow(TypeError);
    expect(() => kv.incr(key, '1' as never)).toThrow(TypeError);
    await expect(kv.getMany([key, 'key' as never])).rejects.toBeInstanceOf(TypeError);
    await expect(kv.putMany([{ key, value: 'x' as never }])).rejects.toBeInstanceOf(TypeError);
  });
});
