import { AcquireStatus, type NodeLayout, RetCode } from '../patronus/index.js';
import { KvError, KvErrorCode } from './api.js';
import type { SharedMemory } from './collector.js';
import { CollectionPhase, cycleOf, type Epoch, phaseOf } from './epoch.js';
import { refusal } from './errors.js';
import { type Extent, type ExtentStack, listBytes, MAX_EXTENTS, sumOfUnits } from './extent-stack.js';
import { FreeLists } from './free-lists.js';
import { PIECE_BYTES, UNIT_BYTES } from './layout.js';
import type { LeaseCell, LeaseKeeper } from './leases.js';
import { Limbo } from './limbo.js';
import type { Pieces } from './pieces.js';

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
/** Of new memory that can't be used: its connection is lost, or a collection has begun. */
const CLAIM_ATTEMPTS = 5;
/** Extents of a list that is handed over. */
const HAND_OVER_EXTENTS = 255;
/** How often the epoch is read while a collection is under way: of the term, and at most. */
const WATCH_TERMS = 0.25;
const MAX_WATCH_MS = 250;

/** Memory that was taken, and the cycle of collections in which it may be used. */
export interface Taken {
  readonly offset: number;
  readonly cycle: number;
}

/**
 * Memory for this client's blocks: pieces allocated from the memory node, and blocks that this client has unlinked,
 * whoever allocated them.
 *
 * Pieces are allocated many at a time, so that they lie side by side, but belong to this client's connection until it
 * begins to use one: only then is it told to stay. If the client dies the others come back by themselves, and what was free in those
 * that stay is found by a collection. When one begins, all clients forget what they have free in the pieces that they used before;
 * what they unlink until it has found what is reachable is handed over to it. See docs/kv.md, "Memory of clients that died".
 *
 * A block is written under a write lease on its segment. Segments are a fixed division of the allocation buffer, so
 * that the lease for any block, of any client's chunk, follows from its offset; each reaches into the next by
 * the size of the largest block.
 */
export class Allocator {
  readonly #keeper: LeaseKeeper;
  readonly #epoch: Epoch;
  readonly #pieceRegistry: Pieces;
  /** What closed handles and collections have left. */
  readonly #orphans: ExtentStack;
  /** For the collection that is under way. */
  readonly #handover: ExtentStack;
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
  /** This client's identity when they were allocated. */
  #piecesOwner = -1;
  /** Unlinked while a collection looks for what is reachable. */
  #unlinked: Extent[] = [];
  #watching: Promise<void> | undefined;
  #closed = false;
  /** What nobody knows of any more, until the next collection; see takeLost(). */
  #lostUnits = 0;
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
    shared: SharedMemory,
  ) {
    this.#pieceRegistry = shared.pieces;
    this.#orphans = shared.orphans;
    this.#handover = shared.handover;
    this.#epoch = keeper.epoch;
    this.#epoch.onChange = (before) => this.#learned(before);
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

  /** Of collections. Free memory belongs to the one in whose cycle it was taken. */
  get cycle(): number {
    return this.#epoch.cycle;
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
  wait(units: number): Promise<Taken> {
    this.#waiting++;
    const result = this.#queue.then(() => this.#find(units));
    this.#queue = result.then(
      () => this.#waiting--,
      () => this.#waiting--,
    );
    return result;
  }

  /** Gives back a block that was taken in `cycle` and that nobody can have seen. */
  free(offset: number, units: number, cycle: number): void {
    if (cycle === this.#epoch.cycle) this.#free.add(offset, units);
  }

  /** As free(), of a block that others may be reading until their leases end. */
  discard(offset: number, units: number, cycle: number): void {
    if (cycle === this.#epoch.cycle) this.#rest(offset, units);
    // Where it was in a slot, the collection may have found it there.
    else this.lose(units);
  }

  /**
   * Gives back a block that was unlinked before now: others may read it until their leases end. `epoch`: what was known when the
   * attempt began that has unlinked it.
   */
  retire(offset: number, units: number, epoch: number): void {
    if (epoch === this.#epoch.value && phaseOf(epoch) !== CollectionPhase.Drop) {
      this.#rest(offset, units);
      return;
    }
    // Of an earlier cycle: it was unlinked before the collection looked, which gives it to somebody else.
    if (cycleOf(epoch) !== this.#epoch.cycle) return;
    if (phaseOf(epoch) !== CollectionPhase.Drop) this.#rest(offset, units);
    // Whether the collection has found it reachable can't be known.
    else if (this.#epoch.phase === CollectionPhase.Done) this.lose(units);
    else this.#unlinked.push({ offset, units, unlinked: true });
  }

  /** Nobody will know of so much any more. */
  lose(units: number): void {
    this.#lostUnits += units;
  }

  /** What was lost since the last call, units: to be told to those who collect. */
  takeLost(): number {
    const lost = this.#lostUnits;
    this.#lostUnits = 0;
    return lost;
  }

  #rest(offset: number, units: number): void {
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

  async #find(units: number): Promise<Taken> {
    const { client, pacing } = this.#keeper;
    const giveUpNs = client.now() + WAIT_GRACES * this.#graceNs;
    for (;;) {
      let offset = this.#take(units, client.now(), Number.POSITIVE_INFINITY);
      if (offset < 0) offset = this.#takeFromFree(units);
      while (offset < 0 && (await this.#adopt())) offset = this.#takeFromFree(units);
      if (offset < 0 && (await this.#addMemory(units * UNIT_BYTES)))
        offset = this.#take(units, client.now(), 0);
      if (offset < 0) offset = this.#free.split(units);
      if (offset < 0 && this.#free.freeUnits >= units && this.#free.merge()) {
        offset = this.#free.take(units);
        if (offset < 0) offset = this.#free.split(units);
      }
      if (offset >= 0) return { offset, cycle: this.#epoch.cycle };
      const now = client.now();
      if (this.#limbo.count === 0 || now >= giveUpNs) {
        if (await this.onShortage()) continue;
        throw new KvError(
          KvErrorCode.NO_MEMORY,
          `The memory node has no room for a block of ${units * UNIT_BYTES} bytes`,
        );
      }
      await pacing.sleep(Math.max(1, Math.ceil((this.#limbo.headUntilNs - now) / 1e6)));
    }
  }

  /** Before an allocation fails: true if memory may have come back that others had. */
  onShortage: () => Promise<boolean> = async () => false;

  /** Gives back what was not used and leaves what is free to others. Call it when no operation is under way. */
  async close(): Promise<void> {
    const { client } = this.#keeper;
    this.#closed = true;
    await this.#watching;
    if (this.#epoch.phase === CollectionPhase.HandOver) await this.#handOver();
    this.lose(sumOfUnits(this.#unlinked.splice(0)));
    this.#use(0, 0);
    const extents: Extent[] = this.#free.drain().map((extent) => ({ ...extent, unlinked: false }));
    for (; this.#limbo.count > 0; this.#limbo.shift()) {
      extents.push({ offset: this.#limbo.headOffset, units: this.#limbo.headUnits, unlinked: true });
    }
    const all = sumOfUnits(extents);
    const { cycle } = this.#epoch;
    const isMine = () => cycle === this.#epoch.cycle;
    this.lose(await this.#orphans.leave(extents, (offset) => this.segment(offset), isMine).catch(() => all));
    const pieces = this.#pieces.splice(0);
    // Those of a lost connection are free already, or somebody else's.
    if (this.#piecesOwner !== client.identity(this.#nodeId)) return;
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

  /** Takes over a list that others have left, unless there are pieces to be used first; false if there is none. */
  async #adopt(): Promise<boolean> {
    // What is left while a collection is under way is its business.
    if (this.#pieces.length > 0 || this.#epoch.phase !== CollectionPhase.Done) return false;
    const { cycle } = this.#epoch;
    const extents = await this.#orphans.pop().catch(() => {
      this.lose(MAX_EXTENTS);
      return undefined;
    });
    if (extents === undefined) return false;
    if (cycle !== this.#epoch.cycle) {
      this.lose(sumOfUnits(extents));
      return false;
    }
    for (const { offset, units, unlinked } of extents) {
      if (unlinked) this.#rest(offset, units);
      else this.#free.add(offset, units);
    }
    return true;
  }

  /** The epoch has changed. */
  #learned(before: number): void {
    const { cycle, phase } = this.#epoch;
    if (cycleOf(before) !== cycle) {
      this.#free.clear();
      this.#limbo.clear();
      this.#bump = 0;
      this.#bumpEnd = 0;
      this.#unlinked = [];
    } else if (phase === CollectionPhase.Done) this.lose(sumOfUnits(this.#unlinked.splice(0)));
    if (phase === CollectionPhase.Done || this.#closed) return;
    this.#watching ??= this.#watch().finally(() => {
      this.#watching = undefined;
    });
  }

  /** Goes along with a collection, also when nobody uses the table. */
  async #watch(): Promise<void> {
    const { pacing, termNs } = this.#keeper;
    while (this.#epoch.phase !== CollectionPhase.Done && !this.#closed) {
      await pacing.idle(Math.min(MAX_WATCH_MS, (termNs / 1e6) * WATCH_TERMS));
      try {
        await this.#epoch.refresh();
        if (this.#epoch.phase === CollectionPhase.HandOver) await this.#handOver();
      } catch {
        // The node can't be used now, which its operations will tell.
      }
    }
  }

  /** What this client has unlinked since the collection began, for the collection to give to all. */
  async #handOver(): Promise<void> {
    const { value } = this.#epoch;
    const retag = (tag: number) => (tag === (value & 0xffff) ? tag : undefined);
    while (this.#unlinked.length > 0 && this.#epoch.value === value) {
      const units = listBytes(HAND_OVER_EXTENTS) / UNIT_BYTES;
      let offset = this.take(units, this.#keeper.client.now());
      if (offset < 0) {
        // Those who wait may wait for the collection.
        if (this.#waiting > 0) return;
        const taken = await this.wait(units);
        offset = taken.offset;
        if (this.#epoch.value !== value) return this.free(offset, units, taken.cycle);
      }
      const some = this.#unlinked.splice(0, HAND_OVER_EXTENTS);
      if (await this.#handover.push({ offset, units }, some, this.segment(offset), retag)) continue;
      this.lose(sumOfUnits(some) + units);
    }
  }

  /** Makes the next piece, or pieces side by side for `size` bytes, what fresh blocks come from. False: there is no room. */
  async #addMemory(size: number): Promise<boolean> {
    const bytes = Math.ceil(size / PIECE_BYTES) * PIECE_BYTES;
    for (let attempt = 0; attempt < CLAIM_ATTEMPTS; attempt++) {
      if (bytes > PIECE_BYTES) {
        const offset = await this.#allocate(bytes);
        if (offset < 0) return false;
        if (await this.#claim(offset, bytes)) return true;
        continue;
      }
      // Pieces of a connection that was lost since are another client's by now: the node says so, and new ones are asked for.
      for (let offset = this.#pieces.pop(); offset !== undefined; offset = this.#pieces.pop()) {
        if (await this.#claim(offset, bytes)) return true;
      }
      const asked = Array.from({ length: this.#batchPieces }, () => this.#allocate(PIECE_BYTES));
      const offsets = (await Promise.all(asked)).filter((offset) => offset >= 0);
      if (offsets.length === 0) return false;
      this.#pieces = offsets.sort((a, b) => b - a);
      this.#piecesOwner = this.#keeper.client.identity(this.#nodeId);
    }
    return false;
  }

  /** Makes what was allocated the table's and begins to use it. False: it can't be used. */
  async #claim(offset: number, bytes: number): Promise<boolean> {
    const { client } = this.#keeper;
    const { cycle } = this.#epoch;
    const address = { nodeId: this.#nodeId, offset };
    // It comes back with the connection, if it is this client's still: others may have been given it since.
    if (!(await this.#pieceRegistry.claim(offset, bytes, cycle))) return false;
    if ((await client.keepAllocation(address)) !== RetCode.Ok) return false;
    if (!(await this.#pieceRegistry.keep(offset, bytes, cycle))) {
      // So much time has passed that the entry was taken for a dead client's.
      await this.#pieceRegistry.claim(offset, bytes, cycle);
      return false;
    }
    if (cycle !== this.#epoch.cycle) {
      this.lose(bytes / UNIT_BYTES);
      return false;
    }
    this.#use(offset, bytes);
    return true;
  }

  #use(offset: number, bytes: number): void {
    this.#free.add(this.#bump, Math.floor((this.#bumpEnd - this.#bump) / UNIT_BYTES));
    this.#bump = offset;
    this.#bumpEnd = offset + bytes;
  }

  /** -1: there is no room. */
  async #allocate(size: number): Promise<number> {
    const { client } = this.#keeper;
    const { status, address } = await client.alloc({ nodeId: this.#nodeId, size });
    if (status === AcquireStatus.Success) return address!.offset;
    if (status === AcquireStatus.NoMem) return -1;
    throw refusal('The memory node allocates nothing', status);
  }
}
