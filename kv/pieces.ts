import type { NodeLayout } from '../patronus/index.js';
import { PIECE_BYTES, PIECE_ENTRY_BYTES, PieceState, pieceEntryLo } from './layout.js';
import type { LeaseKeeper } from './leases.js';
import { MAX_READ_BYTES, Words } from './words.js';

/** Memory that the table has from the node, as one allocation. */
export interface Piece {
  readonly offset: number;
  readonly bytes: number;
  readonly state: number;
  /** Of collections: when it was claimed. */
  readonly cycle: number;
}

/** Bytes of the registry for a node with such an allocation buffer. */
export function registryBytes(allocBytes: number): number {
  return Math.ceil(allocBytes / PIECE_BYTES) * PIECE_ENTRY_BYTES;
}

type Entry = readonly [lo: number, hi: number];

/**
 * The registry of pieces: what memory of the node is the table's, so that it can be found again when nobody knows of it
 * any more. A piece is used only once its entry says Kept, which its client makes of the Claimed that it has written before it told
 * the node to keep the piece. So of a client that dies in between there is a Claimed, and the piece may be kept or not: who
 * collects makes it Doomed, has the node free it if it was kept, and takes the entry away. A piece whose entry is doomed is
 * not claimed, so what is freed is never one that somebody has been given in between and uses.
 */
export class Pieces {
  readonly #words: Words;
  readonly #allocOffset: number;
  readonly #bytes: number;

  constructor(keeper: LeaseKeeper, node: NodeLayout, offset: number) {
    this.#allocOffset = node.allocOffset;
    this.#bytes = registryBytes(node.allocBytes);
    this.#words = new Words(keeper, offset, this.#bytes);
  }

  /** Before the node is told to keep the piece. False: it is not to be used. */
  async claim(offset: number, bytes: number, cycle: number): Promise<boolean> {
    const at = this.#placeOf(offset);
    const to: Entry = [pieceEntryLo(PieceState.Claimed, bytes / PIECE_BYTES), cycle];
    let known = await this.#entry(at);
    for (;;) {
      const state = known[0] & 3;
      if (state === PieceState.Doomed || state === PieceState.Kept) return false;
      const found = await this.#words.cas(at, known, to);
      if (same(found, known) || same(found, to)) return true;
      known = found;
    }
  }

  /** When the node keeps it. Only then, and only if true, is it used. */
  async keep(offset: number, bytes: number, cycle: number): Promise<boolean> {
    const count = bytes / PIECE_BYTES;
    const to: Entry = [pieceEntryLo(PieceState.Kept, count), cycle];
    return this.#change(offset, [pieceEntryLo(PieceState.Claimed, count), cycle], to);
  }

  async doom(piece: Piece): Promise<boolean> {
    const count = piece.bytes / PIECE_BYTES;
    const to: Entry = [pieceEntryLo(PieceState.Doomed, count), piece.cycle];
    return this.#change(piece.offset, [pieceEntryLo(piece.state, count), piece.cycle], to);
  }

  /** After the doom. */
  async forget(piece: Piece): Promise<void> {
    const doomed: Entry = [pieceEntryLo(PieceState.Doomed, piece.bytes / PIECE_BYTES), piece.cycle];
    await this.#change(piece.offset, doomed, [0, 0]);
  }

  /** All entries. */
  async read(): Promise<Piece[]> {
    const pieces: Piece[] = [];
    for (let from = 0; from < this.#bytes; from += MAX_READ_BYTES) {
      const words = await this.#words.read(from, Math.min(MAX_READ_BYTES, this.#bytes - from));
      for (let i = 0; i < words.length; i += 2) {
        const lo = words[i]!;
        if (lo === 0) continue;
        const index = from / PIECE_ENTRY_BYTES + i / 2;
        pieces.push({
          offset: this.#allocOffset + index * PIECE_BYTES,
          bytes: (lo >>> 2) * PIECE_BYTES,
          state: lo & 3,
          cycle: words[i + 1]!,
        });
      }
    }
    return pieces;
  }

  async #change(offset: number, from: Entry, to: Entry): Promise<boolean> {
    const found = await this.#words.cas(this.#placeOf(offset), from, to);
    return same(found, from) || same(found, to);
  }

  async #entry(at: number): Promise<Entry> {
    const words = await this.#words.read(at, 8);
    return [words[0]!, words[1]!];
  }

  #placeOf(offset: number): number {
    return ((offset - this.#allocOffset) / PIECE_BYTES) * PIECE_ENTRY_BYTES;
  }
}

function same(a: Entry, b: Entry): boolean {
  return a[0] === b[0] && a[1] === b[1];
}
