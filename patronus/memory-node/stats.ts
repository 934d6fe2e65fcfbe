/** Counters of a memory node, written by the directory's thread and read by others: one shared Float64Array. */
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

export type NodeStats = { readonly [name in keyof typeof StatIndex]: number };

export const STATS_LENGTH = Object.keys(StatIndex).length;

export function readStats(counters: Float64Array): NodeStats {
  const entries = Object.entries(StatIndex).map(([name, index]) => [name, counters[index]] as const);
  return Object.fromEntries(entries) as unknown as NodeStats;
}
