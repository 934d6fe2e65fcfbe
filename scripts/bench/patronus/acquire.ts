import { AcquireFlag, ModifyFlag, type PatronusClient } from '../../../patronus/index.js';
import { type Comparison, formatTable, median, spread } from '../report.js';
import { type BenchSettings, compare } from '../runner.js';
import { type CpuPerLease, OneThread } from './one-thread.js';
import { processCpuNs, Sides, threadCpuNs, withSides } from './sides.js';

const SIZE = 64;
const TERM_NS = 10e9;
const DEPTHS = [1, 4, 16, 64];
/** Requests under way where something else than their number is compared. */
const DEPTH = 16;

const KINDS: readonly (readonly [string, number])[] = [
  ['window and header', 0],
  ['window, no header', AcquireFlag.NoBindPR],
  ['memory region, no header', AcquireFlag.UseMR | AcquireFlag.NoBindPR],
  ['no permission', AcquireFlag.NoBindAny],
  ['window, header, allocation', AcquireFlag.WithAllocation],
];

/** Of a lease that was acquired and relinquished. */
interface PerLease {
  readonly perSecond: number;
  /** Of the acquire alone. */
  readonly latencyUsP50: number;
  readonly latencyUsP99: number;
  readonly clientCpuNs: number;
  /** The memory node's thread, mostly. */
  readonly otherCpuNs: number;
}

/** Leases that a client acquires and gives back, by what kind of lease it is. */
export function benchKinds(settings: BenchSettings): Promise<Comparison> {
  return withSides([Sides.start()], ({ client }) =>
    compare(
      `leases acquired and relinquished by one client, ${DEPTH} under way`,
      KINDS.map(([name, flags]) => ({
        name,
        run: async (seconds) => (await acquireAndRelinquish(client, flags, DEPTH, seconds)).perSecond,
      })),
      settings,
    ),
  );
}

/** The same by how many are under way, with latency and CPU time. */
export function benchDepths(settings: BenchSettings): Promise<string> {
  return withSides([Sides.start()], async ({ client }) => {
    const runs = new Map<number, PerLease[]>(DEPTHS.map((depth) => [depth, []]));
    for (let round = -1; round < settings.rounds; round++) {
      for (const [depth, results] of runs) {
        const result = await acquireAndRelinquish(client, 0, depth, settings.seconds);
        process.stderr.write(
          `${depth} under way: ${Math.round(result.perSecond).toLocaleString('en-US')}/s\n`,
        );
        if (round >= 0) results.push(result);
      }
    }
    const header = [
      'under way',
      'median/s',
      'spread',
      'p50 us',
      'p99 us',
      'CPU ns, client',
      'CPU ns, others',
    ];
    const rows = [...runs].map(([depth, results]) => {
      const of = (name: keyof PerLease) => median(results.map((result) => result[name]));
      return [
        String(depth),
        Math.round(of('perSecond')).toLocaleString('en-US'),
        `${(100 * spread(results.map(({ perSecond }) => perSecond))).toFixed(0)} %`,
        of('latencyUsP50').toFixed(1),
        of('latencyUsP99').toFixed(1),
        of('clientCpuNs').toFixed(0),
        of('otherCpuNs').toFixed(0),
      ];
    });
    return formatTable('leases acquired (latency) and relinquished by one client, window and header', [
      header,
      ...rows,
    ]);
  });
}

/**
 * The CPU time of both sides where neither waits for the other: on one thread, in turns. Between threads a side that waits
 * polls, and what that takes depends on who else is on the machine.
 */
export async function benchCpu(settings: BenchSettings): Promise<string> {
  const both = await OneThread.start();
  try {
    const runs = new Map<number, CpuPerLease[]>(DEPTHS.map((depth) => [depth, []]));
    for (let round = -1; round < settings.rounds; round++) {
      for (const [depth, results] of runs) {
        const result = await both.cpuOf(() => acquireAndRelinquish(both.client, 0, depth, settings.seconds));
        process.stderr.write(
          `one thread, ${depth} under way: ${Math.round(result.client)} ns of the client\n`,
        );
        if (round >= 0) results.push(result);
      }
    }
    const rows = [...runs].map(([depth, results]) => [
      String(depth),
      cpuCell(results.map(({ directory }) => directory)),
      cpuCell(results.map(({ client }) => client)),
    ]);
    const title =
      'CPU time of a lease that is acquired and relinquished, both sides on one thread, ns (spread)';
    return formatTable(title, [['under way', 'directory', 'client'], ...rows]);
  } finally {
    await both.close();
  }
}

function cpuCell(values: readonly number[]): string {
  return `${Math.round(median(values)).toLocaleString('en-US')} (${(100 * spread(values)).toFixed(0)} %)`;
}

async function acquireAndRelinquish(
  client: PatronusClient,
  flags: number,
  depth: number,
  seconds: number,
): Promise<PerLease> {
  const deallocation = (flags & AcquireFlag.WithAllocation) !== 0 ? ModifyFlag.WithDeallocation : 0;
  const request = { offset: 0, size: SIZE, termNs: TERM_NS, flags };
  const latenciesNs: number[] = [];
  const startNs = client.now();
  const endNs = startNs + seconds * 1e9;
  const cpu = { client: threadCpuNs(), all: processCpuNs() };
  const loop = async () => {
    let nowNs = startNs;
    do {
      const lease = await client.writeLease(request);
      latenciesNs.push(client.now() - nowNs);
      await lease.relinquish(deallocation);
      nowNs = client.now();
    } while (nowNs < endNs);
  };
  await Promise.all(Array.from({ length: depth }, loop));
  const clientCpuNs = threadCpuNs() - cpu.client;
  const otherCpuNs = processCpuNs() - cpu.all - clientCpuNs;
  const wallNs = client.now() - startNs;
  const count = latenciesNs.length;
  latenciesNs.sort((a, b) => a - b);
  const quantile = (q: number) => latenciesNs[Math.floor(q * (count - 1))]! / 1000;
  return {
    perSecond: (count / wallNs) * 1e9,
    latencyUsP50: quantile(0.5),
    latencyUsP99: quantile(0.99),
    clientCpuNs: clientCpuNs / count,
    otherCpuNs: otherCpuNs / count,
  };
}
