import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { type NodeStats, Patronus, type PatronusNode } from '../../../patronus/index.js';
import { latenessQuantile } from '../../../patronus/memory-node/stats.js';
import { formatTable } from '../report.js';
import type { BenchSettings } from '../runner.js';
import type { ClockTask } from './clock-thread.js';
import { Sides, withSides } from './sides.js';

const LEASES_UNDER_WAY = 16;
const REVOKED_TERM_NS = 500e3;
const TERMS_NS = [10e3, 100e3, 1e6, 10e6, 100e6, 1e9];
/** Leases of a term at once, beginning at different times. */
const MOST_AT_ONCE = 256;

/** Until a node's thread and the client run compiled code. */
const WARM_UP_MS = 500;

/** How late leases are revoked: by their terms on an idle node, and while clients keep the node busy. */
export async function benchLateness(settings: BenchSettings): Promise<string> {
  const ms = settings.seconds * settings.rounds * 1000;
  const rows: string[][] = [];
  for (const [way, how] of [
    ['polls the clock', 'poll'],
    ['sleeps', 'sleep'],
  ] as const) {
    rows.push([
      `a thread that only ${way}, every ${inUs(REVOKED_TERM_NS)} us`,
      ...(await clockThread(ms, how)),
    ]);
  }
  const add = async (name: string, termNs: number, clients: number) => {
    const stats = await revoked(termNs, ms, clients);
    process.stderr.write(`lateness, ${name}: ${stats.expired} leases\n`);
    const [p50, p99] = [0.5, 0.99].map((quantile) => inUs(latenessQuantile(stats, quantile)));
    rows.push([name, String(stats.expired), p50!, p99!, inUs(stats.lateness.at(-1)?.belowNs ?? 0)]);
  };
  for (const termNs of TERMS_NS) await add(`term ${inUs(termNs)} us`, termNs, 0);
  for (const clients of [1, 2]) {
    const name = `term ${inUs(REVOKED_TERM_NS)} us, ${clients} client${clients > 1 ? 's' : ''} at work`;
    await add(name, REVOKED_TERM_NS, clients);
  }
  const header = ['revoked after the end of the term, us', 'times', 'p50 below', 'p99 below', 'all below'];
  return formatTable('lateness of revocations', [header, ...rows]);
}

/** The baselines: what no loop can do better, and what none that sleeps can. */
async function clockThread(ms: number, how: ClockTask['how']): Promise<string[]> {
  const workerData: ClockTask = { how, everyNs: REVOKED_TERM_NS, ms };
  const worker = new Worker(new URL('./clock-thread.js', import.meta.url), { workerData });
  const [latenessNs] = (await once(worker, 'message')) as [number[]];
  const at = (quantile: number) => inUs(latenessNs[Math.floor(quantile * (latenessNs.length - 1))]!);
  return [String(latenessNs.length), at(0.5), at(0.99), at(1)];
}

/** Let leases of that term expire, for so long and at least once, while so many clients acquire and relinquish others. */
function revoked(termNs: number, ms: number, busyClients: number): Promise<NodeStats> {
  return withSides([Sides.start()], async ({ node, client }) => {
    const others: Patronus[] = [];
    let over = false;
    try {
      for (let i = 0; i < busyClients; i++) others.push(await Patronus.connect({ nodes: [node.endpoint] }));
      const work = others.flatMap((other) =>
        Array.from({ length: LEASES_UNDER_WAY }, async () => {
          while (!over) {
            const lease = await other.writeLease({ offset: 0, size: 64, termNs: 10e9 });
            await lease.relinquish();
          }
        }),
      );
      await letExpire(node, client, REVOKED_TERM_NS, WARM_UP_MS, busyClients === 0);
      const before = node.stats();
      await letExpire(node, client, termNs, ms, busyClients === 0);
      const after = node.stats();
      over = true;
      await Promise.all(work);
      return difference(before, after);
    } finally {
      over = true;
      for (const other of others) await other.close();
    }
  });
}

async function letExpire(
  node: PatronusNode,
  client: Patronus,
  termNs: number,
  ms: number,
  idle: boolean,
): Promise<void> {
  const endMs = performance.now() + ms;
  let left = node.stats().expired;
  do {
    await client.writeLease({ offset: 0, size: 64, termNs });
    left++;
    // In steps that no multiple of fits the term, one lease or many alive at once.
    if (node.stats().liveLeases >= MOST_AT_ONCE) await new Promise((resolve) => setTimeout(resolve, 1));
    else if (idle) await pause(client, 100e3);
  } while (performance.now() < endMs);
  while (node.stats().expired < left) await new Promise((resolve) => setTimeout(resolve, 1));
}

function difference(before: NodeStats, after: NodeStats): NodeStats {
  const counts = new Map(before.lateness.map(({ belowNs, count }) => [belowNs, count]));
  const lateness = after.lateness
    .map(({ belowNs, count }) => ({ belowNs, count: count - (counts.get(belowNs) ?? 0) }))
    .filter(({ count }) => count > 0);
  return { ...after, expired: after.expired - before.expired, lateness };
}

/** Without letting go of the core, which a timer would, and so leave the node's thread alone on the machine. */
async function pause(client: Patronus, ns: number): Promise<void> {
  const until = client.now() + ns * (0.5 + Math.random());
  while (client.now() < until) await new Promise((resolve) => setImmediate(resolve));
}

function inUs(ns: number): string {
  return (ns / 1000).toLocaleString('en-US', { maximumFractionDigits: 1 });
}
