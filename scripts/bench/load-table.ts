import { openEmbedded } from '../../kv/index.js';

const KEY_BYTES = 16;
const VALUE_BYTES = 16;
/** Block and index of a record, with room to spare. */
const RECORD_BYTES = 160;
const MIN_BYTES = 64 * 2 ** 20;
const CHECKED = 100_000;

/** Loads records into one table, and prints how it grew, how full it is and what a record takes. */
export async function loadTable(records: number): Promise<void> {
  await using kv = await openEmbedded({ memoryBytes: MIN_BYTES + records * RECORD_BYTES });
  const value = new Uint8Array(VALUE_BYTES).fill(0x76);
  const key = Buffer.alloc(KEY_BYTES);
  const slots = kv.stats().slots;
  const startMs = performance.now();
  let firstSplit = 0;
  for (let record = 0; record < records; record++) {
    key.writeUInt32LE(record, 0);
    await kv.put(key, value);
    if (firstSplit === 0 && record < slots && kv.stats().splits > 0) firstSplit = record;
  }
  const seconds = (performance.now() - startMs) / 1000;
  for (let i = 0; i < CHECKED; i++) {
    key.writeUInt32LE(Math.floor((i * records) / CHECKED), 0);
    if ((await kv.get(key))?.length !== VALUE_BYTES) throw new Error('a record is missing');
  }
  const { splits, retries } = kv.stats();
  const usage = await kv.usage();
  if (usage.records !== records) throw new Error(`${usage.records} records instead of ${records}`);
  const lines = [
    `${records} records of ${KEY_BYTES + VALUE_BYTES} B in ${seconds.toFixed(1)} s, ${Math.round(records / seconds)}/s`,
    `${usage.subtables} subtables, ${splits} splits, ${retries} retries`,
    `load factor: ${usage.loadFactor.toFixed(3)}; at the first split ${(firstSplit / slots).toFixed(3)}`,
    `bytes a record: ${(usage.bytes / records).toFixed(1)} block + ${(usage.indexBytes / records).toFixed(1)} index`,
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}
