/**
 * node crash-run.js SEED, with ./register.js imported first: a client is killed at every step of every call of crash-calls.js.
 * Prints what it did as JSON; what is left behind ends it.
 */
import { AcquireFlag, AcquireStatus, type Lease, Patronus, RetCode } from '../../../patronus/index.js';
import { Directory } from '../../../patronus/memory-node/directory.js';
import { STATS_LENGTH, StatIndex } from '../../../patronus/memory-node/stats.js';
import { calls, LOCK_KEY, type Prepare, SIZE, TERM_NS } from './crash-calls.js';
import { fabric, opened, scheduler } from './fake-native.js';
import { SimDevice } from './nic.js';
import { partsOf } from './oracle.js';

const LEASE_BYTES = 65_536;
const SPAN_BYTES = 65_536;
/** One span stays cut into small pieces once there was one; the other one has to come back whole. */
const ALLOC_BYTES = 2 * SPAN_BYTES;
/** All of them can be had again by another client after the death of one that had some. */
const LEASES = 4;
const MOST_STEPS = 50_000;

/** How the node learns of the death: the connection breaks, or by the end of the terms and the connection much later. */
type Death = 'broken' | 'silent';

interface Outcome {
  /** That messages and accesses had made when the client died. */
  readonly steps: readonly string[];
  /** The call had its answer. */
  readonly answered: boolean;
}

class Node {
  readonly device = new SimDevice(fabric);
  readonly counters = new Float64Array(STATS_LENGTH);
  readonly directory: Directory;
  private running = true;

  constructor() {
    const options = {
      nodeId: 0,
      leaseBytes: LEASE_BYTES,
      allocOffset: LEASE_BYTES,
      allocBytes: ALLOC_BYTES,
      shares: [],
      policy: 'open',
      bypass: true,
      handover: true,
      lastWindowFirst: true,
      maxLeases: LEASES,
      maxLeasesPerClient: LEASES,
      maxClients: 2,
      listen: undefined,
      engineThreads: 1,
    } as const;
    this.directory = new Directory(this.device, options, new Int32Array(1), this.counters);
    scheduler.after(0, () => this.turn());
  }

  count(name: keyof typeof StatIndex): number {
    return this.counters[StatIndex[name]]!;
  }

  get objects(): number {
    return fabric.openOf(this.device).length;
  }

  stop(): void {
    this.running = false;
    fabric.listeners.clear();
  }

  private turn(): void {
    if (!this.running) return;
    const parts = partsOf(this.directory);
    if (scheduler.chance(0.1)) parts.look();
    parts.turn();
    scheduler.after(scheduler.between(500, 5000), () => this.turn());
  }
}

async function settle<T>(promise: Promise<T>): Promise<T> {
  let over = false;
  const end = () => {
    over = true;
  };
  promise.then(end, end);
  await until(() => over, 'an answer');
  return promise;
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let steps = 0; !condition(); steps++) {
    if (steps === MOST_STEPS) throw new Error(`waited in vain for ${what}`);
    await scheduler.step();
  }
}

async function connect(): Promise<{ client: Patronus; device: SimDevice }> {
  opened.length = 0;
  const time = { epsilonNs: 0, now: () => scheduler.now };
  const client = await settle(Patronus.connect({ nodes: [{ nodeId: 0, address: 'loopback:1' }], time }));
  return { client, device: opened.shift()! };
}

function expect(condition: boolean, what: string): void {
  if (!condition) throw new Error(what);
}

/** Kill a client when its call has made `steps` steps, or has its answer; then look for what is left of it. */
async function die(prepare: Prepare, steps: number, death: Death): Promise<Outcome> {
  fabric.open.clear();
  const node = new Node();
  const { client: survivor } = await connect();
  // From now on it has all the windows that it will ever need.
  await claimAll(survivor);
  const baseline = node.objects;
  const { client, device } = await connect();
  const call = await settle(prepare(client));
  const made: string[] = [];
  fabric.onTravel = (from, step) => made.push(`${from === device ? 'client' : 'node'} ${step}`);
  // Before the first step: what it posts never leaves it.
  if (steps === 0) device.dead = true;
  let answered = false;
  const done = () => {
    answered = true;
  };
  (async () => call())().then(done, done);
  await null;
  while (steps > 0 && made.length < steps && !answered) await scheduler.step();
  fabric.onTravel = () => {};
  device.dead = true;
  if (death === 'silent') {
    const end = scheduler.now + 4 * TERM_NS;
    await until(() => scheduler.now > end, 'the end of the terms');
    await checkLock(survivor, node);
  }
  device.cut();
  await until(() => node.count('connections') === 1, 'the end of the connection');
  await checkNothingLeft(node, survivor, baseline);
  node.stop();
  await settle(survivor.close());
  return { steps: made, answered };
}

/** Another client gets the lock and the range, unless a lease without an end has them until the connection is over. */
async function checkLock(survivor: Patronus, node: Node): Promise<void> {
  if (node.count('liveLeases') > 0) {
    expect(endless, 'a lease outlives its term');
    return;
  }
  const request = { offset: 0, size: SIZE, termNs: TERM_NS, lockKey: LOCK_KEY };
  const { status, lease } = await settle(
    survivor.getWlease({ ...request, flags: AcquireFlag.WithConflictDetect }),
  );
  expect(status === AcquireStatus.Success, `the lock after the term: status ${status}`);
  expect((await settle(survivor.relinquish(lease!))) === RetCode.Ok, 'no relinquish');
}

let endless = false;
let keeping = false;

async function checkNothingLeft(node: Node, survivor: Patronus, baseline: number): Promise<void> {
  const { leases } = partsOf(node.directory);
  expect(node.count('liveLeases') === 0 && leases.live === 0, `${leases.live} leases live`);
  expect(leases.deadlines.earliestNs === Number.POSITIVE_INFINITY, 'a deadline is left');
  expect(node.count('malformed') === 0, 'a malformed request');
  expect(node.objects === baseline, `${node.objects - baseline} objects of the NIC are left`);
  if (keeping && node.count('allocatedBytes') > 0) await freeKept(survivor);
  expect(node.count('allocatedBytes') === 0, `${node.count('allocatedBytes')} bytes are left`);
  await claimAll(survivor);
}

/** As many leases as there can be, with headers, one of them with the lock; and a whole span of memory. */
async function claimAll(survivor: Patronus): Promise<void> {
  const held: Lease[] = [];
  for (let i = 0; i < LEASES; i++) {
    const flags = i === 0 ? AcquireFlag.WithConflictDetect : 0;
    const request = { offset: 0, size: SIZE, termNs: 100 * TERM_NS, lockKey: LOCK_KEY, flags };
    const { status, lease } = await settle(
      survivor.getWlease(i === 0 ? request : { ...request, lockKey: 0 }),
    );
    expect(status === AcquireStatus.Success, `lease ${i} of another client: status ${status}`);
    held.push(lease!);
  }
  for (const lease of held) {
    expect((await settle(Promise.resolve(survivor.extend(lease, TERM_NS)))) === RetCode.Ok, 'no extension');
    expect((await settle(survivor.relinquish(lease))) === RetCode.Ok, 'no relinquish');
  }
  const { status, address } = await settle(survivor.alloc({ size: SPAN_BYTES }));
  expect(status === AcquireStatus.Success, `a whole span: status ${status}`);
  expect((await settle(survivor.dealloc(address!, SPAN_BYTES))) === RetCode.Ok, 'no deallocation');
}

/** Its client has died before it could tell where it is; under `open` everybody may free it. */
async function freeKept(survivor: Patronus): Promise<void> {
  for (let at = 0; at < ALLOC_BYTES; at += SIZE) {
    const offset = LEASE_BYTES + at;
    if ((await settle(survivor.dealloc({ nodeId: 0, offset }, SIZE))) === RetCode.Ok) return;
  }
}

process.on('unhandledRejection', (error) => {
  process.stderr.write(`${String(error)}\n`);
  process.exit(1);
});

const result: Record<string, string[]> = {};
let deaths = 0;
for (const [name, ways] of Object.entries(calls)) {
  for (const [way, prepare] of Object.entries(ways)) {
    endless = way === 'NoGc' || way === 'all';
    keeping = name === 'keepAllocation' || way === 'keep' || way === 'KeepAllocation';
    const seen = new Set<string>();
    for (const death of ['broken', 'silent'] as const) {
      for (let steps = 0, last = false; !last; steps++) {
        try {
          const outcome = await die(prepare, steps, death);
          for (const step of outcome.steps) seen.add(step);
          if (outcome.answered) seen.add('answered');
          last = steps > 0 && outcome.answered && outcome.steps.length < steps;
          deaths++;
        } catch (error) {
          const why = error instanceof Error ? error.stack : String(error);
          process.stderr.write(
            `seed ${process.argv[2]}, ${name} (${way}), ${death} after ${steps} steps: ${why}\n`,
          );
          process.exit(1);
        }
      }
    }
    result[`${name} ${way}`] = [...seen];
  }
}
process.stdout.write(`${JSON.stringify({ deaths, result })}\n`);
process.exit(0);
