/**
 * Allocates pieces of a share of the allocation buffer. All book-keeping is here, outside the memory that clients can
 * write.
 *
 * The share is cut into spans of 64 KiB. A piece over half a span takes a run of spans; smaller ones come from
 * spans cut into blocks of one power of two (64 B to 32 KiB). Every piece is aligned to 64 bytes at least.
 *
 * A piece that is freed while leases lie in it is released at the end of the last of them: under no lease does memory come to
 * belong to somebody else.
 */
const SPAN_SHIFT = 16;
export const SPAN_BYTES = 1 << SPAN_SHIFT;
const MIN_SHIFT = 6;
const MAX_SMALL_SHIFT = SPAN_SHIFT - 1;
/** A piece is named by its first span, times this, plus its block. */
const BLOCKS = SPAN_BYTES >> MIN_SHIFT;
const NONE = -1;

/** It stays when the client that allocated it goes. */
const KEPT = 1;
/** It was freed and is released when no lease lies in it any more. */
const FREED = 2;

/** What is known of the pieces of a slab, or of the only one of a run. */
interface Pieces {
  /** Who has it; 0 = free. Connections are numbered beyond 32 bits. */
  readonly owner: Float64Array;
  readonly flags: Uint8Array;
  /** Leases that lie in it. */
  readonly users: Uint32Array;
}

/** A span cut into blocks of one size. */
interface Slab extends Pieces {
  readonly span: number;
  readonly shift: number;
  readonly free: Uint16Array;
  freeCount: number;
  /** Place in the list of slabs of this size that have free blocks, -1 if it is full. */
  listed: number;
}

export class Allocator {
  readonly firstSpan: number;
  readonly spans: number;
  private readonly base: number;
  /** Of the first span of a run: its length; 0 = free or inside a run. */
  private readonly runLength: Uint32Array;
  /** Of the other spans of a run: how many spans before them it begins. */
  private readonly runBack: Uint32Array;
  private readonly runs: Pieces;
  private readonly used: Uint8Array;
  private readonly slabs: (Slab | undefined)[];
  private readonly partial: Slab[][] = [];
  private nextFit = 0;
  /** Bytes handed out, rounded up as they were. */
  allocatedBytes = 0;

  /** Manage `spans` spans of the buffer that begins at `base`, from its `firstSpan` on. */
  constructor(base: number, firstSpan: number, spans: number) {
    this.base = base;
    this.firstSpan = firstSpan;
    this.spans = spans;
    this.runLength = new Uint32Array(spans);
    this.runBack = new Uint32Array(spans);
    this.runs = newPieces(spans);
    this.used = new Uint8Array(spans);
    this.slabs = new Array<Slab | undefined>(spans).fill(undefined);
    for (let shift = 0; shift <= MAX_SMALL_SHIFT; shift++) this.partial.push([]);
  }

  /** Allocate for `owner` (>= 1): the piece, or NONE if there is no such one. */
  allocate(size: number, owner: number, kept: boolean): number {
    if (!(size >= 1) || size > this.spans * SPAN_BYTES) return NONE;
    const flags = kept ? KEPT : 0;
    return size > SPAN_BYTES / 2
      ? this.allocateRun(Math.ceil(size / SPAN_BYTES), owner, flags)
      : this.allocateBlock(size, owner, flags);
  }

  /** The piece, not freed yet, that holds all of the range; NONE if there is none. `offset` is in the share. */
  pieceAt(offset: number, size: number): number {
    const span = Math.floor(offset / SPAN_BYTES);
    const slab = this.slabs[span];
    if (slab !== undefined) {
      const inSpan = offset - span * SPAN_BYTES;
      const block = inSpan >> slab.shift;
      if (inSpan + size > (block + 1) << slab.shift || slab.owner[block] === 0) return NONE;
      return (slab.flags[block]! & FREED) !== 0 ? NONE : (this.firstSpan + span) * BLOCKS + block;
    }
    const start = span - this.runBack[span]!;
    const length = this.runLength[start]!;
    if (length === 0 || offset + size > (start + length) * SPAN_BYTES) return NONE;
    return (this.runs.flags[start]! & FREED) !== 0 ? NONE : (this.firstSpan + start) * BLOCKS;
  }

  offsetOf(piece: number): number {
    const span = spanOf(piece);
    const shift = this.slabs[span - this.firstSpan]?.shift ?? 0;
    return this.base + span * SPAN_BYTES + ((piece - span * BLOCKS) << shift);
  }

  /** Its bytes, rounded up as they were. */
  sizeOf(piece: number): number {
    const span = this.placeOfSpan(piece);
    const slab = this.slabs[span];
    return slab !== undefined ? 1 << slab.shift : this.runLength[span]! * SPAN_BYTES;
  }

  ownerOf(piece: number): number {
    return this.piecesOf(piece).owner[this.placeOf(piece)]!;
  }

  kept(piece: number): boolean {
    return (this.piecesOf(piece).flags[this.placeOf(piece)]! & KEPT) !== 0;
  }

  keep(piece: number): void {
    this.piecesOf(piece).flags[this.placeOf(piece)]! |= KEPT;
  }

  /** A lease lies in it. */
  use(piece: number): void {
    this.piecesOf(piece).users[this.placeOf(piece)]!++;
  }

  /** The lease has ended; true if the piece is gone with it. */
  unuse(piece: number): boolean {
    const pieces = this.piecesOf(piece);
    const at = this.placeOf(piece);
    const users = --pieces.users[at]!;
    if (users > 0 || (pieces.flags[at]! & FREED) === 0) return false;
    this.release(piece);
    return true;
  }

  /** Free a piece that pieceAt() gave; true if it is gone, false if it goes with the last lease on it. */
  free(piece: number): boolean {
    const pieces = this.piecesOf(piece);
    const at = this.placeOf(piece);
    if (pieces.users[at]! > 0) {
      pieces.flags[at]! |= FREED;
      return false;
    }
    this.release(piece);
    return true;
  }

  /** Bytes that a piece for `size` bytes has. */
  roundedSize(size: number): number {
    if (size > SPAN_BYTES / 2) return Math.ceil(size / SPAN_BYTES) * SPAN_BYTES;
    return 1 << shiftOf(size);
  }

  /** Visit the pieces in this span of the share that this owner has and has not said to keep. */
  forEachUnkept(span: number, owner: number, visit: (piece: number) => void): void {
    const slab = this.slabs[span];
    const pieces = slab ?? this.runs;
    const from = slab === undefined ? span : 0;
    const end = slab === undefined ? span + 1 : slab.owner.length;
    for (let at = from; at < end; at++) {
      if (pieces.owner[at] !== owner || pieces.flags[at] !== 0) continue;
      visit((this.firstSpan + span) * BLOCKS + at - from);
    }
  }

  private placeOfSpan(piece: number): number {
    return spanOf(piece) - this.firstSpan;
  }

  private piecesOf(piece: number): Pieces {
    return this.slabs[this.placeOfSpan(piece)] ?? this.runs;
  }

  private placeOf(piece: number): number {
    const span = this.placeOfSpan(piece);
    return this.slabs[span] === undefined ? span : piece - (span + this.firstSpan) * BLOCKS;
  }

  private allocateRun(length: number, owner: number, flags: number): number {
    const span = this.takeRun(length);
    if (span < 0) return NONE;
    this.runLength[span] = length;
    for (let i = 1; i < length; i++) this.runBack[span + i] = i;
    this.runs.owner[span] = owner;
    this.runs.flags[span] = flags;
    this.allocatedBytes += length * SPAN_BYTES;
    return (this.firstSpan + span) * BLOCKS;
  }

  private allocateBlock(size: number, owner: number, flags: number): number {
    const shift = shiftOf(size);
    const list = this.partial[shift]!;
    let slab = list[list.length - 1];
    if (slab === undefined) {
      const span = this.takeRun(1);
      if (span < 0) return NONE;
      slab = newSlab(span, shift);
      this.slabs[span] = slab;
      this.list(slab);
    }
    const block = slab.free[--slab.freeCount]!;
    slab.owner[block] = owner;
    slab.flags[block] = flags;
    if (slab.freeCount === 0) this.unlist(slab);
    this.allocatedBytes += 1 << shift;
    return (this.firstSpan + slab.span) * BLOCKS + block;
  }

  private release(piece: number): void {
    const span = this.placeOfSpan(piece);
    const slab = this.slabs[span];
    if (slab !== undefined) {
      this.releaseBlock(slab, this.placeOf(piece));
      return;
    }
    const length = this.runLength[span]!;
    this.runs.owner[span] = 0;
    this.allocatedBytes -= length * SPAN_BYTES;
    this.releaseRun(span, length);
  }

  private releaseBlock(slab: Slab, block: number): void {
    slab.owner[block] = 0;
    slab.free[slab.freeCount++] = block;
    this.allocatedBytes -= 1 << slab.shift;
    if (slab.listed < 0) this.list(slab);
    // An empty slab goes back, except the last one of its size: it would be cut again at the next request.
    if (slab.freeCount === slab.owner.length && this.partial[slab.shift]!.length > 1) {
      this.unlist(slab);
      this.slabs[slab.span] = undefined;
      this.releaseRun(slab.span, 1);
    }
  }

  private list(slab: Slab): void {
    const list = this.partial[slab.shift]!;
    slab.listed = list.length;
    list.push(slab);
  }

  private unlist(slab: Slab): void {
    const list = this.partial[slab.shift]!;
    const last = list.pop()!;
    if (last !== slab) {
      list[slab.listed] = last;
      last.listed = slab.listed;
    }
    slab.listed = -1;
  }

  /** The first span of `length` free ones in a row, now used; -1 if there is none. */
  private takeRun(length: number): number {
    const found = this.findRun(length, this.nextFit, this.spans);
    const span =
      found >= 0 ? found : this.findRun(length, 0, Math.min(this.nextFit + length - 1, this.spans));
    if (span < 0) return -1;
    this.used.fill(1, span, span + length);
    this.nextFit = span + length;
    return span;
  }

  private findRun(length: number, from: number, end: number): number {
    let run = 0;
    for (let span = from; span < end; span++) {
      run = this.used[span] === 0 ? run + 1 : 0;
      if (run === length) return span - length + 1;
    }
    return -1;
  }

  private releaseRun(span: number, length: number): void {
    this.used.fill(0, span, span + length);
    this.runBack.fill(0, span, span + length);
    this.runLength[span] = 0;
    if (span < this.nextFit) this.nextFit = span;
  }
}

/** The first span of a piece. */
export function spanOf(piece: number): number {
  return Math.floor(piece / BLOCKS);
}

function shiftOf(size: number): number {
  return Math.max(MIN_SHIFT, 32 - Math.clz32(size - 1));
}

function newPieces(count: number): Pieces {
  return { owner: new Float64Array(count), flags: new Uint8Array(count), users: new Uint32Array(count) };
}

function newSlab(span: number, shift: number): Slab {
  const blocks = SPAN_BYTES >> shift;
  const free = new Uint16Array(blocks);
  for (let i = 0; i < blocks; i++) free[i] = blocks - 1 - i;
  return { ...newPieces(blocks), span, shift, free, freeCount: blocks, listed: -1 };
}
