import { AcquireStatus, type NodeLayout, RetCode } from '../patronus/index.js';
import { KvError, KvErrorCode } from './api.js';
import { refusal } from './errors.js';
import { FreeLists } from './free-lists.js';
import { UNIT_BYTES } from './layout.js';
import type { LeaseCell, LeaseKeeper } from './leases.js';
import { Limbo } from './limbo.js';
import type { Extent, Orphans } from './orphans.js';

/** What memory is taken in: what a memory node allocates in, too. */
const PIECE_BYTES = 64 * 1024;
/** Pieces asked for at a time, in nodes with memory enough. */
const MAX_PIECES = 32;
/** Free extents from this size on are cut up like new memory. */
const LARGE_UNITS = 128;
const MIN_SEGMENT_BYTES = 2 * 1024 * 1024;
/** Write leases that a client may hold at a time for its blocks. */
const MAX_SEGMENTS = 128;
/** Blocks that one allocation moves from the limbo to the free lists: more than it can put there. */
const MATURED_PER_TAKE = 8;
/** An allocation gives up after waiting for freed blocks for this many grace periods. */
const WAIT_GRACES = 3;

/**
 * Memory for this client's blocks: pieces allocated from the memory node, and blocks that this client has unlinked,
 * whoever allocated them.
 *
 * Pieces are allocated many at a time, so that they lie side by side, but belong to this client's connection until it
 * begins to use one: only then is it told to stay. If the client dies the others come back by themselves.
 *
 * A block is written under a write lease on its segment. Segments are a fixed division of the allocation buffer, so
 * that the lease for any block, of any client's chunk, follows from its offset; each reaches into the next by
 * the size of the largest block.
 */
export class Allocator {
  readonly #keeper: LeaseKeeper;
  /** What closed handles have left; without it nothing is taken over or left. */
  readonly #orphans: Orphans | undefined;
  readonly #graceNs: number;
  readonly #allocOffset: number;
  readonly #allocEnd: number;
  readonly #nodeId: number;
  readonly #batchPieces: number;
  readonly #segmentBytes: number;
  readonly #segmentOverlap: number;
  readonly #segments: (LeaseCell | undefined)[] = [];
  readonly #free = new FreeLists();
  readonly #limbo = new Limbo();
  /** Allocated, not used yet, the next one last. */
  #pieces: number[] = [];
  /** The part of the newest piece that was never used. */
  #bump = 0;
  #bumpEnd = 0;
  /** Allocations that wait, first come, first served; the others line up behind them. */
  #waiting = 0;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(
    keeper: LeaseKeeper,
    node: NodeLayout,
    graceNs: number,
    maxBlockBytes: number,
    orphans?: Orphans,
  ) {
    this.#orphans = orphans;
    this.#keeper = keeper;
    this.#graceNs = graceNs;
    this.#allocOffset = node.allocOffset;
    this.#allocEnd = node.allocOffset + node.allocBytes;
    this.#nodeId = node.nodeId;
    this.#batchPieces = Math.max(1, Math.min(MAX_PIECES, Math.floor(node.allocBytes / 64 / PIECE_BYTES)));
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

  /** As take(), with all means: new memory, joining free blocks, waiting for unlinked ones. Rejects with NO_MEMORY. */
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
    // Small pieces of what was a large block hardly ever become one again, so small ones are cut from small ones.
    if (this.#bumpEnd - this.#bump < size)
      return this.#free.isPlenty ? this.#free.split(units, LARGE_UNITS) : -1;
    const fresh = this.#bump;
    this.#bump += size;
    return fresh;
  }

  async #find(units: number): Promise<number> {
    const { client, pacing } = this.#keeper;
    const giveUpNs = client.now() + WAIT_GRACES * this.#graceNs;
    for (;;) {
      let offset = this.#take(units, client.now(), Number.POSITIVE_INFINITY);
      if (offset < 0) {
        await this.#adopt();
        offset = this.#takeFromFree(units);
      }
      if (offset < 0 && (await this.#addMemory(units * UNIT_BYTES)))
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

  /** Gives back what was not used and leaves what is free to others. Call it when no operation is under way. */
  async close(): Promise<void> {
    const { client } = this.#keeper;
    this.#use(0, 0);
    const extents: Extent[] = this.#free.drain().map((extent) => ({ ...extent, unlinked: false }));
    for (; this.#limbo.count > 0; this.#limbo.shift()) {
      extents.push({ offset: this.#limbo.headOffset, units: this.#limbo.headUnits, unlinked: true });
    }
    // Where that fails, the memory stays allocated.
    await this.#orphans?.leave(extents, (offset) => this.segment(offset)).catch(() => undefined);
    const pieces = this.#pieces.splice(0);
    // That the connection can be gone is no failure: then they are free already.
    await Promise.all(
      pieces.map((offset) =>
        client.dealloc({ nodeId: this.#nodeId, offset }, PIECE_BYTES).catch(() => undefined),
      ),
    );
  }

  /**
   * From what is free in other sizes, before the node is asked for more: neighbours are joined if it is time to, and large
   * extents are cut.
   */
  #takeFromFree(units: number): number {
    const free = this.#free;
    if (free.isPlenty && free.isMergeDue && free.merge()) {
      const offset = this.#take(units, 0, 0);
      if (offset >= 0) return offset;
    }
    if (units >= LARGE_UNITS) return free.split(units);
    const large = free.takeLargest(LARGE_UNITS);
    if (large === undefined) return -1;
    this.#use(large.offset, large.units * UNIT_BYTES);
    return this.#take(units, 0, 0);
  }

  /** Takes over what closed handles have left, unless there are pieces to be used first. */
  async #adopt(): Promise<void> {
    if (this.#pieces.length > 0) return;
    await this.#orphans?.adopt(({ offset, units, unlinked }) => {
      if (unlinked) this.retire(offset, units);
      else this.free(offset, units);
    });
  }

  /** Makes the next piece, or pieces side by side for `size` bytes, what fresh blocks come from. */
  async #addMemory(size: number): Promise<boolean> {
    if (size > PIECE_BYTES) {
      const bytes = Math.ceil(size / PIECE_BYTES) * PIECE_BYTES;
      const offset = await this.#allocate(bytes, true);
      if (offset < 0) return false;
      this.#use(offset, bytes);
      return true;
    }
    // Pieces of a connection that was lost since are another client's by now: the node says so, and new ones are asked for.
    if (await this.#usePiece()) return true;
    const asked = Array.from({ length: this.#batchPieces }, () => this.#allocate(PIECE_BYTES, false));
    const offsets = (await Promise.all(asked)).filter((offset) => offset >= 0);
    this.#pieces = offsets.sort((a, b) => b - a);
    return this.#usePiece();
  }

  async #usePiece(): Promise<boolean> {
    for (;;) {
      const offset = this.#pieces.pop();
      if (offset === undefined) return false;
      const address = { nodeId: this.#nodeId, offset };
      if ((await this.#keeper.client.keepAllocation(address)) === RetCode.Ok) {
        this.#use(offset, PIECE_BYTES);
        return true;
      }
    }
  }

  #use(offset: number, bytes: number): void {
    this.#free.add(this.#bump, Math.floor((this.#bumpEnd - this.#bump) / UNIT_BYTES));
    this.#bump = offset;
    this.#bumpEnd = offset + bytes;
  }

  /** -1: there is no room. */
  async #allocate(size: number, keep: boolean): Promise<number> {
    const { client } = this.#keeper;
    const { status, address } = await client.alloc({ nodeId: this.#nodeId, size, keep });
    if (status === AcquireStatus.Success) return address!.offset;
    if (status === AcquireStatus.NoMem) return -1;
    throw refusal('The memory node allocates nothing', status);
  }
}
