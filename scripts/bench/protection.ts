import { createTable, type KvProtection, openTable } from '../../kv/index.js';
import { Patronus, PatronusNode } from '../../patronus/index.js';
import { formatTable, median } from './report.js';
import { type BenchStore, kvStore } from './stores.js';
import { keyOf, TURN, YcsbClient, type YcsbName } from './ycsb.js';

const RECORDS = 100_000;
const VALUE_BYTES = 100;
const NODE_BYTES = 512 * 2 ** 20;
const LEASE_BYTES = 64 * 1024;
/** The last is what the others are compared with. By block, an operation is a message to the memory node: not comparable in such turns. */
const KINDS: readonly KvProtection[] = ['region', 'mr', 'none'];
const WORKLOADS: readonly YcsbName[] = ['a', 'b', 'c'];
const WARM_UP_TURNS = 200;
/** The run is cut into so many parts, whose ratios show how sure the whole one's is. */
const PARTS = 5;

/**
 * What protection costs the store: handles of the same table in the same memory, which differ only in what their leases are backed by,
 * in turns of under 2 ms each, so that whatever else the machine does meets them alike.
 */
export async function benchProtection(turns: number): Promise<string> {
  const node = await PatronusNode.start({
    leaseBytes: LEASE_BYTES,
    allocBytes: NODE_BYTES,
    bypass: true,
    policy: 'open',
  });
  const clients: Patronus[] = [];
  const connect = async () => {
    const client = await Patronus.connect({ nodes: [node.endpoint] });
    clients.push(client);
    return client;
  };
  const stores: BenchStore[] = [];
  try {
    await createTable(await connect());
    for (const protection of KINDS)
      stores.push(kvStore(protection, await openTable(await connect(), { protection })));
    const value = new Uint8Array(VALUE_BYTES).fill(0x76);
    for (let record = 0; record < RECORDS; record++) await stores[0]!.put(keyOf(record), value);
    const rows: string[][] = [];
    for (const workload of WORKLOADS) rows.push(...(await measure(stores, workload, turns)));
    const header = ['', 'us per operation', 'rate, of none', `of ${PARTS} parts of the run`];
    return formatTable(
      `what protection costs, ${RECORDS} records, ${turns} turns of ${TURN} operations each`,
      [header, ...rows],
    );
  } finally {
    for (const store of stores) await store[Symbol.asyncDispose]();
    for (const client of clients) await client.close();
    await node.close();
  }
}

async function measure(
  stores: readonly BenchStore[],
  workload: YcsbName,
  turns: number,
): Promise<string[][]> {
  const clients = stores.map((store) => new YcsbClient(store, workload, RECORDS, VALUE_BYTES));
  for (let turn = 0; turn < WARM_UP_TURNS; turn++) for (const client of clients) await client.turn();
  const ms = clients.map(() => [] as number[]);
  for (let turn = 0; turn < turns; turn++) {
    // Each of them comes first as often as any other.
    for (let i = 0; i < clients.length; i++) {
      const index = (i + turn) % clients.length;
      const startMs = performance.now();
      await clients[index]!.turn();
      ms[index]!.push(performance.now() - startMs);
    }
    if (turn % 500 === 0) process.stderr.write(`protection, YCSB ${workload}: ${turn} of ${turns} turns\n`);
  }
  const none = ms.at(-1)!;
  const part = Math.ceil(turns / PARTS);
  return stores.map((store, index) => {
    const own = ms[index]!;
    const ofParts = Array.from({ length: PARTS }, (_, i) => {
      const [from, to] = [i * part, (i + 1) * part];
      return median(none.slice(from, to)) / median(own.slice(from, to));
    });
    return [
      `YCSB ${workload.toUpperCase()}, ${store.name}`,
      ((median(own) * 1000) / TURN).toFixed(2),
      (median(none) / median(own)).toFixed(3),
      `${Math.min(...ofParts).toFixed(3)} to ${Math.max(...ofParts).toFixed(3)}`,
    ];
  });
}
