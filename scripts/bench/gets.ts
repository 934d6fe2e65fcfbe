import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Kv, openEmbedded, openRemote } from '../../kv/index.js';
import { PatronusNode } from '../../patronus/index.js';
import { formatTable } from './report.js';
import { keyOf } from './ycsb.js';

const RECORDS = [1000, 100_000];
const VALUE_BYTES = 64;
const NODE_BYTES = 128 * 2 ** 20;
/** Gets of a turn: about 2 ms. */
const TURN = 1280;
const MANY = 64;
const WARM_UP_TURNS = 40;

interface Way {
  readonly name: string;
  turn(): Promise<void>;
  readonly ns: number[];
}

/** How long a get takes: ways of getting in turns of about 2 ms, so that whatever else the machine does meets them alike. */
export async function benchGets(turns: number): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-gets-'));
  const node = await PatronusNode.start({
    listen: `unix:${join(folder, 'node')}`,
    allocBytes: NODE_BYTES,
    policy: 'open',
  });
  const shared = await openRemote({ memoryNode: node.endpoint.address });
  const embedded = await openEmbedded({ memoryBytes: NODE_BYTES });
  const rows: string[][] = [];
  let there = 0;
  try {
    for (const records of RECORDS) {
      const keys = Array.from({ length: records }, (_, record) => Buffer.from(keyOf(record), 'latin1'));
      const requests = keys
        .slice(there)
        .map((key) => ({ key, value: new Uint8Array(VALUE_BYTES).fill(0x76) }));
      for (const kv of [shared, embedded]) await kv.putMany(requests);
      there = records;
      const ways = [
        mapGets(records),
        ...storeGets('embedded', embedded, keys),
        ...storeGets('shared memory', shared, keys),
      ];
      await measure(ways, turns);
      process.stderr.write(`gets, ${records} records: ${turns} turns\n`);
      const [map] = ways;
      for (const { name, ns } of ways) {
        const at = (part: number) => Math.round(ns[Math.floor(part * (ns.length - 1))]!);
        const ratio = ns[ns.length >> 1]! / map!.ns[ns.length >> 1]!;
        rows.push([`${records} records, ${name}`, String(at(0.01)), String(at(0.5)), ratio.toFixed(1)]);
      }
    }
  } finally {
    await embedded.close();
    await shared.close();
    await node.close();
    rmSync(folder, { recursive: true, force: true });
  }
  return formatTable(`ns per get, ${turns} turns of ${TURN} gets each`, [
    ['', 'quickest 1 %', 'median', "of the Map's"],
    ...rows,
  ]);
}

async function measure(ways: readonly Way[], turns: number): Promise<void> {
  for (let turn = -WARM_UP_TURNS; turn < turns; turn++) {
    for (const way of ways) {
      const startMs = performance.now();
      await way.turn();
      if (turn >= 0) way.ns.push(((performance.now() - startMs) * 1e6) / TURN);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  for (const { ns } of ways) ns.sort((a, b) => a - b);
}

/** The baseline: what awaiting a value takes by itself. */
function mapGets(records: number): Way {
  const value = new Uint8Array(VALUE_BYTES);
  const keys = Array.from({ length: records }, (_, record) => keyOf(record));
  const map = new Map(keys.map((key) => [key, value]));
  const get = async (key: string) => map.get(key);
  let next = 0;
  return {
    name: 'a Map, awaited',
    ns: [],
    async turn() {
      for (let i = 0; i < TURN; i++) {
        next = scattered(next);
        if ((await get(keys[next % records]!)) === undefined) throw new Error('a record is missing');
      }
    },
  };
}

function storeGets(name: string, kv: Kv, keys: readonly Uint8Array[]): Way[] {
  let next = 0;
  const key = () => {
    next = scattered(next);
    return keys[next % keys.length]!;
  };
  return [
    {
      name: `${name}, one by one`,
      ns: [],
      async turn() {
        for (let i = 0; i < TURN; i++) {
          if ((await kv.get(key()))?.length !== VALUE_BYTES) throw new Error('a record is missing');
        }
      },
    },
    {
      name: `${name}, getMany of ${MANY}`,
      ns: [],
      async turn() {
        for (let i = 0; i < TURN; i += MANY) {
          const values = await kv.getMany(Array.from({ length: MANY }, key));
          if (values.some((value) => value?.length !== VALUE_BYTES)) throw new Error('a record is missing');
        }
      },
    },
  ];
}

/** The same order of records for all. */
function scattered(last: number): number {
  return (Math.imul(last, 1_103_515_245) + 12_345) & 0x7fff_ffff;
}
