import type { HugePages } from '../../native/index.js';
import type { Share } from './allocations.js';
import type { PolicyName } from './policy.js';

/** What a directory is started with: checked and complete, and of plain values, since it goes to a worker thread. */
export interface DirectoryOptions {
  readonly nodeId: number;
  /** Bytes of the lease buffer, and where the allocation buffer begins and its bytes. */
  readonly leaseBytes: number;
  readonly allocOffset: number;
  readonly allocBytes: number;
  readonly shares: readonly Share[];
  readonly policy: PolicyName;
  readonly bypass: boolean;
  readonly handover: boolean;
  readonly lastWindowFirst: boolean;
  readonly maxLeases: number;
  readonly maxLeasesPerClient: number;
  readonly maxClients: number;
  /** See PatronusNodeOptions. */
  readonly listen: string | undefined;
  readonly engineThreads: number;
  readonly hugePages?: HugePages | undefined;
  readonly numaNode?: number | undefined;
}

/** Requests carried out between two looks at the clock: what a revocation may have to wait for. */
export const BATCH_REQUESTS = 32;

/** Indices of a directory's lease table: those that a batch releases rest. */
export function leaseIndices(options: DirectoryOptions): number {
  return options.maxLeases + BATCH_REQUESTS;
}
