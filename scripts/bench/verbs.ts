import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { median, spread } from './report.js';
import type { ClientTask, RunResult, RunTask } from './verbs-client.js';
import type { BenchLink } from './verbs-links.js';
import { VerbsSide } from './verbs-side.js';

export const BATCHES = [1, 4, 16, 64] as const;
/** Each with the baseline that it is compared with. */
export const OPERATIONS: Readonly<Record<string, string>> = {
  'read 64 B': 'memcpy 64 B',
  'read 4 KiB': 'memcpy 4 KiB',
  'write 64 B': 'memcpy 64 B',
  'write 4 KiB': 'memcpy 4 KiB',
  cas: 'empty call',
  faa: 'empty call',
  'send + recv 64 B': 'memcpy 64 B',
  bind: 'empty call',
  rebind: 'empty call',
  invalidate: 'empty call',
};
const BASELINES = ['empty call', 'memcpy 64 B', 'memcpy 4 KiB'];

export interface VerbsSettings {
  readonly clients: number;
  readonly ms: number;
  readonly rounds: number;
}

/** Operations per second of each operation and batch size, all clients together; every round anew, in turns. */
export async function benchVerbs(link: BenchLink, settings: VerbsSettings): Promise<string> {
  const node = new VerbsSide(link.nodeDevice);
  const address = link.address();
  const listener = node.device.listen(node.channel, address === undefined ? undefined : { address });
  const clients: Worker[] = [];
  const accepting = setInterval(() => {
    listener.nextConnection()?.accept([node.newQp()]);
  }, 1);
  try {
    for (let i = 0; i < settings.clients; i++) {
      const workerData: ClientTask = {
        clientDevice: link.clientDevice,
        nodeDevice: link.nodeDevice,
        address: listener.address,
        rkey: node.mr.rkey,
        ownAddress: link.address(),
      };
      const client = new Worker(new URL('./verbs-client.js', import.meta.url), { workerData });
      clients.push(client);
      await once(client, 'message');
    }
    clearInterval(accepting);
    const rates = new Map<string, number[]>();
    const tasks = [
      ...BASELINES.map((operation) => ({ operation, batch: 1, ms: settings.ms })),
      ...Object.keys(OPERATIONS).flatMap((operation) =>
        BATCHES.map((batch) => ({ operation, batch, ms: settings.ms })),
      ),
    ];
    // The first round fills caches and compiles.
    for (let round = -1; round < settings.rounds; round++) {
      for (const task of tasks) {
        const rate = await runOn(clients, task);
        const key = `${task.operation} ${task.batch}`;
        if (round >= 0) rates.set(key, [...(rates.get(key) ?? []), rate]);
      }
    }
    return format(`${link.name}, ${settings.clients} client${settings.clients > 1 ? 's' : ''}`, rates);
  } finally {
    clearInterval(accepting);
    await Promise.all(clients.map((client) => client.terminate()));
    node.device.close();
  }
}

async function runOn(clients: readonly Worker[], task: RunTask): Promise<number> {
  const results = await Promise.all(
    clients.map(async (client) => {
      client.postMessage(task);
      const [result] = (await once(client, 'message')) as [RunResult];
      return (result.operations / result.ns) * 1e9;
    }),
  );
  return results.reduce((sum, rate) => sum + rate, 0);
}

/** A row for each operation: millions per second by batch size, the time of one alone, and what one costs in baselines. */
function format(title: string, rates: ReadonlyMap<string, readonly number[]>): string {
  const at = (operation: string, batch: number) => median(rates.get(`${operation} ${batch}`)!);
  const perSecond = (rate: number) => (rate / 1e6).toFixed(2);
  const header = [
    title,
    ...BATCHES.map((batch) => `M/s x${batch}`),
    'ns x1',
    'ns x64',
    'spread',
    'in baselines',
  ];
  const rows = [
    ...BASELINES.map((name) => [
      name,
      perSecond(at(name, 1)),
      ...BATCHES.slice(1).map(() => ''),
      (1e9 / at(name, 1)).toFixed(0),
      '',
      `${(100 * spread(rates.get(`${name} 1`)!)).toFixed(0)} %`,
      '',
    ]),
    ...Object.entries(OPERATIONS).map(([name, baseline]) => [
      name,
      ...BATCHES.map((batch) => perSecond(at(name, batch))),
      (1e9 / at(name, 1)).toFixed(0),
      (1e9 / at(name, 64)).toFixed(0),
      `${(100 * Math.max(...BATCHES.map((batch) => spread(rates.get(`${name} ${batch}`)!)))).toFixed(0)} %`,
      `${(at(baseline, 1) / at(name, 64)).toFixed(1)} x ${baseline}`,
    ]),
  ];
  const table = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  return table
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
