import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { openRemote } from '../../kv/index.js';
import { PatronusNode } from '../../patronus/index.js';
import {
  KEY_BYTES,
  keyOf,
  LATENCY_STEP_NS,
  VALUE_BYTES,
  type WriterResult,
  type WriterTask,
} from './load-writer.js';

/** Block and index of a record, with room to spare. */
const RECORD_BYTES = 160;
const MIN_BYTES = 64 * 2 ** 20;
const CHECKED = 100_000;

export interface Load {
  readonly records: number;
  /** Threads, each with a client of its own. */
  readonly writers: number;
  /** Puts under way at a time, of each writer. */
  readonly inFlight: number;
  /** Over shared-memory rings rather than by loopback. */
  readonly shared: boolean;
}

/**
 * Loads records into one table, and prints how it grew, how full it is, what a record takes, and how long the puts took that
 * met a split.
 */
export async function loadTable(load: Load): Promise<void> {
  const { records, writers, inFlight, shared } = load;
  const folder = mkdtempSync(join(tmpdir(), 'bench-load-'));
  const node = await PatronusNode.start({
    allocBytes: MIN_BYTES + records * RECORD_BYTES,
    policy: 'open',
    ...(shared ? { listen: `unix:${join(folder, 'node')}` } : {}),
  });
  try {
    const { address } = node.endpoint;
    await using kv = await openRemote({ memoryNode: address });
    const slots = kv.stats().slots;
    const startMs = performance.now();
    const results = await write({ ...load, address });
    const seconds = (performance.now() - startMs) / 1000;
    for (let i = 0; i < CHECKED; i++) {
      const key = keyOf(Math.floor((i * records) / CHECKED));
      if ((await kv.get(key))?.length !== VALUE_BYTES) throw new Error('a record is missing');
    }
    const usage = await kv.usage();
    if (usage.records !== records) throw new Error(`${usage.records} records instead of ${records}`);
    const sum = (of: (result: WriterResult) => number) => results.reduce((all, one) => all + of(one), 0);
    const latency = latencies(results);
    const lines = [
      `${records} records of ${KEY_BYTES + VALUE_BYTES} B in ${seconds.toFixed(1)} s, ${Math.round(records / seconds)}/s, ` +
        `${writers} writers, each ${inFlight} at a time, ${shared ? 'shared memory' : 'loopback'}`,
      `${usage.subtables} subtables of ${slots} slots, ${sum(({ splits }) => splits)} splits, ${sum(({ retries }) => retries)} retries`,
      `load factor: ${usage.loadFactor.toFixed(3)}${writers === 1 ? `; at the first split ${(results[0]!.firstSplit / slots).toFixed(3)}` : ''}`,
      `bytes a record: ${(usage.bytes / records).toFixed(1)} block + ${(usage.indexBytes / records).toFixed(1)} index`,
      `puts, ms: ${[0.5, 0.99, 0.999, 0.9999].map((part) => `p${100 * part} ${latency(part).toFixed(3)}`).join(', ')}, longest ${latency(1).toFixed(1)}`,
    ];
    process.stdout.write(`${lines.join('\n')}\n`);
  } finally {
    await node.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function write(load: Load & { readonly address: string }): Promise<WriterResult[]> {
  const threads = Array.from({ length: load.writers }, (_, writer) => {
    const { address, writers, records, inFlight } = load;
    const task: WriterTask = { address, writer, writers, records, inFlight };
    return new Worker(new URL('./load-writer.js', import.meta.url), { workerData: task });
  });
  await Promise.all(threads.map((thread) => once(thread, 'message')));
  return Promise.all(
    threads.map(async (thread) => {
      thread.postMessage('go');
      return (await once(thread, 'message'))[0] as WriterResult;
    }),
  );
}

/** The latency in ms that a part of all puts does not exceed. */
function latencies(results: readonly WriterResult[]): (part: number) => number {
  const counts = results[0]!.latencies.map((_, step) =>
    results.reduce((all, { latencies }) => all + latencies[step]!, 0),
  );
  const long = results.flatMap(({ longNs }) => longNs).sort((a, b) => a - b);
  const short = counts.reduce((all, count) => all + count, 0);
  return (part) => {
    const rank = Math.ceil(part * (short + long.length));
    if (rank > short) return long[rank - short - 1]! / 1e6;
    let seen = 0;
    const step = counts.findIndex((count) => {
      seen += count;
      return seen >= rank;
    });
    return ((step + 1) * LATENCY_STEP_NS) / 1e6;
  };
}
