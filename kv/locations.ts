import type { KeyHash } from './hash.js';

/** 8 bytes each: 1 MiB in all, of which only what is used takes memory. */
const ENTRIES = 2 ** 17;
const MASK = ENTRIES - 1;
/** Blocks are 64-byte aligned: so many low bits of a slot's word are zero, but for the marks, and have the slot's place here. */
const PLACE = 63;

/**
 * Where keys have been found: the slot of one key for each value of some bits of the hash, and its word. A guess and no more: another
 * key can have taken the entry, and the slot can have another word by now. Who finds the word in the slot again knows that the guess was right.
 * The halves of a word are int32, which need no conversion.
 */
export class Locations {
  readonly #words = new Int32Array(2 * ENTRIES);

  /** The high half of the word, of a key with the fingerprint at least; 0: nothing is known. */
  hi(hash: KeyHash): number {
    const hi = this.#words[2 * (hash.lo & MASK) + 1]!;
    return hi >>> 24 === hash.fingerprint ? hi : 0;
  }

  lo(hash: KeyHash): number {
    return this.#words[2 * (hash.lo & MASK)]! & ~PLACE;
  }

  /** In the image of the key's buckets, as all slots. */
  slot(hash: KeyHash): number {
    return 2 * (this.#words[2 * (hash.lo & MASK)]! & PLACE);
  }

  /** Words with a mark are not remembered. */
  remember(hash: KeyHash, slot: number, lo: number, hi: number): void {
    if ((lo & PLACE) !== 0) return;
    const words = this.#words;
    const at = 2 * (hash.lo & MASK);
    words[at] = lo | (slot >>> 1);
    words[at + 1] = hi;
  }
}
