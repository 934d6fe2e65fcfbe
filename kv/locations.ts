import type { KeyHash } from './hash.js';

/** 8 bytes each: 1 MiB in all, of which only what is used takes memory. */
const ENTRIES = 2 ** 17;
const MASK = ENTRIES - 1;

/**
 * Where keys have been found: the word of the slot of one key for each value of some bits of the hash. A guess and no more: another
 * key can have taken the place, and the slot another word. Who finds the word in the slot again knows that the guess was right.
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
    return this.#words[2 * (hash.lo & MASK)]!;
  }

  remember(hash: KeyHash, lo: number, hi: number): void {
    const words = this.#words;
    const at = 2 * (hash.lo & MASK);
    words[at] = lo;
    words[at + 1] = hi;
  }
}
