/** One run: node run.js SEED STEPS, with ./register.js imported first. Prints what it did as JSON; a violation ends it. */
import { Directory } from '../../../patronus/memory-node/directory.js';
import { STATS_LENGTH, StatIndex } from '../../../patronus/memory-node/stats.js';
import { LEASE_BYTES, type Mix, SimClient } from './client.js';
import { fabric, scheduler } from './fake-native.js';
import { SimDevice } from './nic.js';
import { Oracle, partsOf, Violation } from './oracle.js';

const STEPS = Number(process.argv[3]);
const CLIENTS = 5;
const ALLOC_BYTES = 262_144;

const weight = (most: number): number => (scheduler.chance(0.25) ? 0 : most * scheduler.random());
const mix: Mix = {
  lock: weight(0.6),
  allocate: weight(0.5),
  noExpiry: weight(0.1),
  stray: weight(0.5),
  extend: weight(0.4),
  upgrade: weight(0.4),
  relinquish: weight(0.4),
  noHeader: weight(0.5),
};
/** Of 1, per turn of the node. */
const faults = { cut: weight(6e-4), kill: weight(6e-4), stall: weight(1e-3), crash: weight(2e-4) };
fabric.stalls = weight(0.01);
const epsilonNs = scheduler.chance(0.5) ? 0 : scheduler.between(0, 20_000);

const oracle = new Oracle(fabric);
const counts = { cuts: 0, kills: 0, crashes: 0, operations: 0 };
let clients: SimClient[] = [];
let draining = false;
interface Life {
  readonly directory: Directory;
  readonly device: SimDevice;
  readonly counters: Float64Array;
  readonly baseline: number;
}
let node: Life = startNode();

function startNode(): Life {
  const device = new SimDevice(fabric);
  const counters = new Float64Array(STATS_LENGTH);
  const options = {
    nodeId: 0,
    leaseBytes: LEASE_BYTES,
    allocOffset: LEASE_BYTES,
    allocBytes: ALLOC_BYTES,
    shares: [],
    policy: 'owner',
    bypass: false,
    handover: scheduler.chance(0.7),
    lastWindowFirst: scheduler.chance(0.7),
    maxLeases: 64,
    maxLeasesPerClient: 16,
    maxClients: CLIENTS + 3,
    listen: undefined,
    engineThreads: 1,
  } as const;
  const directory = new Directory(device, options, new Int32Array(1), counters);
  const own = fabric.openOf(device);
  const memories = own.filter((object) => 'buffer' in object) as { buffer: ArrayBuffer }[];
  const data = memories.find(({ buffer }) => buffer.byteLength === LEASE_BYTES + ALLOC_BYTES)!;
  oracle.restart(data.buffer);
  const life = { directory, device, counters, baseline: own.length };
  scheduler.after(0, () => turn(life));
  return life;
}

/** The machine of the node fails, and starts again. */
function crashNode(): void {
  counts.crashes++;
  const listener = fabric.listeners.get('loopback:simulated')!;
  fabric.listeners.clear();
  node.device.dead = true;
  for (const wire of listener.wires) wire.end('closed');
  scheduler.after(scheduler.between(1e5, 1e7), () => {
    node = startNode();
  });
}

function turn(life: Life): void {
  if (life !== node || life.device.dead) return;
  const parts = partsOf(life.directory);
  if (scheduler.chance(0.1)) parts.look();
  const busy = parts.turn();
  // It has looked at the clock at this time, and ended all that was over by then.
  if (parts.leases.deadlines.earliestNs > scheduler.now) oracle.lastTurnNs = scheduler.now;
  if (!draining) misfortune();
  const stall = scheduler.chance(faults.stall) ? scheduler.between(0, 3e6) : 0;
  scheduler.after(scheduler.between(500, busy ? 5000 : 20_000) + stall, () => turn(life));
}

function misfortune(): void {
  const client = clients[scheduler.between(0, clients.length)]!;
  if (scheduler.chance(faults.cut)) {
    counts.cuts++;
    client.device?.cut();
  } else if (scheduler.chance(faults.kill)) {
    counts.kills++;
    counts.operations += client.operations;
    client.kill();
    clients[clients.indexOf(client)] = new SimClient(oracle, mix, epsilonNs);
  } else if (scheduler.chance(faults.crash)) {
    crashNode();
  }
}

async function step(): Promise<void> {
  await scheduler.step();
  oracle.checkLocks();
}

process.on('unhandledRejection', fail);
process.on('uncaughtException', fail);

function fail(error: unknown): never {
  const what =
    error instanceof Violation ? error.message : error instanceof Error ? error.stack : String(error);
  process.stderr.write(`seed ${process.argv[2]}, step ${scheduler.steps}: ${what}\n`);
  process.exit(1);
}

clients = Array.from({ length: CLIENTS }, () => new SimClient(oracle, mix, epsilonNs));
while (scheduler.steps < STEPS) await step();

// All stop, and what they had must come back.
draining = true;
let running = clients.length;
for (const client of clients) {
  counts.operations += client.operations;
  client.stopped = true;
  void client.done.then(() => running--);
}
const left = (): string => {
  const { counters, baseline, device } = node;
  const names = ['connections', 'liveLeases', 'allocatedBytes'] as const;
  const rest = names.filter((name) => counters[StatIndex[name]] !== 0);
  const open = fabric.openOf(device).length - baseline;
  if (open !== 0) rest.push(`${open} objects of the NIC` as never);
  return running > 0 ? `${running} clients run` : rest.join(', ');
};
for (let steps = 0; (left() !== '' || node.device.dead) && steps < 300_000; steps++) await step();
if (left() !== '') throw new Violation(`left at the end: ${left()}`);
process.stdout.write(
  `${JSON.stringify({ ...counts, steps: scheduler.steps, accepted: oracle.accepted, held: oracle.contended })}\n`,
);
process.exit(0);
