/**
 * The long run: `npm run soak:overwrites -- [OVERWRITES] [SEED]`. Two clients overwrite 10,000 keys with values of up to 200 bytes,
 * some of up to 20,000, in so little memory that a leak of two bytes for each overwrite would end it; at the end every key has
 * its last value.
 */
import { createTable, openTable } from '../../kv/index.js';
import { Patronus, PatronusNode } from '../../patronus/index.js';
import { bytesOf, seeded } from './random.js';

const KEYS = 10_000;
/** What is freed rests for a grace period: faster overwriting takes more, and then waits. */
const MEMORY_BYTES = 48 * 1024 * 1024;
const SESSIONS = 8;
const REPORTS = 10;

const overwrites = Number(process.argv[2] ?? 1e7);
const seed = Number(process.argv[3] ?? 1);
if (!(overwrites >= REPORTS) || !Number.isSafeInteger(seed)) {
  throw new RangeError('usage: overwrites [OVERWRITES] [SEED]');
}

await using node = await PatronusNode.start({ leaseBytes: 4096, allocBytes: MEMORY_BYTES });
await using one = await Patronus.connect({ nodes: [node.endpoint] });
await using two = await Patronus.connect({ nodes: [node.endpoint] });
await createTable(one);
const stores = [await openTable(one), await openTable(two)];
const names = Array.from({ length: KEYS }, (_, i) => bytesOf(`key ${i}`));
const last = new Uint32Array(KEYS);

let done = 0;
async function session(id: number, to: number): Promise<void> {
  const random = seeded(seed * 1000 + id);
  // A key has one writer, so that its last value is known.
  while (done < to) {
    const key = Math.floor((random() * KEYS) / (2 * SESSIONS)) * 2 * SESSIONS + id;
    const value = new Uint8Array(4 + random() * (random() < 0.001 ? 20_000 : 200));
    const mark = done++;
    new DataView(value.buffer).setUint32(0, mark);
    last[key] = mark;
    await stores[id % 2]!.put(names[key]!, value);
  }
}

const from = performance.now();
for (let report = 1; report <= REPORTS; report++) {
  const to = (overwrites / REPORTS) * report;
  await Promise.all(Array.from({ length: 2 * SESSIONS }, (_, id) => session(id, to)));
  const { allocatedBytes } = node.stats();
  const seconds = ((performance.now() - from) / 1000).toFixed(0);
  console.log(`${done} overwrites, ${seconds} s: ${(allocatedBytes / 2 ** 20).toFixed(1)} MiB`);
}
for (const [key, mark] of last.entries()) {
  if (mark === 0) continue;
  const value = await stores[0]!.get(names[key]!);
  if (value === undefined || new DataView(value.buffer, value.byteOffset).getUint32(0) !== mark) {
    throw new Error(`key ${key} has not its last value, seed ${seed}`);
  }
}
for (const kv of stores) await kv.close();
console.log(`${done} overwrites in constant memory, seed ${seed}`);
