/**
 * Allocates pieces of the allocation buffer. All book-keeping is here, outside the memory that clients can write.
 *
 * The buffer is cut into spans of 64 KiB. A piece over half a span takes a run of spans; smaller ones come from
 * spans cut into blocks of one power of two (64 B to 32 KiB). Every piece is aligned to 64 bytes at least.
 */
const SPAN_SHIFT = 16;
export const SPAN_BYTES = 1 << SPAN_SHIFT;
const MIN_SHIFT = 6;
const MAX_SMALL_SHIFT = SPAN_SHIFT - 1;

/** A span cut into blocks of one size. */
interface Slab {
  readonly span: number;
  readonly shift: number;
  /** Who has a block; 0 = free. */
  readonly owners: Uint32Array;
  readonly free: Uint16Array;
  freeCount: number;
  /** Place in the list of slabs of this size that have free blocks, -1 if it is full. */
  listed: number;
}

export class Allocator {
  private readonly base: number;
  private readonly spans: number;
  /** Of the first span of a run: its length; 0 = free or inside a run. */
  private readonly runLength: Uint32Array;
  private readonly runOwner: Uint32Array;
  private readonly used: Uint8Array;
  private readonly slabs: (Slab | undefined)[];
  private readonly partial: Slab[][] = [];
  private nextFit = 0;
  /** Bytes handed out, rounded up as they were. */
  allocatedBytes = 0;

  /** Manage `bytes` (rounded down to whole spans) from address `base`, a multiple of the span size. */
  constructor(base: number, bytes: number) {
    this.base = base;
    this.spans = Math.floor(bytes / SPAN_BYTES);
    this.runLength = new Uint32Array(this.spans);
    this.runOwner = new Uint32Array(this.spans);
    this.used = new Uint8Array(this.spans);
    this.slabs = new Array<Slab | undefined>(this.spans).fill(undefined);
    for (let shift = 0; shift <= MAX_SMALL_SHIFT; shift++) this.partial.push([]);
  }

  /** Allocate for `owner` (>= 1): the address, or -1 if there is no such piece. */
  allocate(size: number, owner: number): number {
    if (!(size >= 1) || size > this.spans * SPAN_BYTES) return -1;
    return size > SPAN_BYTES / 2
      ? this.allocateRun(Math.ceil(size / SPAN_BYTES), owner)
      : this.allocateBlock(size, owner);
  }

  /** Free the piece that begins at `address` and belongs to `owner`; false (and nothing done) if there is none. */
  free(address: number, owner: number): boolean {
    const offset = address - this.base;
    if (!(offset >= 0) || offset >= this.spans * SPAN_BYTES) return false;
    const span = Math.floor(offset / SPAN_BYTES);
    const slab = this.slabs[span];
    if (slab !== undefined) return this.freeBlock(slab, offset - span * SPAN_BYTES, owner);
    const length = this.runLength[span]!;
    if (length === 0 || offset !== span * SPAN_BYTES || this.runOwner[span] !== owner) return false;
    this.releaseRun(span, length);
    this.allocatedBytes -= length * SPAN_BYTES;
    return true;
  }

  private allocateRun(length: number, owner: number): number {
    const span = this.takeRun(length);
    if (span < 0) return -1;
    this.runLength[span] = length;
    this.runOwner[span] = owner;
    this.allocatedBytes += length * SPAN_BYTES;
    return this.base + span * SPAN_BYTES;
  }

  private allocateBlock(size: number, owner: number): number {
    const shift = Math.max(MIN_SHIFT, 32 - Math.clz32(size - 1));
    const list = this.partial[shift]!;
    let slab = list[list.length - 1];
    if (slab === undefined) {
      const span = this.takeRun(1);
      if (span < 0) return -1;
      slab = newSlab(span, shift);
      this.slabs[span] = slab;
      this.list(slab);
    }
    const block = slab.free[--slab.freeCount]!;
    slab.owners[block] = owner;
    if (slab.freeCount === 0) this.unlist(slab);
    this.allocatedBytes += 1 << shift;
    return this.base + slab.span * SPAN_BYTES + (block << shift);
  }

  private freeBlock(slab: Slab, offset: number, owner: number): boolean {
    const block = offset >> slab.shift;
    if (block << slab.shift !== offset || owner === 0 || slab.owners[block] !== owner) return false;
    slab.owners[block] = 0;
    slab.free[slab.freeCount++] = block;
    this.allocatedBytes -= 1 << slab.shift;
    if (slab.listed < 0) this.list(slab);
    // An empty slab goes back, except the last one of its size: it would be cut again at the next request.
    if (slab.freeCount === slab.owners.length && this.partial[slab.shift]!.length > 1) {
      this.unlist(slab);
      this.slabs[slab.span] = undefined;
      this.releaseRun(slab.span, 1);
    }
    return true;
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
    this.runLength[span] = 0;
    this.runOwner[span] = 0;
    if (span < this.nextFit) this.nextFit = span;
  }
}

function newSlab(span: number, shift: number): Slab {
  const blocks = SPAN_BYTES >> shift;
  const free = new Uint16Array(blocks);
  for (let i = 0; i < blocks; i++) free[i] = blocks - 1 - i;
  return { span, shift, owners: new Uint32Array(blocks), free, freeCount: blocks, listed: -1 };
}
