/** Counters of a directory of a memory node, written by its thread and read by others: one shared Float64Array. */
export const StatIndex = {
  connections: 0,
  liveLeases: 1,
  allocatedBytes: 2,
  requests: 3,
  acquired: 4,
  relinquished: 5,
  expired: 6,
  /** Windows that went straight from an ended lease to the next one. */
  handovers: 7,
  refused: 8,
  malformed: 9,
  /** Of the revocation of expired leases, after the end of the term, ns. */
  latenessMaxNs: 10,
  latenessSumNs: 11,
} as const;

const COUNTERS = Object.keys(StatIndex).length;
/** The resolution of the histogram of lateness: its first buckets; later ones grow by a quarter of a power of two. */
const BUCKET_NS = 250;
/** The last bucket begins at some 16 s. */
const BUCKETS = 100;

export const STATS_LENGTH = COUNTERS + BUCKETS;

/** Of these the largest is that of the node. */
const LARGEST: readonly number[] = [StatIndex.connections, StatIndex.latenessMaxNs];

export type NodeStats = { readonly [name in keyof typeof StatIndex]: number } & {
  /** How many leases were revoked how late, for each range that any were in; in the order of `belowNs`. */
  readonly lateness: readonly LatenessBucket[];
};

export interface LatenessBucket {
  /** The end of the range, ns after the end of the term. The range begins at the end of the one before in the resolution used:
   * 250 ns, and from 1 us on a quarter of a power of two. */
  readonly belowNs: number;
  readonly count: number;
}

/** Of a revocation that was complete at `time[0]`; its term ended at `deadlines[at]`. */
export function recordLateness(
  counters: Float64Array,
  time: Float64Array,
  deadlines: Float64Array,
  at: number,
): void {
  const latenessNs = time[0]! - deadlines[at]!;
  counters[StatIndex.latenessSumNs]! += latenessNs;
  if (latenessNs > counters[StatIndex.latenessMaxNs]!) counters[StatIndex.latenessMaxNs] = latenessNs;
  counters[COUNTERS + bucketOf(latenessNs)]!++;
}

/** The bound that all but a share `1 - quantile` of the revocations kept, ns; 0 if there were none. */
export function latenessQuantile(stats: NodeStats, quantile: number): number {
  let left = Math.ceil(stats.lateness.reduce((sum, bucket) => sum + bucket.count, 0) * quantile);
  for (const bucket of stats.lateness) {
    left -= bucket.count;
    if (left <= 0) return bucket.belowNs;
  }
  return 0;
}

/** Of several directories together: a client is connected to each of them, so that number is the largest. */
export function readStats(ofEach: readonly Float64Array[]): NodeStats {
  const counters = new Float64Array(STATS_LENGTH);
  for (let index = 0; index < STATS_LENGTH; index++) {
    const values = ofEach.map((each) => each[index]!);
    counters[index] = LARGEST.includes(index)
      ? Math.max(...values)
      : values.reduce((sum, value) => sum + value, 0);
  }
  const entries = Object.entries(StatIndex).map(([name, index]) => [name, counters[index]] as const);
  const lateness: LatenessBucket[] = [];
  for (let bucket = 0; bucket < BUCKETS; bucket++) {
    const count = counters[COUNTERS + bucket]!;
    if (count > 0) lateness.push({ belowNs: boundOf(bucket), count });
  }
  return { ...Object.fromEntries(entries), lateness } as unknown as NodeStats;
}

function bucketOf(latenessNs: number): number {
  const steps = Math.min(latenessNs / BUCKET_NS, 0x7fffffff) | 0;
  if (steps < 4) return Math.max(steps, 0);
  const exponent = 31 - Math.clz32(steps);
  return Math.min((exponent - 1) * 4 + ((steps >>> (exponent - 2)) & 3), BUCKETS - 1);
}

function boundOf(bucket: number): number {
  if (bucket === BUCKETS - 1) return Number.POSITIVE_INFINITY;
  const next = bucket + 1;
  const steps = next < 4 ? next : (4 + (next & 3)) * 2 ** ((next >> 2) - 1);
  return steps * BUCKET_NS;
}
