import { AcquireFlag, ModifyFlag } from '../../../patronus/index.js';
import type { DirectoryOptions } from '../../../patronus/memory-node/options.js';
import { type Comparison, median } from '../report.js';
import { type BenchSettings, type Contender, compare } from '../runner.js';
import { BareVerbs } from './bare-verbs.js';
import { DirectoryRig, RIG_DEPTH, type RigRequest } from './directory-rig.js';

const TERM_NS = 10e9;
const SIZE = 64;
/** Windows in the pools where the order of taking them is compared: more than a level of the cache holds. */
const POOLED_LEASES = 8192;
const ALLOC_BYTES = 2 ** 22;

const KINDS: readonly (readonly [string, number])[] = [
  ['window and header', 0],
  ['window, no header', AcquireFlag.NoBindPR],
  ['memory region, no header', AcquireFlag.UseMR | AcquireFlag.NoBindPR],
  ['no permission', AcquireFlag.NoBindAny],
  ['window, header, lock', AcquireFlag.WithConflictDetect],
  ['window, header, allocation', AcquireFlag.WithAllocation],
];

/** What the memory node's loop takes of its thread for a lease, without threads to wait for: see DirectoryRig. */
export async function benchDirectory(settings: BenchSettings): Promise<Comparison[]> {
  const comparisons: Comparison[] = [];
  const verbs = new BareVerbs();
  const rigs: { close(): void }[] = [verbs];
  const rig = (options: Partial<DirectoryOptions> = {}) => {
    const made = new DirectoryRig({ allocBytes: ALLOC_BYTES, ...options });
    rigs.push(made);
    return made;
  };
  try {
    const shared = rig();
    comparisons.push(
      await compare(
        `directory: leases granted and ended per second of its loop, ${RIG_DEPTH} requests a batch`,
        [verbsAlone(verbs), ...KINDS.map(([name, flags]) => pairs(name, shared, flags, RIG_DEPTH))],
        settings,
      ),
      await compare(
        'directory: the same with a window and a header, by requests a batch',
        [1, 4, 16, 32].map((depth) => pairs(`${depth}`, shared, 0, depth)),
        settings,
      ),
      await compare(
        'directory: leases that end and begin in the same batch',
        [
          exchanges('handover', rig()),
          exchanges('no handover', rig({ handover: false })),
          exchanges('no handover, last window first', pooled(rig, true)),
          exchanges('no handover, first window first', pooled(rig, false)),
        ],
        settings,
      ),
    );
    return comparisons;
  } finally {
    for (const made of rigs) made.close();
  }
}

function pooled(
  rig: (options: Partial<DirectoryOptions>) => DirectoryRig,
  lastWindowFirst: boolean,
): DirectoryRig {
  const options = { handover: false, lastWindowFirst };
  const made = rig({ ...options, maxLeases: POOLED_LEASES, maxLeasesPerClient: POOLED_LEASES });
  made.fillPool(POOLED_LEASES, { flags: 0, offset: 0, size: SIZE, termNs: TERM_NS });
  return made;
}

function request(flags: number): RigRequest {
  return { flags, offset: 0, size: SIZE, termNs: TERM_NS };
}

/** Batches of grants and of ends in turns; a rate of both together. */
function pairs(name: string, rig: DirectoryRig, flags: number, depth: number): Contender {
  const deallocation = (flags & AcquireFlag.WithAllocation) !== 0 ? ModifyFlag.WithDeallocation : 0;
  const asked = request(flags);
  return contender(name, rig, depth, () => {
    rig.acquire(depth, asked);
    rig.relinquish(depth, deallocation);
  });
}

function exchanges(name: string, rig: DirectoryRig): Contender {
  const half = RIG_DEPTH / 2;
  const asked = request(0);
  rig.acquire(half, asked);
  return contender(name, rig, half, () => rig.exchangeLeases(half, asked, 0));
}

function verbsAlone(verbs: BareVerbs): Contender {
  return contender('the verbs of a window and header', verbs, RIG_DEPTH, () => verbs.round());
}

/** By the median of the rounds, which the scheduler's slices don't reach. */
function contender(
  name: string,
  clock: { readonly ns: number },
  leases: number,
  round: () => void,
): Contender {
  return {
    name,
    run: async (seconds) => {
      const nsPerLease: number[] = [];
      const endMs = performance.now() + seconds * 1000;
      while (performance.now() < endMs) {
        const before = clock.ns;
        round();
        nsPerLease.push((clock.ns - before) / leases);
      }
      return 1e9 / median(nsPerLease);
    },
  };
}
