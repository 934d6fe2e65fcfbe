import { AcquireFlag, AcquireStatus, type NodeLayout } from '../patronus/index.js';
import { KvError, KvErrorCode } from './api.js';
import { FreeLists } from './free-lists.js';
import { UNIT_BYTES } from './layout.js';
import { HeldLease, type LeaseCell, type LeaseKeeper } from './leases.js';
import { Limbo } from './limbo.js';

const MAX_CHUNK_BYTES = 2 * 1024 * 1024;
/** Also what a memory node is likely to allocate in. */
const MIN_CHUNK_BYTES = 64 * 1024;
const MIN_SEGMENT_BYTES = 2 * 1024 * 1024;
/** Write leases that a client may hold at a time for its blocks. */
const MAX_SEGMENTS = 128;
/** Blocks that one allocation moves from the limbo to the free lists: more than it can put there. */
const MATURED_PER_TAKE = 8;
/** An allocation gives up after waiting for freed blocks for this many grace periods. */
const WAIT_GRACES = 3;

/**
 * Memory for this client's blocks: chunks allocated from the memory node, and blocks that this client has unlinked,
 * whoever allocated them.
 *
 * A block is written under a write lease on its segment. Segments are a fixed division of the allocation buffer, so
 * that the lease for any block, of any client's chunk, follows from its offset; each reaches into the next by
 * the size of the largest block.
 */
export class Allocator {
  readonly #keeper: LeaseKeeper;
  readonly #graceNs: number;
  readonly #allocOffset: number;
  readonly #allocEnd: number;
  readonly #chunkBytes: number;
  readonly #segmentBytes: number;
  readonly #segmentOverlap: number;
  readonly #segments: (LeaseCell | undefined)[] = [];
  readonly #free = new FreeLists();
  readonly #limbo = new Limbo();
  /** The part of the newest chunk that was never used. */
  #bump = 0;
  #bumpEnd = 0;
  /** Allocations that wait, first come, first served; the others line up behind them. */
  #waiting = 0;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(keeper: LeaseKeeper, node: NodeLayout, graceNs: number, maxBlockBytes: number) {
    this.#keeper = keeper;
    this.#graceNs = graceNs;
    this.#allocOffset = node.allocOffset;
    this.#allocEnd = node.allocOffset + node.allocBytes;
    const share = 2 ** Math.floor(Math.log2(Math.max(1, node.allocBytes / 64)));
    this.#chunkBytes = Math.max(MIN_CHUNK_BYTES, Math.min(MAX_CHUNK_BYTES, share));
    this.#segmentBytes =
      MIN_SEGMENT_BYTES * Math.max(1, Math.ceil(node.allocBytes / (MIN_SEGMENT_BYTES * MAX_SEGMENTS)));
    this.#segmentOverlap = maxBlockBytes;
  }

  /** What the write lease for the block at `offset` comes from. */
  segment(offset: number): LeaseCell {
    const index = Math.floor((offset - this.#allocOffset) / this.#segmentBytes);
    let cell = this.#segments[index];
    if (cell === undefined) {
      const start = this.#allocOffset + index * this.#segmentBytes;
      const end = Math.min(start + this.#segmentBytes + this.#segmentOverlap, this.#allocEnd);
      cell = this.#keeper.cell(start, end - start, true);
      this.#segments[index] = cell;
    }
    return cell;
  }

  /** Offset of `units` (a class) of memory, or -1: then wait(). */
  take(units: number, nowNs: number): number {
    return this.#waiting > 0 ? -1 : this.#take(units, nowNs, MATURED_PER_TAKE);
  }

  /** As take(), with all means: a new chunk, joining free blocks, waiting for unlinked ones. Rejects with NO_MEMORY. */
  wait(units: number): Promise<number> {
    this.#waiting++;
    const result = this.#queue.then(() => this.#find(units));
    this.#queue = result.then(
      () => this.#waiting--,
      () => this.#waiting--,
    );
    return result;
  }

  /** Gives back a block that was never published. */
  free(offset: number, units: number): void {
    this.#free.add(offset, units);
  }

  /** Gives back a block that was unlinked before now: others may read it until their leases end. */
  retire(offset: number, units: number): void {
    this.#limbo.push(offset, units, this.#keeper.client.now() + this.#graceNs);
  }

  #take(units: number, nowNs: number, matured: number): number {
    const limbo = this.#limbo;
    for (let i = 0; i < matured && limbo.count > 0 && limbo.headUntilNs <= nowNs; i++) {
      this.#free.add(limbo.headOffset, limbo.headUnits);
      limbo.shift();
    }
    const reused = this.#free.take(units);
    if (reused >= 0) return reused;
    const size = units * UNIT_BYTES;
    if (this.#bumpEnd - this.#bump < size) return -1;
    const fresh = this.#bump;
    this.#bump += size;
    return fresh;
  }

  async #find(units: number): Promise<number> {
    const { client, pacing } = this.#keeper;
    const giveUpNs = client.now() + WAIT_GRACES * this.#graceNs;
    for (;;) {
      let offset = this.#take(units, client.now(), Number.POSITIVE_INFINITY);
      if (offset < 0 && (await this.#addChunk(units * UNIT_BYTES)))
        offset = this.#take(units, client.now(), 0);
      if (offset < 0) offset = this.#free.split(units);
      if (offset < 0 && this.#free.freeUnits >= units && this.#free.merge()) {
        offset = this.#free.take(units);
        if (offset < 0) offset = this.#free.split(units);
      }
      if (offset >= 0) return offset;
      const now = client.now();
      if (this.#limbo.count === 0 || now >= giveUpNs) {
        throw new KvError(
          KvErrorCode.NO_MEMORY,
          `The memory node has no room for a block of ${units * UNIT_BYTES} bytes`,
        );
      }
      await pacing.sleep(Math.max(1, Math.ceil((this.#limbo.headUntilNs - now) / 1e6)));
    }
  }

  /** Makes the next chunk, of at least `size` bytes, the one that fresh blocks come from. */
  async #addChunk(size: number): Promise<boolean> {
    const { client, termNs } = this.#keeper;
    for (
      let bytes = Math.max(this.#chunkBytes, size);
      ;
      bytes = Math.max(size, Math.floor(bytes / 128) * 64)
    ) {
      const sinceNs = client.now();
      const { status, lease } = await client.getWlease({
        size: bytes,
        termNs,
        flags: AcquireFlag.WithAllocation | AcquireFlag.KeepAllocation,
      });
      if (status === AcquireStatus.Success) {
        // The memory stays allocated; blocks are written under the leases of their segments.
        this.#keeper.relinquish(new HeldLease(lease!, sinceNs));
        this.#free.add(this.#bump, Math.floor((this.#bumpEnd - this.#bump) / UNIT_BYTES));
        this.#bump = Math.ceil(lease!.offset / UNIT_BYTES) * UNIT_BYTES;
        this.#bumpEnd = lease!.offset + lease!.size;
        return true;
      }
      if (status !== AcquireStatus.NoMem) {
        throw new KvError(
          KvErrorCode.UNAVAILABLE,
          `The memory node allocates nothing: acquire status ${status}`,
        );
      }
      if (bytes <= size || bytes <= MIN_CHUNK_BYTES) return false;
    }
  }
}
