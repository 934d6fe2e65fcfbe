import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { type NodeStats, Patronus } from '../../../patronus/index.js';
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

/** How late leases are revoked: by their terms on an idle node, and while clients keep the node busy. */
export async function benchLateness(settings: BenchSettings): Promise<string> {
  const rows: string[][] = [];
  const add = (name: string, stats: NodeStats) => {
    process.stderr.write(`lateness, ${name}: ${stats.expired} leases\n`);
    rows.push([
      name,
      String(stats.expired),
      inUs(latenessQuantile(stats, 0.5)),
      inUs(latenessQuantile(stats, 0.99)),
      inUs(stats.latenessMaxNs),
    ]);
  };
  const ms = settings.seconds * settings.rounds * 1000;
  rows.push(await clockThread(ms));
  for (const termNs of TERMS_NS) add(`term ${inUs(termNs)} us`, await revoked(termNs, ms, 0));
  for (const clients of [1, 2]) {
    const name = `term ${inUs(REVOKED_TERM_NS)} us, ${clients} client${clients > 1 ? 's' : ''} at work`;
    add(name, await revoked(REVOKED_TERM_NS, ms, clients));
  }
  const header = ['revoked after the end of the term, us', 'times', 'p50 below', 'p99 below', 'latest'];
  return formatTable('lateness of revocations', [header, ...rows]);
}

/** The baseline: what no loop can do better. */
async function clockThread(ms: number): Promise<string[]> {
  const workerData: ClockTask = { everyNs: REVOKED_TERM_NS, ms };
  const worker = new Worker(new URL('./clock-thread.js', import.meta.url), { workerData });
  const [latenessNs] = (await once(worker, 'message')) as [number[]];
  const at = (quantile: number) => inUs(latenessNs[Math.floor(quantile * (latenessNs.length - 1))]!);
  const name = `a thread that only polls the clock, every ${inUs(REVOKED_TERM_NS)} us`;
  return [name, String(latenessNs.length), at(0.5), at(0.99), at(1)];
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
      const endMs = performance.now() + ms;
      let granted = 0;
      do {
        await client.writeLease({ offset: 0, size: 64, termNs });
        granted++;
        // In steps that no multiple of fits the term, one lease or many alive at once.
        if (node.stats().liveLeases >= MOST_AT_ONCE) await new Promise((resolve) => setTimeout(resolve, 1));
        else if (busyClients === 0) await pause(client, 100e3);
      } while (performance.now() < endMs);
      while (node.stats().expired < granted) await new Promise((resolve) => setTimeout(resolve, 1));
      over = true;
      await Promise.all(work);
      return node.stats();
    } finally {
      over = true;
      for (const other of others) await other.close();
    }
  });
}

/** Without letting go of the core, which a timer would, and so leave the node's thread alone on the machine. */
async function pause(client: Patronus, ns: number): Promise<void> {
  const until = client.now() + ns * (0.5 + Math.random());
  while (client.now() < until) await new Promise((resolve) => setImmediate(resolve));
}

function inUs(ns: number): string {
  return (ns / 1000).toLocaleString('en-US', { maximumFractionDigits: 1 });
}
