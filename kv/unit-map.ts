import type { Extent } from './extent-stack.js';
import { PIECE_BYTES, UNIT_BYTES } from './layout.js';

const UNITS = PIECE_BYTES / UNIT_BYTES;
const WORDS = UNITS / 32;

/** A bit for each 64-byte unit of some pieces of memory: whether anything leads to it. Offsets elsewhere are left out. */
export class UnitMap {
  readonly #allocOffset: number;
  /** Of each 64 KiB of the allocation buffer: where its bits are, -1 if it is none of the pieces. */
  readonly #places: Int32Array;
  readonly #bits: Uint32Array;

  constructor(
    allocOffset: number,
    allocBytes: number,
    pieces: readonly { readonly offset: number; readonly bytes: number }[],
  ) {
    this.#allocOffset = allocOffset;
    this.#places = new Int32Array(Math.ceil(allocBytes / PIECE_BYTES)).fill(-1);
    let words = 0;
    for (const { offset, bytes } of pieces) {
      const first = (offset - allocOffset) / PIECE_BYTES;
      for (let i = 0; i < bytes / PIECE_BYTES; i++) {
        if (this.#places[first + i] !== -1) continue;
        this.#places[first + i] = words;
        words += WORDS;
      }
    }
    this.#bits = new Uint32Array(words);
  }

  mark(offset: number, units: number): void {
    const first = (offset - this.#allocOffset) / UNIT_BYTES;
    for (let unit = first; unit < first + units; unit++) {
      const place = this.#places[Math.floor(unit / UNITS)];
      if (place === undefined || place < 0) continue;
      const inPiece = unit % UNITS;
      this.#bits[place + (inPiece >>> 5)]! |= 1 << (inPiece & 31);
    }
  }

  /** Whether the offset lies in one of the pieces. */
  covers(offset: number): boolean {
    return (this.#places[Math.floor((offset - this.#allocOffset) / PIECE_BYTES)] ?? -1) >= 0;
  }

  isMarked(offset: number): boolean {
    return this.covers(offset) && this.#isMarked((offset - this.#allocOffset) / UNIT_BYTES);
  }

  /** Whether anything of one of the pieces is marked. */
  isUsed(offset: number, bytes: number): boolean {
    const first = (offset - this.#allocOffset) / PIECE_BYTES;
    for (let piece = first; piece < first + bytes / PIECE_BYTES; piece++) {
      const place = this.#places[piece]!;
      for (let word = place; word < place + WORDS; word++) if (this.#bits[word] !== 0) return true;
    }
    return false;
  }

  /** What is not marked, neighbours joined, in the order of the addresses. */
  unmarked(): Extent[] {
    const extents: Extent[] = [];
    let from = -1;
    const close = (unit: number) => {
      if (from < 0) return;
      extents.push({ offset: this.#allocOffset + from * UNIT_BYTES, units: unit - from, unlinked: false });
      from = -1;
    };
    for (let piece = 0; piece < this.#places.length; piece++) {
      const place = this.#places[piece]!;
      if (place < 0) {
        close(piece * UNITS);
        continue;
      }
      for (let word = 0; word < WORDS; word++) {
        const bits = this.#bits[place + word]!;
        const first = piece * UNITS + word * 32;
        if (bits === 0) {
          if (from < 0) from = first;
        } else if (bits === 0xffff_ffff) close(first);
        else {
          for (let bit = 0; bit < 32; bit++) {
            if ((bits & (1 << bit)) !== 0) close(first + bit);
            else if (from < 0) from = first + bit;
          }
        }
      }
    }
    close(this.#places.length * UNITS);
    return extents;
  }

  #isMarked(unit: number): boolean {
    const place = this.#places[Math.floor(unit / UNITS)]!;
    const inPiece = unit % UNITS;
    return (this.#bits[place + (inPiece >>> 5)]! & (1 << (inPiece & 31))) !== 0;
  }
}
