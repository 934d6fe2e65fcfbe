/** A writer of a table that is loaded, in a thread of its own: puts its share of the records and tells how long each put took. */
import { parentPort, workerData } from 'node:worker_threads';
import { openRemote } from '../../kv/index.js';

export interface WriterTask {
  readonly address: string;
  /** Of so many writers this one, which puts every so many-th record. */
  readonly writer: number;
  readonly writers: number;
  readonly records: number;
  /** Puts under way at a time. */
  readonly inFlight: number;
}

export interface WriterResult {
  readonly splits: number;
  readonly retries: number;
  /** How many puts took how many times LATENCY_STEP_NS; those that took longer than is counted here, one by one. */
  readonly latencies: Uint32Array;
  readonly longNs: readonly number[];
  /** Its puts when it first knew of a split of its own; 0 for none. */
  readonly firstSplit: number;
}

export const KEY_BYTES = 16;
export const VALUE_BYTES = 16;
export const LATENCY_STEP_NS = 1000;
const STEPS = 10_000;

export function keyOf(record: number): Uint8Array {
  const key = Buffer.alloc(KEY_BYTES);
  key.writeUInt32LE(record, 0);
  return key;
}

async function write(task: WriterTask): Promise<WriterResult> {
  const { writer, writers, records, inFlight } = task;
  const kv = await openRemote({ memoryNode: task.address });
  parentPort!.postMessage('ready');
  await new Promise((resolve) => parentPort!.once('message', resolve));
  const value = new Uint8Array(VALUE_BYTES).fill(0x76);
  const latencies = new Uint32Array(STEPS);
  const longNs: number[] = [];
  let next = writer;
  let puts = 0;
  let firstSplit = 0;
  const flight = async () => {
    while (next < records) {
      const key = keyOf(next);
      next += writers;
      const startMs = performance.now();
      await kv.put(key, value);
      const ns = (performance.now() - startMs) * 1e6;
      const step = Math.floor(ns / LATENCY_STEP_NS);
      if (step < STEPS) latencies[step] = latencies[step]! + 1;
      else longNs.push(ns);
      puts++;
      if (firstSplit === 0 && puts % 16 === 0 && kv.stats().splits > 0) firstSplit = puts;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, flight));
  const { splits, retries } = kv.stats();
  await kv.close();
  return { splits, retries, latencies, longNs, firstSplit };
}

if (parentPort !== null) {
  parentPort.postMessage(await write(workerData as WriterTask));
  parentPort.close();
}
