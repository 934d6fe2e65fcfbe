/**
 * One run: node run.js SEED STEPS [MUTANT], with ./register.js imported first. Prints what it did as JSON; a violation ends it.
 * MUTANT `own-locks`: each directory has a lock table of its own.
 */
import { Directory } from '../../../patronus/memory-node/directory.js';
import { LockTable } from '../../../patronus/memory-node/lock-table.js';
import { type DirectoryOptions, leaseIndices } from '../../../patronus/memory-node/options.js';
import { commonPlace, type Place } from '../../../patronus/memory-node/place.js';
import { STATS_LENGTH, StatIndex } from '../../../patronus/memory-node/stats.js';
import { addressEnd, listenAddress } from '../../../patronus/wire/addresses.js';
import { LEASE_BYTES, type Mix, SimClient } from './client.js';
import { fabric, scheduler } from './fake-native.js';
import { SimDevice } from './nic.js';
import { Oracle, partsOf, Violation } from './oracle.js';

const STEPS = Number(process.argv[3]);
/** Of the node; runs of three seeds in a row have all that there are. */
const DIRECTORIES = 1 + (Number(process.argv[2]) % 3);
const OWN_LOCKS = process.argv[4] === 'own-locks';
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
/** A directory: in its order among the events, a thread of its own. */
interface Running {
  readonly directory: Directory;
  readonly device: SimDevice;
  readonly counters: Float64Array;
  readonly baseline: number;
}
/** The node from a start to its end. */
interface Life {
  readonly options: DirectoryOptions;
  readonly common: ReturnType<typeof commonPlace>;
  /** By their numbers; while it starts, the last ones. */
  readonly running: Running[];
  over: boolean;
}
let node: Life = startNode();

function startNode(): Life {
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
  const life = { options, common: commonPlace(options, DIRECTORIES), running: [], over: false };
  startDirectory(life);
  return life;
}

/** One after the other as PatronusNode.start() does, while those that run already serve. */
function startDirectory(life: Life): void {
  if (life.over) return;
  const { common, running } = life;
  const number = DIRECTORIES - 1 - running.length;
  const place: Place = {
    ...common,
    directory: number,
    memory: running[0]?.directory.memory.publish(),
    others: running.map(({ directory }) => addressEnd(directory.listener.address)),
    locks: OWN_LOCKS ? new SharedArrayBuffer(common.locks.byteLength) : common.locks,
  };
  const options = { ...life.options, listen: listenAddress('loopback:1', number) };
  const device = new SimDevice(fabric);
  const counters = new Float64Array(STATS_LENGTH);
  const directory = new Directory(device, options, new Int32Array(1), counters, place);
  if (running.length === 0) oracle.restart(directory.memory.buffer);
  const started = { directory, device, counters, baseline: fabric.openOf(device).length };
  running.unshift(started);
  scheduler.after(0, () => turn(life, started));
  if (number > 0) scheduler.after(scheduler.between(1e4, 1e6), () => startDirectory(life));
}

/** The machine of the node fails, and starts again. */
function crashNode(): void {
  counts.crashes++;
  node.over = true;
  const listeners = [...fabric.listeners.values()];
  fabric.listeners.clear();
  for (const { device } of node.running) device.dead = true;
  for (const { wires } of listeners) for (const wire of wires) wire.end('closed');
  scheduler.after(scheduler.between(1e5, 1e7), () => {
    node = startNode();
  });
}

function turn(life: Life, running: Running): void {
  if (life.over) return;
  const { directory, device } = running;
  const parts = partsOf(directory);
  if (scheduler.chance(0.1)) parts.look();
  const busy = parts.turn();
  if (parts.leases.deadlines.earliestNs > scheduler.now) oracle.turned(device);
  if (!draining) misfortune();
  const stall = scheduler.chance(faults.stall) ? scheduler.between(0, 3e6) : 0;
  const rest = scheduler.between(500, busy ? 5000 : 20_000) + stall;
  scheduler.after(rest, () => turn(life, running));
}

function misfortune(): void {
  const client = clients[scheduler.between(0, clients.length)]!;
  if (scheduler.chance(faults.cut)) {
    counts.cuts++;
    // A client loses its node with one of the connections to it.
    if (DIRECTORIES > 1 && scheduler.chance(0.5)) client.device?.cutOne();
    else client.device?.cut();
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
  if (running > 0) return `${running} clients run`;
  const { over, options, common } = node;
  if (over || node.running.length < DIRECTORIES) return 'a node that is down';
  const names = ['connections', 'liveLeases', 'allocatedBytes'] as const;
  const rest: string[] = [];
  for (const [number, { counters, baseline, device }] of node.running.entries()) {
    for (const name of names)
      if (counters[StatIndex[name]] !== 0) rest.push(`${name} of directory ${number}`);
    const open = fabric.openOf(device).length - baseline;
    if (open !== 0) rest.push(`${open} objects of the NIC of directory ${number}`);
  }
  const leases = DIRECTORIES * leaseIndices(options);
  const locks = new LockTable(common.locks, leases, common.secret);
  for (let lease = 0; lease < leases; lease++) if (locks.holds(lease)) rest.push(`a lock of lease ${lease}`);
  return rest.join(', ');
};
for (let steps = 0; left() !== '' && steps < 300_000; steps++) await step();
if (left() !== '') throw new Violation(`left at the end: ${left()}`);
process.stdout.write(
  `${JSON.stringify({ ...counts, directories: DIRECTORIES, steps: scheduler.steps, accepted: oracle.accepted, held: oracle.contended })}\n`,
);
process.exit(0);
