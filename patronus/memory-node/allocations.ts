import type { HostMemory } from '../../native/index.js';
import { Allocator, SPAN_BYTES, spanOf } from './allocator.js';
import { NONE } from './lease-table.js';
import type { Access, Policy } from './policy.js';

/** A part of the allocation buffer that is for allocations with one hint. */
export interface Share {
  /** 1..65535. */
  readonly hint: number;
  /** Bytes, in whole 64 KiB. */
  readonly bytes: number;
}

/** A directory's part of the allocation buffer, in whole spans. */
export interface Part {
  readonly offset: number;
  readonly bytes: number;
  readonly shares: readonly Share[];
}

/** Identity under which everybody has a grant. */
export const EVERYBODY = 0;
/** Grants on one piece. */
const MAX_GRANTEES = 64;
/** Pieces with grants. */
const MAX_GRANTED_PIECES = 65536;
/** A multiple of a span, so that what lies in one span lies in one view. */
const VIEW_BYTES = 2 ** 30;

/**
 * A directory's part of the allocation buffer: an allocator for each hint, who may use what they allocate, and what happens to it when the
 * client that allocated it goes.
 */
export class Allocations {
  private readonly memory: HostMemory;
  /** Where the node's allocation buffer begins, and where this directory's part of it begins and ends. */
  private readonly bufferStart: number;
  private readonly base: number;
  private readonly end: number;
  /** That of hint 0 first; in the order of their addresses. */
  private readonly allocators: Allocator[] = [];
  private readonly hints: number[] = [];
  private readonly policy: Policy;
  private readonly grants = new Map<number, Set<number>>();
  private readonly views: Uint8Array[] = [];
  /** Of the last question. */
  private readonly access: Access = {
    identity: 0,
    offset: 0,
    size: 0,
    write: false,
    inAllocationBuffer: false,
    owner: 0,
    kept: false,
    granted: false,
  };

  /** `part`: in whole spans; what the shares leave is for hint 0. */
  constructor(memory: HostMemory, bufferStart: number, part: Part, policy: Policy) {
    const { offset: base, bytes, shares } = part;
    this.memory = memory;
    this.bufferStart = bufferStart;
    this.base = base;
    this.end = base + bytes;
    this.policy = policy;
    let spans = bytes / SPAN_BYTES;
    for (const share of shares) spans -= share.bytes / SPAN_BYTES;
    let firstSpan = 0;
    for (const [hint, length] of [
      [0, spans] as const,
      ...shares.map((share) => [share.hint, share.bytes / SPAN_BYTES] as const),
    ]) {
      this.hints.push(hint);
      this.allocators.push(new Allocator(base, firstSpan, length));
      firstSpan += length;
    }
  }

  get allocatedBytes(): number {
    let bytes = 0;
    for (let i = 0; i < this.allocators.length; i++) bytes += this.allocators[i]!.allocatedBytes;
    return bytes;
  }

  /** All spans of the part, for sweep(). */
  get spans(): number {
    return (this.end - this.base) / SPAN_BYTES;
  }

  hasHint(hint: number): boolean {
    return this.hints.indexOf(hint) >= 0;
  }

  /** The piece, or NONE. */
  allocate(hint: number, size: number, identity: number, kept: boolean): number {
    const allocator = this.allocators[this.hints.indexOf(hint)]!;
    const piece = allocator.allocate(size, identity, kept);
    if (piece !== NONE && this.policy.clears) {
      this.clear(allocator.offsetOf(piece), allocator.sizeOf(piece));
    }
    return piece;
  }

  /** The piece that all of the range lies in, NONE if there is none. */
  pieceAt(offset: number, size: number): number {
    const { base } = this;
    if (!(offset >= base) || !(offset + size <= this.end)) return NONE;
    for (let i = this.allocators.length - 1; i >= 0; i--) {
      const allocator = this.allocators[i]!;
      const start = base + allocator.firstSpan * SPAN_BYTES;
      if (offset < start) continue;
      return offset + size > start + allocator.spans * SPAN_BYTES
        ? NONE
        : allocator.pieceAt(offset - start, size);
    }
    return NONE;
  }

  offsetOf(piece: number): number {
    return this.of(piece).offsetOf(piece);
  }

  use(piece: number): void {
    this.of(piece).use(piece);
  }

  unuse(piece: number): void {
    if (this.of(piece).unuse(piece)) this.grants.delete(piece);
  }

  free(piece: number): void {
    if (this.of(piece).free(piece)) this.grants.delete(piece);
  }

  /** The piece that begins at `offset` and that this client may free; NONE if there is none. */
  freeable(offset: number, identity: number): number {
    const piece = this.pieceAt(offset, 1);
    if (piece === NONE || this.offsetOf(piece) !== offset) return NONE;
    return this.policy.mayFree(this.question(identity, offset, 1, true, piece)) ? piece : NONE;
  }

  /** Whether `size` is one that this piece may have been allocated with. */
  fits(piece: number, size: number): boolean {
    const allocator = this.of(piece);
    return size >= 1 && allocator.roundedSize(size) === allocator.sizeOf(piece);
  }

  /** Whether this client may have a lease on the range; `piece` is what pieceAt() says of it. */
  mayLease(identity: number, offset: number, size: number, write: boolean, piece: number): boolean {
    return this.policy.mayLease(this.question(identity, offset, size, write, piece));
  }

  /** The client's own piece that begins at `offset` outlives it; false if there is none. */
  keep(offset: number, identity: number): boolean {
    const piece = this.owned(offset, identity);
    if (piece === NONE) return false;
    this.of(piece).keep(piece);
    return true;
  }

  /** Let another client, or EVERYBODY, use the client's own piece that begins at `offset`; false if it has none or too many. */
  grant(offset: number, identity: number, grantee: number): boolean {
    const piece = this.owned(offset, identity);
    if (piece === NONE) return false;
    const grantees = this.grants.get(piece);
    if (grantees === undefined) {
      if (this.grants.size === MAX_GRANTED_PIECES) return false;
      this.grants.set(piece, new Set([grantee]));
      return true;
    }
    if (grantees.size === MAX_GRANTEES && !grantees.has(grantee)) return false;
    grantees.add(grantee);
    return true;
  }

  /** Free what a client that is gone allocated and did not keep, from span `from` to `to`. */
  sweep(identity: number, from: number, to: number): void {
    for (const allocator of this.allocators) {
      const last = Math.min(to, allocator.firstSpan + allocator.spans);
      for (let span = Math.max(from, allocator.firstSpan); span < last; span++) {
        allocator.forEachUnkept(span - allocator.firstSpan, identity, (piece) => this.free(piece));
      }
    }
  }

  /** Through views that are made once: a view of all memory may be longer than JavaScript allows. */
  private clear(offset: number, size: number): void {
    const number = Math.floor(offset / VIEW_BYTES);
    const start = number * VIEW_BYTES;
    if (offset + size > start + VIEW_BYTES) {
      new Uint8Array(this.memory.buffer, offset, size).fill(0);
      return;
    }
    const { buffer } = this.memory;
    this.views[number] ??= new Uint8Array(buffer, start, Math.min(VIEW_BYTES, buffer.byteLength - start));
    this.views[number].fill(0, offset - start, offset - start + size);
  }

  private owned(offset: number, identity: number): number {
    const piece = this.pieceAt(offset, 1);
    if (piece === NONE || this.offsetOf(piece) !== offset) return NONE;
    return this.of(piece).ownerOf(piece) === identity ? piece : NONE;
  }

  private question(identity: number, offset: number, size: number, write: boolean, piece: number): Access {
    const { access } = this;
    access.identity = identity;
    access.offset = offset;
    access.size = size;
    access.write = write;
    access.inAllocationBuffer = offset + size > this.bufferStart;
    if (piece === NONE) {
      access.owner = 0;
      access.kept = false;
      access.granted = false;
    } else {
      const allocator = this.of(piece);
      access.owner = allocator.ownerOf(piece);
      access.kept = allocator.kept(piece);
      const grantees = this.grants.size === 0 ? undefined : this.grants.get(piece);
      access.granted = grantees !== undefined && (grantees.has(identity) || grantees.has(EVERYBODY));
    }
    return access;
  }

  private of(piece: number): Allocator {
    if (this.allocators.length === 1) return this.allocators[0]!;
    const span = spanOf(piece);
    let i = this.allocators.length - 1;
    while (this.allocators[i]!.firstSpan > span) i--;
    return this.allocators[i]!;
  }
}
