import { once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test } from 'vitest';
import { createTable, type Kv, openEmbedded, openTable } from '../../kv/index.js';
import { Patronus, type PatronusClient, PatronusNode } from '../../patronus/index.js';
import { isLinearizable } from './linearizability.js';
import { bytesOf, pick, seeded, textOf } from './random.js';
import { histories, type Observation } from './recorder.js';

const closers: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function startNode(allocBytes = 16 * 1024 * 1024): Promise<PatronusNode> {
  const node = await PatronusNode.start({ leaseBytes: 4096, allocBytes });
  closers.push(() => node.close());
  return node;
}

async function connect(node: PatronusNode): Promise<PatronusClient> {
  const client = await Patronus.connect({ nodes: [node.endpoint] });
  closers.push(() => client.close());
  return client;
}

async function embedded(memoryBytes?: number): Promise<Kv> {
  const kv = await openEmbedded(memoryBytes === undefined ? {} : { memoryBytes });
  closers.push(() => kv.close());
  return kv;
}

describe('embedded', () => {
  test('stores, finds and forgets', async () => {
    const kv = await embedded();
    const key = bytesOf('key');
    expect((await kv.put(key, bytesOf('one'))).outcome).toBe('created');
    const entry = (await kv.getEntry(key))!;
    expect(textOf(entry.value)).toBe('one');
    expect((await kv.put(key, bytesOf('two'), { ifAbsent: true })).version).toBe(entry.version);
    expect(await kv.del(key)).toBe(true);
    expect(await kv.get(key)).toBeUndefined();
    expect(kv.stats().subtables).toBe(1);
    await kv.close();
    await expect(kv.get(key)).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' });
  });

  test('behaves as a map does', async () => {
    const kv = await embedded(4 * 1024 * 1024);
    const random = seeded(21);
    const model = new Map<string, Uint8Array>();
    for (let i = 0; i < 4000; i++) {
      const name = `key ${Math.floor(random() * 300)}`;
      if (random() < 0.4) {
        const value = new Uint8Array(random() < 0.97 ? random() * 300 : random() * 20_000).fill(i);
        expect((await kv.put(bytesOf(name), value)).outcome).toBe(model.has(name) ? 'replaced' : 'created');
        model.set(name, value);
      } else if (random() < 0.3) {
        expect(await kv.del(bytesOf(name))).toBe(model.delete(name));
      } else {
        const found = await kv.get(bytesOf(name));
        const expected = model.get(name);
        expect(found === undefined).toBe(expected === undefined);
        if (found && expected) expect(Buffer.compare(found, expected)).toBe(0);
      }
    }
  });

  test('many operations at once', async () => {
    const kv = await embedded(16 * 1024 * 1024);
    const names = Array.from({ length: 5000 }, (_, i) => `key ${i}`);
    const written = await Promise.all(names.map((name) => kv.put(bytesOf(name), bytesOf(name))));
    expect(new Set(written.map(({ version }) => version)).size).toBe(names.length);
    const read = await Promise.all(names.map((name) => kv.get(bytesOf(name))));
    expect(read.map(textOf)).toEqual(names);
  });

  test('a table is well filled when it is split for the first time', async () => {
    const kv = await embedded(32 * 1024 * 1024);
    const { slots } = kv.stats();
    let records = 0;
    for (; kv.stats().splits === 0; records++) await kv.put(bytesOf(`key ${records}`), bytesOf(''));
    expect(records / slots).toBeGreaterThan(0.8);
    const usage = await kv.usage();
    expect(usage).toMatchObject({ records, subtables: 2, slots: 2 * slots, bytes: records * 64 });
    expect(usage.loadFactor).toBe(records / (2 * slots));
  });

  test('keys that have expired go away by themselves', async () => {
    const kv = await embedded();
    for (let i = 0; i < 200; i++) await kv.put(bytesOf(`short ${i}`), bytesOf('x'), { ttlMs: 1 });
    await kv.put(bytesOf('long'), bytesOf('x'), { ttlMs: 1e6 });
    while ((await kv.usage()).records > 1) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(await kv.has(bytesOf('long'))).toBe(true);
  });

  test.each([1, 2])('values have the limit that is asked for, on %i nodes', async (memoryNodes) => {
    const kv = await openEmbedded({ memoryNodes, memoryBytes: 8 * 1024 * 1024, maxValueBytes: 1000 });
    closers.push(() => kv.close());
    expect(kv.maxValueBytes).toBe(1000);
    for (let i = 0; i < 10; i++) {
      expect(() => kv.put(bytesOf(`key ${i}`), new Uint8Array(1001))).toThrow(RangeError);
      await kv.put(bytesOf(`key ${i}`), new Uint8Array(1000));
    }
    await expect(openEmbedded({ maxValueBytes: 65 * 1024 * 1024 })).rejects.toBeInstanceOf(RangeError);
  });

  test('too little memory is refused', async () => {
    await expect(openEmbedded({ memoryBytes: 1024 * 1024 })).rejects.toBeInstanceOf(RangeError);
  });
});

describe('protection', () => {
  test.each(['region', 'block', 'mr', 'none'] as const)('%s: the same results', async (protection) => {
    const kv = await openEmbedded({ memoryBytes: 16 * 1024 * 1024, protection });
    closers.push(() => kv.close());
    const random = seeded(3);
    const model = new Map<string, Uint8Array>();
    for (let i = 0; i < 1500; i++) {
      const name = `key ${Math.floor(random() * 200)}`;
      if (random() < 0.5) {
        const value = new Uint8Array(random() < 0.95 ? random() * 300 : random() * 40_000).fill(i);
        await kv.put(bytesOf(name), value);
        model.set(name, value);
      } else if (random() < 0.2) expect(await kv.del(bytesOf(name))).toBe(model.delete(name));
      else
        expect(Buffer.from((await kv.get(bytesOf(name))) ?? [])).toEqual(Buffer.from(model.get(name) ?? []));
    }
    const names = [...model.keys()];
    const many = await kv.getMany(names.map(bytesOf));
    for (const [i, value] of many.entries()) expect(Buffer.compare(value!, model.get(names[i]!)!)).toBe(0);
    expect(await kv.incr(bytesOf('counter'))).toBe(1n);
    expect(await kv.incr(bytesOf('counter'))).toBe(2n);
    expect((await kv.usage()).records).toBe(model.size + 1);
  });

  test('an unknown one is refused; none needs a node that allows it', async () => {
    await expect(openEmbedded({ protection: 'some' as never })).rejects.toBeInstanceOf(RangeError);
    const node = await startNode();
    await createTable(await connect(node));
    await expect(openTable(await connect(node), { protection: 'none' })).rejects.toMatchObject({
      code: 'ERR_KV_UNAVAILABLE',
    });
  });
});

describe('large values', () => {
  test('are never torn, whoever writes and reads them at the same time', async () => {
    const MAX = 16 * 1024 * 1024;
    const node = await startNode(160 * 1024 * 1024);
    await createTable(await connect(node), { termMs: 200 });
    const kv = await openTable(await connect(node));
    closers.push(() => kv.close());
    const key = bytesOf('large');
    await kv.put(key, new Uint8Array(MAX));
    expect(() => kv.put(key, new Uint8Array(MAX + 1))).toThrow(RangeError);
    let writing = 2;
    const writers = [
      [MAX - 1, 1_000_003, MAX - 2, 300_001],
      [300_002, MAX - 3, 1_000_004, MAX - 4],
    ].map(async (sizes) => {
      const workerData = { endpoint: node.endpoint, sizes };
      const worker = new Worker(new URL('./large-writer.js', import.meta.url), { workerData });
      closers.push(() => worker.terminate());
      // Rejects with what the writer throws.
      await once(worker, 'exit').finally(() => writing--);
    });
    const written = Promise.all(writers);
    written.catch(() => undefined);
    do {
      const seen = (await kv.get(key))!;
      const whole = Buffer.alloc(seen.length, seen.length % 256);
      expect(whole.equals(seen), `${seen.length} bytes`).toBe(true);
      await setImmediate();
    } while (writing > 0);
    await written;
  });
});

describe('making a table', () => {
  const INDEX_BYTES = 256 * 1024;

  /** The client, but at its n-th call of those it is gone: before the node gets it, or after. */
  function dyingAt(client: PatronusClient, step: number, after: boolean): PatronusClient {
    let calls = 0;
    return new Proxy(client, {
      get(target, name) {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== 'function') return member;
        if (!['getWlease', 'cas', 'write', 'keepAllocation', 'relinquish'].includes(String(name)))
          return member.bind(target);
        return async (...args: unknown[]) => {
          const dies = ++calls >= step;
          if (dies && !after) await target.close();
          const result: unknown = await member.apply(target, args);
          if (!dies) return result;
          await target.close();
          throw new Error('gone');
        };
      },
    });
  }

  test.each(['before', 'after'])(
    'a client that dies %s any step of it leaves nothing in the way',
    async (when) => {
      const leaks: number[] = [];
      for (let step = 1, died = true; died; step++) {
        const node = await startNode(4 * 1024 * 1024);
        await createTable(dyingAt(await connect(node), step, when === 'after')).then(
          () => {
            died = false;
          },
          () => undefined,
        );
        const next = await connect(node);
        for (let made = false; !made; ) {
          // The node may not have noticed yet that the first one is gone. And that may have been ready.
          made = await createTable(next).then(
            () => true,
            (error: { code: string }) => {
              expect(error.code).toBe('ERR_KV_BAD_TABLE');
              return openTable(next).then(
                (kv) => kv.close().then(() => true),
                () => false,
              );
            },
          );
        }
        if (node.stats().allocatedBytes >= 2 * INDEX_BYTES) leaks.push(step);
        const kv = await openTable(next);
        await kv.put(bytesOf('key'), bytesOf('value'));
        expect(textOf(await kv.get(bytesOf('key')))).toBe('value');
        await kv.close();
        for (const close of closers.splice(0).reverse()) await close();
      }
      // Only between the call that makes the memory stay and the one that publishes the table.
      expect(leaks.length).toBeLessThanOrEqual(1);
    },
  );

  test('whoever comes second while it is made is told so', async () => {
    const node = await startNode();
    const first = await connect(node);
    const second = await connect(node);
    const results = await Promise.allSettled([createTable(first), createTable(second)]);
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const kv = await openTable(second);
    expect(await kv.get(bytesOf('key'))).toBeUndefined();
    await kv.close();
  });
});

describe('on a memory node', () => {
  test.each([2, 3])('with %i directories: index and values lie in all of them', async (directories) => {
    const node = await PatronusNode.start({ leaseBytes: 65536, allocBytes: 4 * 1024 * 1024, directories });
    closers.push(() => node.close());
    await createTable(await connect(node), { groups: 8 });
    const stores = await Promise.all(
      Array.from({ length: 3 }, async () => {
        const kv = await openTable(await connect(node));
        closers.push(() => kv.close());
        return kv;
      }),
    );
    const random = seeded(directories);
    const model = new Map<string, Uint8Array>();
    for (let round = 0; round < 40; round++) {
      const writes = Array.from({ length: 24 }, (_, i) => async () => {
        const name = `key ${round % 20} ${i}`;
        const kv = stores[Math.floor(random() * 3)]!;
        if (random() < 0.2) {
          expect(await kv.del(bytesOf(name))).toBe(model.delete(name));
          return;
        }
        const value = new Uint8Array(random() < 0.9 ? random() * 500 : random() * 20_000).fill(i);
        await kv.put(bytesOf(name), value);
        model.set(name, value);
      });
      await Promise.all(writes.map((write) => write()));
    }
    const names = [...model.keys()];
    for (const kv of stores) {
      const values = await kv.getMany(names.map(bytesOf));
      for (const [i, value] of values.entries()) {
        expect(Buffer.compare(value!, model.get(names[i]!)!)).toBe(0);
      }
    }
    expect((await stores[0]!.usage()).records).toBe(model.size);
    expect(stores.reduce((sum, kv) => sum + kv.stats().splits, 0)).toBeGreaterThan(0);
    for (const { allocatedBytes, acquired } of node.directoryStats()) {
      expect(allocatedBytes).toBeGreaterThan(0);
      expect(acquired).toBeGreaterThan(0);
    }
  });

  test('survives the end of its leases, in use and idle', async () => {
    const node = await startNode();
    await createTable(await connect(node), { termMs: 20 });
    const kv = await openTable(await connect(node));
    closers.push(() => kv.close());
    const key = bytesOf('key');
    const until = performance.now() + 500;
    for (let i = 0; performance.now() < until; i++) {
      await kv.put(key, bytesOf(`${i}`));
      expect(textOf(await kv.get(key))).toBe(`${i}`);
      if (i % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      // The process stands still for longer than a term.
      if (i % 1000 === 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30);
    }
    // What is under way may still arrive.
    await new Promise((resolve) => setTimeout(resolve, 100));
    const { leaseRenewals } = kv.stats();
    expect(leaseRenewals).toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(kv.stats().leaseRenewals).toBe(leaseRenewals);
    expect(await kv.has(key)).toBe(true);
  });

  test('what a client has stored stays when it goes', async () => {
    const node = await startNode();
    const first = await Patronus.connect({ nodes: [node.endpoint] });
    await createTable(first);
    const writer = await openTable(first);
    for (let i = 0; i < 1000; i++) await writer.put(bytesOf(`key ${i}`), new Uint8Array(i));
    await writer.close();
    await first.close();
    const reader = await openTable(await connect(node));
    closers.push(() => reader.close());
    for (let i = 0; i < 1000; i++) expect((await reader.get(bytesOf(`key ${i}`)))!.length).toBe(i);
    for (let i = 0; i < 1000; i++)
      await reader.put(bytesOf(`key ${pick(Math.random, [i, 0])}`), new Uint8Array(10));
  });

  test('clients in several threads are linearizable', async () => {
    const node = await startNode();
    await createTable(await connect(node), { subtables: 1, groups: 2, termMs: 50 });
    const threads = [1, 2, 3, 4].map((seed) => {
      const workerData = { endpoint: node.endpoint, seed, rounds: 12, operations: 7 };
      const worker = new Worker(new URL('./thread-client.js', import.meta.url), { workerData });
      const messages: unknown[] = [];
      const waiting: ((message: unknown) => void)[] = [];
      const failed = new Promise<never>((_, reject) => worker.once('error', reject));
      worker.on('message', (message) => {
        const next = waiting.shift();
        if (next === undefined) messages.push(message);
        else next(message);
      });
      closers.push(() => worker.terminate());
      const next = () =>
        Promise.race([
          failed,
          new Promise<unknown>((resolve) => {
            if (messages.length > 0) resolve(messages.shift());
            else waiting.push(resolve);
          }),
        ]);
      return { worker, next };
    });
    await Promise.all(threads.map(({ next }) => next()));
    for (const { worker } of threads) worker.postMessage('go');
    const seen = (await Promise.all(threads.map(({ next }) => next()))) as Observation[][];
    const byKey = histories(seen.flat());
    expect(byKey.size).toBe(12);
    for (const [key, history] of byKey) {
      expect(isLinearizable(history), `${key}: ${JSON.stringify(history)}`).toBe(true);
    }
  });

  test('a table grows while clients are killed: what was put is there', async () => {
    const node = await startNode(64 * 1024 * 1024);
    await createTable(await connect(node), { subtables: 1, groups: 4, termMs: 50 });
    const put = new Map<string, string>();
    const run = (seed: number, count: number, killAfter: number) =>
      new Promise<void>((resolve, reject) => {
        const workerData = { endpoint: node.endpoint, seed, count };
        const worker = new Worker(new URL('./growing-client.js', import.meta.url), { workerData });
        let left = killAfter;
        worker.on('message', (message: 'ready' | [string, string]) => {
          if (message !== 'ready') put.set(...message);
          if (--left === 0) void worker.terminate();
        });
        worker.once('error', reject);
        worker.once('exit', () => resolve());
      });
    // Two that stay, and one after the other that are killed, mostly in the middle of something.
    const staying = [run(1, 1000, -1), run(2, 1000, -1)];
    for (let seed = 3; seed < 9; seed++) await run(seed, 10_000, 40 * seed);
    await Promise.all(staying);
    const reader = await openTable(await connect(node));
    closers.push(() => reader.close());
    expect(put.size).toBeGreaterThan(1500);
    for (const [name, value] of put) {
      // What a killed client had under way may have come after what it told.
      const found = Number(textOf(await reader.get(bytesOf(name))));
      expect(found, name).toBeGreaterThanOrEqual(Number(value));
    }
    expect(reader.stats().subtables).toBeGreaterThan(16);
    // No lock and no half-done split is left: every subtable can go on growing.
    for (let i = 0; i < 1500; i++) await reader.put(bytesOf(`more ${i}`), bytesOf('x'));
    const usage = await reader.usage();
    expect(usage.records).toBeGreaterThanOrEqual(put.size + 1500);
    expect(usage.records).toBeLessThanOrEqual(put.size + 1500 + 6);
  }, 120_000);
});
