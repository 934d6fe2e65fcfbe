import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type Kv, KvErrorCode, openEmbedded, openRemote } from '../../kv/index.js';
import { SM } from '../../kv/layout.js';
import { MemoryNodes } from '../../kv/memory-nodes.js';
import { newShardMap, ShardOf } from '../../kv/shard-map.js';
import { openStore } from '../../kv/store.js';
import { Patronus, type PatronusClient, PatronusNode } from '../../patronus/index.js';
import { isLinearizable } from './linearizability.js';
import { NodeProcess } from './processes/node.js';
import { bytesOf, pick, seeded, textOf } from './random.js';
import { histories, type Observation, observe } from './recorder.js';
import { ALL_KINDS } from './runs.js';

const closers: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const NAMES = Array.from({ length: 300 }, (_, i) => `key ${i}`);

/** Memory nodes of this process, with the ids 0, 1, ... */
async function startNodes(count: number): Promise<PatronusNode[]> {
  const nodes: PatronusNode[] = [];
  for (let nodeId = 0; nodeId < count; nodeId++) {
    const node = await PatronusNode.start({ nodeId, policy: 'open', allocBytes: 8 * 1024 * 1024 });
    closers.push(() => node.close());
    nodes.push(node);
  }
  return nodes;
}

async function open(nodes: readonly PatronusNode[], sizes = {}): Promise<Kv> {
  const kv = await openStore(MemoryNodes.at(nodes.map(({ endpoint }) => endpoint)), {}, [], sizes);
  closers.push(() => kv.close());
  return kv;
}

async function remote(addresses: readonly string[]): Promise<Kv> {
  const kv = await openRemote({ memoryNode: addresses });
  closers.push(() => kv.close());
  return kv;
}

/** A client of one of the nodes, beside the store. */
async function beside(node: PatronusNode): Promise<PatronusClient> {
  const client = await Patronus.connect({ nodes: [node.endpoint] });
  closers.push(() => client.close());
  return client;
}

async function scanned(kv: Kv, limit: number): Promise<string[]> {
  const names: string[] = [];
  for (let cursor: string | undefined, first = true; first || cursor !== undefined; first = false) {
    const page = await kv.scan({ limit, ...(cursor !== undefined && { cursor }) });
    for (const key of page.keys) names.push(textOf(key)!);
    cursor = page.cursor;
  }
  return names.sort();
}

/** What an operation ends with: a code for a failure. */
async function outcome(operation: Promise<unknown>): Promise<string> {
  try {
    await operation;
    return 'done';
  } catch (error) {
    return (error as { code: string }).code;
  }
}

describe('the shard map', () => {
  test('gives every node its share of the keys', () => {
    const places = new ShardOf(newShardMap([0, 1, 2]));
    const counts = [0, 0, 0];
    for (let i = 0; i < 30_000; i++) counts[places.index(bytesOf(`key ${i}`))]!++;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(600);
  });

  test('does not take the bytes of the key before', () => {
    const places = new ShardOf(newShardMap([0, 1, 2, 3, 4, 5, 6, 7]));
    const keys = ['a', 'ab', 'abc', 'abcd', 'abcde'].map(bytesOf);
    const before = keys.map((key) => places.index(key));
    for (const [i, key] of keys.entries()) {
      places.index(new Uint8Array(4096).fill(0xff));
      expect(places.index(key)).toBe(before[i]);
    }
  });
});

describe('a store on three memory nodes of this process', () => {
  test('behaves as one', async () => {
    const kv = await openEmbedded({ memoryNodes: 3, memoryBytes: 24 * 1024 * 1024 });
    closers.push(() => kv.close());
    const put = await kv.putMany(NAMES.map((name) => ({ key: bytesOf(name), value: bytesOf(`${name}!`) })));
    expect(put.every(({ outcome }) => outcome === 'created')).toBe(true);
    const many = await kv.getMany([...NAMES, 'absent'].map(bytesOf));
    expect(many.map(textOf)).toEqual([...NAMES.map((name) => `${name}!`), undefined]);
    expect(await scanned(kv, 20)).toEqual([...NAMES].sort());
    expect((await kv.scan({ limit: 1000, prefix: bytesOf('none') })).keys).toEqual([]);
    const usage = await kv.usage();
    expect(usage.records).toBe(NAMES.length);
    expect(usage.subtables).toBe(3);
    expect(kv.stats()).toMatchObject({ puts: NAMES.length, gets: NAMES.length + 1, subtables: 3 });
    for (const name of NAMES.slice(0, 20)) {
      expect(await kv.incr(bytesOf(`counter ${name}`), 3)).toBe(3n);
      const entry = (await kv.getEntry(bytesOf(name)))!;
      expect((await kv.put(bytesOf(name), bytesOf('2'), { ifVersion: entry.version })).outcome).toBe(
        'replaced',
      );
      expect(await kv.has(bytesOf(name))).toBe(true);
      expect(await kv.del(bytesOf(name))).toBe(true);
    }
  });

  test('refuses bad arguments as one on one node does', async () => {
    const kv = await openEmbedded({ memoryNodes: 2, memoryBytes: 16 * 1024 * 1024 });
    closers.push(() => kv.close());
    expect(() => kv.get('key' as never)).toThrow(TypeError);
    expect(() => kv.put(new Uint8Array(0), new Uint8Array(0))).toThrow(RangeError);
    expect(() => kv.del(new Uint8Array(4097))).toThrow(RangeError);
    await expect(kv.getMany([new Uint8Array(0)])).rejects.toBeInstanceOf(RangeError);
    for (const cursor of ['', '0', '2.', '-1.', '0.x', '999.']) {
      await expect(kv.scan({ cursor })).rejects.toBeInstanceOf(RangeError);
    }
    await kv.close();
    await expect(kv.get(bytesOf('key'))).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' });
    await expect(openEmbedded({ memoryNodes: 0 })).rejects.toBeInstanceOf(RangeError);
    await expect(openEmbedded({ memoryNodes: 2, memoryBytes: 4 * 1024 * 1024 })).rejects.toBeInstanceOf(
      RangeError,
    );
  });

  test('clients that open it at the same time agree on one map', async () => {
    const nodes = await startNodes(3);
    const all = await Promise.all([
      open(nodes),
      open([...nodes].reverse()),
      // This one has not heard of the last node yet.
      open(nodes.slice(0, 2)),
    ]);
    const whole = all.slice(0, 2);
    for (const name of NAMES) await pick(Math.random, whole).put(bytesOf(name), bytesOf(name));
    for (const kv of whole) expect((await kv.getMany(NAMES.map(bytesOf))).map(textOf)).toEqual(NAMES);
  });

  test('a node that comes later changes nothing', async () => {
    const nodes = await startNodes(3);
    const kv = await open(nodes.slice(0, 2));
    for (const name of NAMES) await kv.put(bytesOf(name), bytesOf(name));
    const later = await open(nodes);
    expect((await later.getMany(NAMES.map(bytesOf))).map(textOf)).toEqual(NAMES);
    expect((await later.usage()).subtables).toBe(2);
  });

  test('keys of a node that was not named fail, the others work', async () => {
    const nodes = await startNodes(2);
    await (await open(nodes)).close();
    const half = await open(nodes.slice(0, 1));
    const ends = await Promise.all(NAMES.map((name) => outcome(half.put(bytesOf(name), bytesOf(name)))));
    const done = ends.filter((end) => end === 'done').length;
    expect(done).toBeGreaterThan(100);
    expect(ends.filter((end) => end === KvErrorCode.UNAVAILABLE)).toHaveLength(NAMES.length - done);
    await expect(half.get(bytesOf(NAMES[ends.indexOf(KvErrorCode.UNAVAILABLE)]!))).rejects.toThrow(/node 1/);
  });

  test('nodes of different stores, a damaged map and one of another version are refused', async () => {
    const nodes = await startNodes(3);
    await (await open(nodes.slice(0, 2))).close();
    await (await open(nodes.slice(2))).close();
    await expect(open(nodes)).rejects.toMatchObject({ code: 'ERR_KV_BAD_TABLE' });
    const client = await beside(nodes[1]!);
    const lease = await client.writeLease({ offset: 0, size: 4096, termNs: 60e9 });
    const change = async (word: number) => {
      const old = await lease.read(word * 4, 4);
      await lease.write(
        word * 4,
        old.map((byte) => byte ^ 1),
      );
    };
    for (const [word, why] of [
      [SM.VERSION, /shard map is of version/],
      [SM.SEED_LO, /shard map is damaged/],
      [SM.NODES, /shard map is damaged/],
    ] as const) {
      await change(word);
      await expect(open(nodes.slice(0, 2))).rejects.toThrow(why);
      await change(word);
    }
    await (await open(nodes.slice(0, 2))).close();
  });

  test('is linearizable', async () => {
    const nodes = await startNodes(3);
    const tables = [await open(nodes, { groups: 2, termMs: 50 }), await open(nodes), await open(nodes)];
    const clock = () => Number(process.hrtime.bigint());
    const seen: Observation[] = [];
    await Promise.all(
      tables.map(async (kv, client) => {
        const random = seeded(client);
        for (let round = 0; round < 60; round++) {
          const versions = new Map<string, string>();
          for (let i = 0; i < 6; i++) {
            const key = `key ${round}.${Math.floor(random() * 2)}`;
            const task = {
              key,
              kind: pick(random, ALL_KINDS),
              value: `${client}.${round}.${i}`,
              version: versions.get(key),
            };
            const observation = await observe(kv, clock, task);
            if (observation.version !== undefined && observation.result !== 'refused')
              versions.set(key, observation.version);
            seen.push(observation);
          }
          await Promise.all(
            Array.from({ length: 4 }, (_, i) => kv.put(bytesOf(`own ${client}.${round}.${i}`), bytesOf(''))),
          );
        }
      }),
    );
    expect(tables[0]!.stats().subtables).toBeGreaterThan(3);
    for (const [key, history] of histories(seen)) {
      expect(isLinearizable(history), `${key}: ${JSON.stringify(history)}`).toBe(true);
    }
  });
});

describe('a store on memory nodes of other processes', () => {
  test('goes on without one that is killed, and with it when it is back', { timeout: 120_000 }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'patronus-kv-'));
    closers.push(async () => rmSync(folder, { recursive: true }));
    const addresses = [0, 1, 2].map((id) => `unix:${join(folder, `node ${id}`)}`);
    const start = async (id: number) => {
      const node = await NodeProcess.start(addresses[id]!, id);
      closers.push(() => node.kill());
      return node;
    };
    const nodes = await Promise.all([0, 1, 2].map(start));
    const [one, two] = await Promise.all([remote(addresses), remote(addresses)]);
    const put = await one!.putMany(NAMES.map((name) => ({ key: bytesOf(name), value: bytesOf(name) })));
    expect(put).toHaveLength(NAMES.length);
    expect((await two!.getMany(NAMES.map(bytesOf))).map(textOf)).toEqual(NAMES);

    // With operations under way on all nodes.
    const underWay = NAMES.map((name) => outcome(two!.put(bytesOf(name), bytesOf(name))));
    await nodes[1]!.kill();
    for (const end of await Promise.all(underWay)) {
      expect(['done', KvErrorCode.UNAVAILABLE, KvErrorCode.OUTCOME_UNKNOWN]).toContain(end);
    }
    const ends = await Promise.all(NAMES.map((name) => outcome(one!.get(bytesOf(name)))));
    const down = NAMES.filter((_, i) => ends[i] === KvErrorCode.UNAVAILABLE);
    const up = NAMES.filter((_, i) => ends[i] === 'done');
    expect(down.length + up.length).toBe(NAMES.length);
    expect(down.length).toBeGreaterThan(50);
    for (const kv of [one!, two!]) {
      expect((await kv.getMany(up.map(bytesOf))).every((value) => value !== undefined)).toBe(true);
      await expect(kv.getMany(NAMES.map(bytesOf))).rejects.toMatchObject({ code: 'ERR_KV_UNAVAILABLE' });
      const requests = NAMES.map((name) => ({ key: bytesOf(name), value: bytesOf(`${name}, again`) }));
      await expect(kv.putMany(requests)).rejects.toMatchObject({ code: 'ERR_KV_UNAVAILABLE' });
      for (const name of up) expect(textOf(await kv.get(bytesOf(name)))).toBe(`${name}, again`);
      await expect(scanned(kv, 1000)).rejects.toMatchObject({ code: 'ERR_KV_UNAVAILABLE' });
      await expect(kv.usage()).rejects.toMatchObject({ code: 'ERR_KV_UNAVAILABLE' });
    }
    // Who opens it now finds the same nodes for the same keys, whatever it gets to know first.
    const late = await remote([...addresses].reverse());
    for (const name of up) expect(textOf(await late.get(bytesOf(name)))).toBe(`${name}, again`);
    expect(await outcome(late.get(bytesOf(down[0]!)))).toBe(KvErrorCode.UNAVAILABLE);

    await start(1);
    for (const kv of [one!, two!, late]) {
      // It looks for the node when it needs it.
      while ((await outcome(kv.get(bytesOf(down[0]!)))) !== 'done')
        await new Promise((resolve) => setTimeout(resolve, 20));
      for (const name of up) expect(textOf(await kv.get(bytesOf(name)))).toBe(`${name}, again`);
    }
    for (const name of down) {
      expect(await two!.get(bytesOf(name))).toBeUndefined();
      await one!.put(bytesOf(name), bytesOf('new'));
      expect(textOf(await two!.get(bytesOf(name)))).toBe('new');
      expect(textOf(await late.get(bytesOf(name)))).toBe('new');
    }
    expect(await scanned(late, 50)).toEqual([...NAMES].sort());
  });

  test('that is not whole is not made', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'patronus-kv-'));
    closers.push(async () => rmSync(folder, { recursive: true }));
    const address = `unix:${join(folder, 'node')}`;
    const node = await NodeProcess.start(address, 0);
    closers.push(() => node.kill());
    await expect(remote([address, `unix:${join(folder, 'nobody')}`])).rejects.toMatchObject({
      code: 'ERR_PATRONUS_CONNECT',
    });
    await expect(remote([address, address])).rejects.toThrow(/two of the memory nodes have the id 0/);
    await expect(remote([])).rejects.toBeInstanceOf(TypeError);
    await (await remote([address])).close();
  });
});
