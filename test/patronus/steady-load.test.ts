/** What the memory node's loop and the client's accesses allocate on the heap under a steady load. */
import { expect, test } from 'vitest';
import { AcquireFlag, ModifyFlag, Patronus, PatronusNode, RetCode, RwFlag } from '../../patronus/index.js';
import type { DirectoryOptions } from '../../patronus/memory-node/options.js';
import { StatIndex } from '../../patronus/memory-node/stats.js';
import { DirectoryRig } from '../../scripts/bench/patronus/directory-rig.js';

const PIPELINED = 16;
/**
 * The smallest object takes 16 bytes, so one for each second request would be 8. What is left is a new window for
 * every 255th bind.
 */
const MOST_BYTES = 4;
/** Numbers beyond 32 bits, which are objects where they are handed from function to function. */
const LONG_NS = 10e9;
const WARM_UP = 50_000;
const SAMPLES = 21;
const PER_SAMPLE = 3200;
const ATTEMPTS = 5;

/**
 * Bytes of heap for each of the requests, `count` of which one call of `round` makes: the best of some attempts, since the
 * compiler may take long on a busy machine, and what it has not compiled allocates.
 */
function heapPerRequest(round: () => void, count: number): number {
  for (let i = 0; i < WARM_UP / count; i++) round();
  let least = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < ATTEMPTS && least >= MOST_BYTES; attempt++) {
    least = Math.min(least, medianHeap(round, count));
  }
  return least;
}

function medianHeap(round: () => void, count: number): number {
  const perRequest: number[] = [];
  for (let sample = 0; sample < SAMPLES; sample++) {
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < PER_SAMPLE / count; i++) round();
    perRequest.push((process.memoryUsage().heapUsed - before) / PER_SAMPLE);
  }
  // A collection in the middle of a sample makes that one small, and the compiler another one large.
  return perRequest.sort((a, b) => a - b)[SAMPLES >> 1]!;
}

interface Load {
  readonly flags: number;
  readonly options?: Partial<DirectoryOptions>;
  /** The leases are left to expire. */
  readonly expire?: boolean;
}

const loads: [string, Load][] = [
  ['with a header', { flags: 0 }],
  ['without a header', { flags: AcquireFlag.NoBindPR }],
  ['with a lock', { flags: AcquireFlag.WithConflictDetect }],
  ['with memory', { flags: AcquireFlag.WithAllocation }],
  ['with memory that is cleared', { flags: AcquireFlag.WithAllocation, options: { policy: 'owner' } }],
  ['that expire', { flags: 0, expire: true }],
];

test.each(loads)('leases %s come and go without an object for each', (_name, { flags, options, expire }) => {
  const rig = new DirectoryRig(options);
  const request = { flags, offset: 0, size: 64, termNs: expire ? 1000 : LONG_NS };
  const deallocation = (flags & AcquireFlag.WithAllocation) !== 0 ? ModifyFlag.WithDeallocation : 0;
  const allEnded = () => rig.counters[StatIndex.expired] === rig.counters[StatIndex.acquired];
  const bytes = heapPerRequest(() => {
    rig.acquire(PIPELINED, request);
    if (expire) rig.turnUntil(allEnded);
    else rig.relinquish(PIPELINED, deallocation);
  }, 2 * PIPELINED);
  rig.close();
  expect(bytes).toBeLessThan(MOST_BYTES);
});

test('a client accesses memory without an object for each access', async () => {
  const node = await PatronusNode.start();
  const client = await Patronus.connect({ nodes: [node.endpoint] });
  const lease = await client.writeLease({ offset: 0, size: 4096, termNs: 3600e9 });
  const buffer = client.getRdmaBuffer(64);
  const batch = client.createBatch();
  const accesses: Record<string, () => unknown> = {
    read: () => client.read(lease, buffer, 64, 0),
    write: () => client.write(lease, buffer, 64, 0),
    cas: () => client.cas(lease, buffer, 0, 0, 0, 0, 0),
    faa: () => client.faa(lease, buffer, 8, 1, 0),
    'read, extending': () => client.read(lease, buffer, 64, 0, RwFlag.WithAutoExtend),
    'read, cached': () => client.read(lease, buffer, 64, 64, RwFlag.WithCache),
    batch: () => {
      for (let i = 0; i < 8; i++) batch.prepareRead(lease, buffer, 0, 64, 64 * i);
      return batch.commit();
    },
  };
  for (const [name, access] of Object.entries(accesses)) {
    let failed = 0;
    const bytes = heapPerRequest(() => {
      if (access() !== RetCode.Ok) failed++;
    }, 1);
    expect(failed, name).toBe(0);
    expect(bytes, name).toBeLessThan(MOST_BYTES);
  }
  await client.close();
  await node.close();
});
