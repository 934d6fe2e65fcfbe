import {
  AcquireStatus,
  type Batch,
  type Lease,
  type PatronusClient,
  type RdmaBuffer,
  RetCode,
} from '../patronus/index.js';

/** A read of a block, or of its beginning. Bytes. */
export interface BlockRead {
  readonly buffer: RdmaBuffer;
  /** In the buffer. */
  readonly at: number;
  readonly size: number;
  readonly pointer: number;
}

/** Of the time that is left, what a lease may ask for: its grant takes time too. */
const TERM_SHARE = 0.875;

/**
 * Reads blocks under a lease each. The slots that lead to them were read before, so the leases must end by `untilNs`, when the
 * leases of the attempt do: from then on the blocks may be used again.
 */
export async function readUnderOwnLeases(
  client: PatronusClient,
  batch: Batch,
  reads: readonly BlockRead[],
  untilNs: number,
): Promise<RetCode> {
  const leases: Lease[] = [];
  try {
    for (const { buffer, at, size, pointer } of reads) {
      const termNs = Math.floor((untilNs - client.now()) * TERM_SHARE);
      if (termNs < 1) return RetCode.LeaseLocalExpiredErr;
      const { status, lease } = await client.getRlease({ offset: pointer, size, termNs });
      if (status !== AcquireStatus.Success) return RetCode.NoMem;
      leases.push(lease!);
      if (lease!.deadlineNs > untilNs + client.epsilonNs) return RetCode.LeaseLocalExpiredErr;
      const prepared = batch.prepareRead(lease!, buffer, at, size, 0);
      if (prepared !== RetCode.Ok) return prepared;
    }
    return await batch.commit();
  } finally {
    batch.reset();
    for (const lease of leases) client.relinquish(lease).catch(() => undefined);
  }
}
