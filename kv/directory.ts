import { type Batch, type Lease, type RdmaBuffer, RetCode } from '../patronus/index.js';
import { badTable } from './errors.js';
import { classUnits } from './free-lists.js';
import {
  DIRECTORY_ENTRY_BYTES,
  MAX_DEPTH,
  pointerOf,
  SB_DIRECTORY_OFFSET,
  subtableBytes,
  suffixMask,
  UNIT_BYTES,
} from './layout.js';
import type { LeaseCell, LeaseKeeper } from './leases.js';

/** A read of up to so many bytes brings every 64-bit word whole. */
const WORDWISE_BYTES = 256;
const MAX_BATCH = 16;

/** Units of memory that a directory of so many bytes is given. */
export function unitsOfDirectory(bytes: number): number {
  return classUnits(Math.ceil(bytes / UNIT_BYTES));
}

export function unitsOfSubtable(groups: number): number {
  return classUnits(subtableBytes(groups) / UNIT_BYTES);
}

/** A subtable as this client knows it. */
export interface Subtable {
  readonly offset: number;
  readonly localDepth: number;
  /** The low `localDepth` bits of the hashes of its keys. */
  readonly suffix: number;
  /** The write lease that slots are changed under. */
  readonly lease: LeaseCell;
}

/** The directory as it was at one time. */
export interface DirectoryImage {
  readonly offset: number;
  readonly depth: number;
  /** Two for each entry. */
  readonly words: Uint32Array;
}

/**
 * The cached directory. It can be out of date: the bucket headers tell, see bucketServes(). Subtables of several
 * entries (local depth below the global depth) are one object.
 */
export class Directory {
  entries: readonly Subtable[] = [];
  readonly #keeper: LeaseKeeper;
  readonly #subtableBytes: number;
  readonly #memoryBytes: number;
  readonly #byOffset = new Map<number, Subtable>();

  constructor(keeper: LeaseKeeper, subtableSize: number, memoryBytes: number) {
    this.#keeper = keeper;
    this.#subtableBytes = subtableSize;
    this.#memoryBytes = memoryBytes;
  }

  get subtables(): number {
    return this.#byOffset.size;
  }

  /** The subtable of a key, by the low bits of its hash. */
  subtableOf(suffix: number): Subtable {
    const { entries } = this;
    return entries[suffix & (entries.length - 1)]!;
  }

  take(image: DirectoryImage): void {
    const { words, depth } = image;
    const entries: Subtable[] = [];
    for (let i = 0; i < words.length; i += 2) {
      entries.push(this.#subtable(words[i]!, words[i + 1]!, i / 2, depth));
    }
    this.entries = entries;
  }

  #subtable(lo: number, hi: number, index: number, depth: number): Subtable {
    const offset = pointerOf(lo, hi);
    const localDepth = (hi >>> 16) & 0xff;
    const fits = offset > 0 && offset + this.#subtableBytes <= this.#memoryBytes;
    if (!fits || offset % UNIT_BYTES !== 0 || localDepth > depth) throw badTable('the directory is damaged');
    const known = this.#byOffset.get(offset);
    if (known !== undefined && known.localDepth === localDepth) return known;
    const lease = known?.lease ?? this.#keeper.cell(offset, this.#subtableBytes, true);
    const subtable = { offset, localDepth, suffix: (index & suffixMask(localDepth)) >>> 0, lease };
    this.#byOffset.set(offset, subtable);
    return subtable;
  }
}

/**
 * Reads where the directory is, under `superblock` (a lease from the superblock's start), and then the directory, under
 * `region`, which has to be the older lease, with `flags` of RwFlag: a directory that was replaced in between is not reused before it ends.
 */
export async function readDirectory(
  batch: Batch,
  buffers: { getRdmaBuffer(size: number): RdmaBuffer; putRdmaBuffer(buffer: RdmaBuffer): void },
  superblock: Lease,
  region: Lease,
  flags: number,
): Promise<DirectoryImage | RetCode> {
  const head = buffers.getRdmaBuffer(UNIT_BYTES);
  let body: RdmaBuffer | undefined;
  try {
    let status = batch.prepareRead(superblock, head, 0, 8, SB_DIRECTORY_OFFSET - superblock.offset, flags);
    status = status === RetCode.Ok ? await batch.commit() : status;
    if (status !== RetCode.Ok) return status;
    const offset = pointerOf(head.words[0]!, head.words[1]!);
    const depth = (head.words[1]! >>> 16) & 0xff;
    const size = 2 ** depth * DIRECTORY_ENTRY_BYTES;
    if (depth > MAX_DEPTH || offset < region.offset || offset + size > region.offset + region.size) {
      throw badTable('the word of the directory is damaged');
    }
    body = buffers.getRdmaBuffer(size);
    for (let at = 0; at < size; ) {
      for (; at < size && batch.count < MAX_BATCH && status === RetCode.Ok; at += WORDWISE_BYTES) {
        const piece = Math.min(WORDWISE_BYTES, size - at);
        status = batch.prepareRead(region, body, at, piece, offset - region.offset + at, flags);
      }
      if (status === RetCode.Ok) status = await batch.commit();
      if (status !== RetCode.Ok) return status;
    }
    return { offset, depth, words: body.words.slice(0, size / 4) };
  } finally {
    batch.reset();
    buffers.putRdmaBuffer(head);
    if (body !== undefined) buffers.putRdmaBuffer(body);
  }
}
