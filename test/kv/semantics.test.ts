import { afterEach, describe, expect, test } from 'vitest';
import { type Kv, KvError } from '../../kv/api.js';
import { TableContext } from '../../kv/context.js';
import { type CreateOptions, createTable } from '../../kv/create.js';
import { LAYOUT_VERSION, SB_LAYOUT_VERSION, SB_MAGIC_LO, SB_STATE, TableState } from '../../kv/layout.js';
import { openTable, Table } from '../../kv/table.js';
import { type FakeClient, type FakeNode, fakeNode, jumping } from './fake-patronus.js';
import { bytesOf, pick, seeded, seeds, textOf } from './random.js';

const MS = 1e6;
const opened: { table: Table; client: FakeClient }[] = [];

interface Opened {
  readonly node: FakeNode;
  readonly client: FakeClient;
  readonly kv: Table;
}

/** A table in a fake node; waiting lets its clock jump. */
async function open(options: CreateOptions = {}, bytes = 8 * 1024 * 1024): Promise<Opened> {
  const node = fakeNode(bytes);
  await createTable(node.connect(), options);
  return another(node);
}

async function another(node: FakeNode): Promise<Opened> {
  const client = node.connect();
  const kv = new Table(await TableContext.open(client, jumping(node)));
  opened.push({ table: kv, client });
  return { node, client, kv };
}

afterEach(async () => {
  const all = opened.splice(0);
  for (const { table, client } of all) {
    await table.close();
    expect(client.buffersOut).toBe(0);
  }
  for (const { client } of all) {
    for (const lease of client.node.liveLeases) expect(lease.deadlineNs).not.toBe(Number.POSITIVE_INFINITY);
  }
});

const key = bytesOf('key');

describe('operations', () => {
  test('put, get, del', async () => {
    const { kv } = await open();
    expect(await kv.get(key)).toBeUndefined();
    expect(await kv.has(key)).toBe(false);
    expect(await kv.del(key)).toBe(false);
    const created = await kv.put(key, bytesOf('one'));
    expect(created.outcome).toBe('created');
    expect(textOf(await kv.get(key))).toBe('one');
    expect(await kv.has(key)).toBe(true);
    expect(await kv.getEntry(key)).toEqual({ value: bytesOf('one'), version: created.version });
    const replaced = await kv.put(key, bytesOf('two'));
    expect(replaced.outcome).toBe('replaced');
    expect(replaced.version).not.toBe(created.version);
    expect(replaced.version).toMatch(/^[0-9a-f]+$/);
    expect(textOf(await kv.get(key))).toBe('two');
    expect(await kv.del(key)).toBe(true);
    expect(await kv.get(key)).toBeUndefined();
    expect(kv.stats()).toMatchObject({ gets: 7, puts: 2, dels: 2, retries: 0, protectionFaults: 0 });
  });

  test('ifAbsent refuses with the version that is there', async () => {
    const { kv } = await open();
    const first = await kv.put(key, bytesOf('one'), { ifAbsent: true });
    expect(first.outcome).toBe('created');
    expect(await kv.put(key, bytesOf('two'), { ifAbsent: true })).toEqual({
      outcome: 'refused',
      version: first.version,
    });
    expect(textOf(await kv.get(key))).toBe('one');
    await kv.del(key);
    expect((await kv.put(key, bytesOf('three'), { ifAbsent: true })).outcome).toBe('created');
  });

  test('keys and values of all sizes', async () => {
    const { kv } = await open();
    const sizes = [
      0, 1, 31, 32, 63, 64, 65, 7000, 7900, 8100, 8192, 16_000, 16_255, 16_320, 16_400, 100_000, 1_048_576,
    ];
    for (const keyLength of [1, 2, 3, 4, 5, 63, 4096]) {
      for (const size of sizes) {
        const longKey = new Uint8Array(keyLength).fill(keyLength);
        const value = Uint8Array.from({ length: size }, (_, i) => i * 31 + size);
        await kv.put(longKey, value);
        expect(Buffer.compare((await kv.get(longKey))!, value), `${keyLength}, ${size}`).toBe(0);
        expect(await kv.has(longKey)).toBe(true);
        if (size % 2 === 0) expect(await kv.del(longKey)).toBe(true);
      }
    }
  });

  test('bytes belong to the caller, before and after', async () => {
    const { kv } = await open();
    const myKey = key.slice();
    const value = bytesOf('value');
    const writing = kv.put(myKey, value);
    myKey.fill(0);
    value.fill(0);
    await writing;
    const read = (await kv.get(key))!;
    expect(textOf(read)).toBe('value');
    read.fill(0);
    expect(textOf(await kv.get(key))).toBe('value');
    const again = (await kv.get(key))!;
    const third = (await kv.get(key))!;
    again.fill(1);
    expect(textOf(third)).toBe('value');
    // Results share slabs, which no one can move away from the others: refused, or copied by older versions of Node.js.
    const { port1, port2 } = new MessageChannel();
    try {
      port1.postMessage(again, [again.buffer as ArrayBuffer]);
    } catch (error) {
      expect(error).toMatchObject({ name: 'DataCloneError' });
    }
    port1.close();
    port2.close();
    expect(textOf(third)).toBe('value');
  });

  test('bad arguments', async () => {
    const { kv } = await open({ maxValueBytes: 100 });
    expect(() => kv.get('key' as never)).toThrow(TypeError);
    expect(() => kv.put(key, 'value' as never)).toThrow(TypeError);
    expect(() => kv.del(new Uint8Array(0))).toThrow(RangeError);
    expect(() => kv.has(new Uint8Array(4097))).toThrow(RangeError);
    expect(() => kv.getEntry(new Uint8Array(4097))).toThrow(RangeError);
    expect(() => kv.put(key, new Uint8Array(101))).toThrow(RangeError);
    expect((await kv.put(key, new Uint8Array(100))).outcome).toBe('created');
    expect(kv.maxValueBytes).toBe(100);
    expect(kv.maxKeyBytes).toBe(4096);
  });

  test('any number of operations at once', async () => {
    const { node, kv } = await open();
    await kv.put(key, key);
    // All wait for the one lease that has ended; then most are done without waiting.
    node.clockNs += 10e9;
    const reads = await Promise.all(Array.from({ length: 50_000 }, () => kv.has(key)));
    expect(reads.every((found) => found)).toBe(true);
  });

  test('close waits for what is under way and refuses what comes later', async () => {
    const { kv } = await open();
    const writes = Array.from({ length: 3000 }, (_, i) => kv.put(bytesOf(`key ${i}`), bytesOf(`${i}`)));
    const closing = kv.close();
    expect((await Promise.all(writes)).every(({ outcome }) => outcome === 'created')).toBe(true);
    await closing;
    await expect(kv.get(key)).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' });
    await expect(kv.put(key, key)).rejects.toBeInstanceOf(KvError);
    await kv.close();
  });
});

describe('against a model', () => {
  test.each(seeds(6))('random operations, seed %i', async (seed) => {
    const random = seeded(seed);
    const groups = pick(random, [2, 3, 20]);
    const { node, kv } = await open({ groups, subtables: pick(random, [1, 2, 8]) });
    const other = (await another(node)).kv;
    const model = new Map<string, Uint8Array>();
    let full = 0;
    for (let i = 0; i < 3000; i++) {
      const name = `key ${Math.floor(random() * 60)}`;
      const table = random() < 0.8 ? kv : other;
      const roll = random();
      node.clockNs += random() < 0.05 ? random() * 1500 * MS : 1000;
      if (roll < 0.4) {
        const length = random() < 0.95 ? random() * 300 : random() * 40_000;
        const value = new Uint8Array(length).map(() => random() * 256);
        const ifAbsent = random() < 0.3;
        const there = model.has(name);
        try {
          const { outcome } = await table.put(bytesOf(name), value, { ifAbsent });
          expect(outcome).toBe(!there ? 'created' : ifAbsent ? 'refused' : 'replaced');
          if (outcome !== 'refused') model.set(name, value);
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_KV_TABLE_FULL' });
          expect(there).toBe(false);
          full++;
        }
      } else if (roll < 0.6) {
        expect(await table.del(bytesOf(name))).toBe(model.delete(name));
      } else if (roll < 0.7) {
        expect(await table.has(bytesOf(name))).toBe(model.has(name));
      } else {
        const found = await table.get(bytesOf(name));
        const expected = model.get(name);
        expect(found === undefined).toBe(expected === undefined);
        if (found && expected) expect(Buffer.compare(found, expected)).toBe(0);
      }
    }
    expect(full === 0 || groups < 20).toBe(true);
  });

  test('a table grows from one subtable as far as the memory goes', async () => {
    const { node, kv } = await open({ groups: 2, subtables: 1 });
    expect(kv.stats()).toMatchObject({ slots: 42, splits: 0 });
    // Knows the first subtable only, until it reads.
    const late = (await another(node)).kv;
    const names = Array.from({ length: 3000 }, (_, i) => `key ${i}`);
    for (const name of names) expect((await kv.put(bytesOf(name), bytesOf(name))).outcome).toBe('created');
    // The last split may have begun ahead of time.
    await kv.context.splitter.settled();
    const { subtables, slots, splits } = kv.stats();
    expect(splits).toBe(subtables - 1);
    expect(slots).toBe(subtables * 42);
    expect(names.length / slots).toBeGreaterThan(0.4);
    for (const name of names) expect(textOf(await late.get(bytesOf(name)))).toBe(name);
    expect(late.stats().subtables).toBe(subtables);
    for (const name of names) expect(await late.del(bytesOf(name))).toBe(true);
    expect(await kv.has(bytesOf('key 0'))).toBe(false);
  });

  test('without memory to grow a new key is refused, and the others are served', async () => {
    const { kv } = await open({ groups: 200, subtables: 1, maxValueBytes: 100 }, 512 * 1024);
    let count = 0;
    const fill = async () => {
      for (; ; count++) await kv.put(bytesOf(`key ${count}`), bytesOf('old'));
    };
    await expect(fill()).rejects.toMatchObject({ code: 'ERR_KV_NO_MEMORY' });
    expect(count).toBeGreaterThan(1000);
    expect(await kv.get(bytesOf(`key ${count}`))).toBeUndefined();
    for (let i = 0; i < count; i++) expect(textOf(await kv.get(bytesOf(`key ${i}`)))).toBe('old');
    for (let i = 0; i < count; i++) expect(await kv.del(bytesOf(`key ${i}`))).toBe(true);
    expect((await kv.put(bytesOf('key'), bytesOf('new'))).outcome).toBe('created');
  });
});

describe('memory', () => {
  test('overwriting for ever takes constant memory', async () => {
    const { node, kv } = await open({ termMs: 100 }, 4 * 1024 * 1024);
    const value = new Uint8Array(3000);
    let after = 0;
    for (let i = 0; i < 30_000; i++) {
      node.clockNs += 10_000;
      await kv.put(bytesOf(`key ${i % 100}`), value);
      if (i === 10_000) after = node.allocatedBytes;
    }
    expect(node.allocatedBytes).toBe(after);
    expect(after).toBeLessThanOrEqual(4 * 1024 * 1024);
  });

  test('what a handle has freed goes on to others when it is closed', async () => {
    const { node, kv } = await open({ termMs: 100 }, 4 * 1024 * 1024);
    const names = Array.from({ length: 300 }, (_, i) => bytesOf(`key ${i}`));
    for (const name of names) await kv.put(name, new Uint8Array(3000));
    const after: number[] = [];
    // Each overwrites all of it, and goes.
    for (let round = 0; round < 20; round++) {
      const { kv: other } = await another(node);
      for (const name of names) {
        node.clockNs += 1 * MS;
        await other.put(name, new Uint8Array(3000).fill(round));
      }
      await other.close();
      after.push(node.allocatedBytes);
    }
    expect(after[19]).toBe(after[10]);
    for (const name of names) expect(await kv.get(name)).toEqual(new Uint8Array(3000).fill(19));
  });

  test('overwriting faster than blocks come back waits, and does not fail', async () => {
    const { kv } = await open({}, 4 * 1024 * 1024);
    for (let i = 0; i < 300; i++) await kv.put(key, new Uint8Array(100_000).fill(i));
    expect((await kv.get(key))![0]).toBe(299 & 255);
  });

  test('no room: nothing is lost, and room again after deletes', async () => {
    const { kv } = await open({}, 4 * 1024 * 1024);
    const value = new Uint8Array(200_000).fill(7);
    let count = 0;
    const fill = async () => {
      for (; ; count++) await kv.put(bytesOf(`key ${count}`), value);
    };
    await expect(fill()).rejects.toMatchObject({ code: 'ERR_KV_NO_MEMORY' });
    expect(count).toBeGreaterThan(10);
    for (let i = 0; i < count; i++) expect((await kv.get(bytesOf(`key ${i}`)))!.length).toBe(200_000);
    expect(await kv.get(bytesOf(`key ${count}`))).toBeUndefined();
    for (let i = 0; i < count; i++) await kv.del(bytesOf(`key ${i}`));
    for (let i = 0; i < count * 20; i++) await kv.put(bytesOf(`small ${i}`), new Uint8Array(5000));
  });

  test('a block is never reused while a lease that could read it is running', async () => {
    const { node, kv } = await open({ termMs: 100 });
    const freed = new Map<number, number>();
    const { allocator } = (kv as unknown as { context: TableContext }).context;
    const retire = allocator.retire.bind(allocator);
    allocator.retire = (offset, units, epoch) => {
      freed.set(offset, node.clockNs);
      retire(offset, units, epoch);
    };
    let reused = 0;
    node.fault = ({ kind, address }) => {
      const since = kind === 'write' ? freed.get(address) : undefined;
      if (since !== undefined) {
        reused++;
        expect(node.clockNs - since).toBeGreaterThanOrEqual(112.5 * MS);
        freed.delete(address);
      }
      return undefined;
    };
    for (let i = 0; i < 5000; i++) {
      node.clockNs += 0.5 * MS;
      await kv.put(bytesOf(`key ${i % 7}`), new Uint8Array(i % 50));
    }
    expect(reused).toBeGreaterThan(1000);
  });
});

describe('leases', () => {
  test('an idle store renews nothing; a long pause is invisible', async () => {
    const { node, kv } = await open();
    await kv.put(key, key);
    const { grants } = node;
    node.clockNs += 3600e9;
    await new Promise((resolve) => setImmediate(resolve));
    expect(node.grants).toBe(grants);
    const { leaseRenewals } = kv.stats();
    expect(await kv.get(key)).toEqual(key);
    expect(kv.stats().leaseRenewals).toBe(leaseRenewals + 1);
    expect((await kv.put(key, bytesOf('x'))).outcome).toBe('replaced');
  });

  test('an access that the NIC refuses is made again under a new lease', async () => {
    const { node, kv } = await open({ groups: 20 });
    await kv.put(key, key);
    let left = 3;
    node.fault = () => (left-- > 0 ? 'refuse' : undefined);
    expect(await kv.get(key)).toEqual(key);
    expect(kv.stats()).toMatchObject({ protectionFaults: 3, retries: 3 });
    left = 2;
    expect((await kv.scan()).keys).toEqual([key]);
    expect(kv.stats()).toMatchObject({ protectionFaults: 5, retries: 5 });
  });

  test('an access of a split that the NIC refuses is counted, and made again', async () => {
    const { node, kv } = await open({ groups: 2 });
    let refused = 0;
    // Only splits write single words: headers and their record.
    node.fault = ({ kind, size }) =>
      kind === 'write' && size === 8 && refused++ === 0 ? 'refuse' : undefined;
    for (let i = 0; kv.stats().splits === 0; i++) await kv.put(bytesOf(`key ${i}`), bytesOf('value'));
    expect(refused).toBeGreaterThan(1);
    expect(kv.stats().protectionFaults).toBe(1);
  });

  test('a node that refuses for ever is an error, not a hang', async () => {
    const { node, kv } = await open();
    node.fault = () => 'refuse';
    await expect(kv.get(key)).rejects.toMatchObject({ code: 'ERR_KV_CONTENTION' });
    node.fault = () => 'lose-before';
    await expect(kv.get(key)).rejects.toMatchObject({ code: 'ERR_KV_UNAVAILABLE' });
    await expect(kv.put(key, key)).rejects.toMatchObject({ code: 'ERR_KV_UNAVAILABLE' });
    node.fault = () => undefined;
    expect(await kv.get(key)).toBeUndefined();
  });

  test.each(['lose-before', 'lose-after'] as const)(
    'an answer lost %s the CAS that decides',
    async (fault) => {
      const { node, kv } = await open();
      let armed = true;
      node.fault = ({ kind, words }) => {
        const decides = kind === 'cas' && words[0] !== 0;
        if (!decides || !armed) return undefined;
        armed = false;
        return fault;
      };
      expect((await kv.put(key, bytesOf('one'))).outcome).toBe('created');
      armed = true;
      expect((await kv.put(key, bytesOf('two'))).outcome).toBe('replaced');
      expect(textOf(await kv.get(key))).toBe('two');
      armed = true;
      // A zero in the slot does not say whose delete it was.
      if (fault === 'lose-before') expect(await kv.del(key)).toBe(true);
      else await expect(kv.del(key)).rejects.toMatchObject({ code: 'ERR_KV_OUTCOME_UNKNOWN' });
      expect(await kv.get(key)).toBeUndefined();
    },
  );
});

describe('what readers are protected from', () => {
  const findBlock = (node: FakeNode, text: string) => Buffer.from(node.bytes.buffer).indexOf(text);

  test('damaged blocks are never returned', async () => {
    const { node, kv } = await open();
    await kv.put(key, bytesOf('a value to be found'));
    node.bytes[findBlock(node, 'a value to be found')]! ^= 1;
    await expect(kv.get(key)).rejects.toMatchObject({ code: 'ERR_KV_CONTENTION' });
  });

  test('a pending slot left by a dead client is invisible and gives way', async () => {
    const { node, kv } = await open();
    // The client dies between its two CAS: nothing that it sends arrives any more.
    const dying = (await another(node)).kv;
    let inserted = false;
    node.fault = ({ kind }) => {
      if (kind === 'cas' && !inserted) {
        inserted = true;
        return undefined;
      }
      return inserted ? 'lose-before' : undefined;
    };
    await expect(dying.put(key, bytesOf('never'))).rejects.toBeInstanceOf(KvError);
    node.fault = () => undefined;
    expect(inserted).toBe(true);
    expect(await kv.get(key)).toBeUndefined();
    expect(await kv.del(key)).toBe(false);
    expect((await kv.put(key, bytesOf('now'))).outcome).toBe('created');
    expect(textOf(await kv.get(key))).toBe('now');
  });
});

describe('tables', () => {
  test('the second creator is told so and changes nothing', async () => {
    const { node, kv } = await open();
    await kv.put(key, key);
    const { allocatedBytes } = node;
    await expect(createTable(node.connect())).rejects.toMatchObject({ code: 'ERR_KV_BAD_TABLE' });
    expect(node.allocatedBytes).toBe(allocatedBytes);
    expect(await kv.get(key)).toEqual(key);
  });

  test('of creators at the same time one succeeds', async () => {
    const node = fakeNode();
    const results = await Promise.allSettled([1, 2, 3].map(() => createTable(node.connect())));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect((await another(node)).kv.stats().subtables).toBe(1);
  });

  test.each(['lose-before', 'lose-after'] as const)(
    'its last step fails: %s it is executed',
    async (fault) => {
      const node = fakeNode();
      let lost = 0;
      node.fault = ({ kind, words }) => {
        if (kind !== 'cas' || words[3] !== TableState.Ready) return undefined;
        lost++;
        return fault;
      };
      await expect(createTable(node.connect())).rejects.toMatchObject({ code: 'ERR_KV_UNAVAILABLE' });
      expect(lost).toBe(1);
      node.fault = () => undefined;
      if (fault === 'lose-before') {
        expect(node.allocatedBytes).toBe(0);
        await createTable(node.connect());
      }
      // The table has its memory.
      expect(node.allocatedBytes).toBeGreaterThan(0);
      const { kv } = await another(node);
      await kv.put(key, key);
      expect(await kv.get(key)).toEqual(key);
    },
  );

  test('an index that does not fit leaves the memory as it was', async () => {
    const node = fakeNode(1024 * 1024);
    await expect(createTable(node.connect(), { subtables: 8 })).rejects.toMatchObject({
      code: 'ERR_KV_NO_MEMORY',
    });
    expect(node.allocatedBytes).toBe(0);
    await createTable(node.connect(), { subtables: 1 });
  });

  test('memory without a table, or with another, is not opened', async () => {
    const node = fakeNode();
    await expect(openTable(node.connect())).rejects.toMatchObject({ code: 'ERR_KV_BAD_TABLE' });
    await createTable(node.connect());
    node.words[SB_LAYOUT_VERSION] = LAYOUT_VERSION + 1;
    await expect(openTable(node.connect())).rejects.toThrow(/layout version/);
    node.words[SB_LAYOUT_VERSION] = LAYOUT_VERSION;
    node.words[SB_MAGIC_LO]! ^= 1;
    await expect(openTable(node.connect())).rejects.toMatchObject({ code: 'ERR_KV_BAD_TABLE' });
    node.words[SB_MAGIC_LO]! ^= 1;
    const kv: Kv = await openTable(node.connect());
    expect(await kv.get(key)).toBeUndefined();
    await kv.close();
    node.words[SB_STATE] = 77;
    await expect(openTable(node.connect())).rejects.toMatchObject({ code: 'ERR_KV_BAD_TABLE' });
  });

  test('bad options', async () => {
    const client = fakeNode().connect();
    for (const options of [
      { subtables: 3 },
      { subtables: 0 },
      { groups: 1 },
      { groups: 2048 },
      { termMs: 1 },
    ]) {
      await expect(createTable(client, options)).rejects.toBeInstanceOf(RangeError);
    }
  });

  test('versions differ between clients', async () => {
    const { node, kv } = await open();
    const others = await Promise.all([another(node), another(node)]);
    const versions = new Set<string | undefined>();
    for (let i = 0; i < 300; i++) {
      for (const table of [kv, ...others.map((o) => o.kv)]) versions.add((await table.put(key, key)).version);
    }
    expect(versions.size).toBe(900);
  });
});
