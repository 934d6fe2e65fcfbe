import { markAsUntransferable } from 'node:worker_threads';

const SLAB_BYTES = 32 * 1024;
/** Larger results get memory of their own. */
const POOLED_BYTES = 2048;
/** Up to here a loop over words is faster than a call that copies. */
const LOOP_BYTES = 512;

/**
 * Copies of values for callers. An ArrayBuffer for each small result would take longer than all the rest of a get, so small
 * ones are cut from slabs, each byte handed out once. What is left of a slab lives as long as any of its results.
 */
export class ResultBytes {
  #slab = new ArrayBuffer(0);
  #words = new Uint32Array(0);
  #used = 2 * SLAB_BYTES;

  /** `size` bytes from the word `at` of `words` on; `bytes` is the same memory. */
  copy(words: Uint32Array, bytes: Uint8Array, at: number, size: number): Uint8Array {
    if (size > POOLED_BYTES) return bytes.slice(at * 4, at * 4 + size);
    const rounded = (size + 7) & ~7;
    if (this.#used + rounded > SLAB_BYTES) this.#newSlab();
    const from = this.#used;
    this.#used += rounded;
    const result = new Uint8Array(this.#slab, from, size);
    if (size > LOOP_BYTES) {
      result.set(bytes.subarray(at * 4, at * 4 + size));
      return result;
    }
    const target = this.#words;
    const end = (size + 3) >>> 2;
    for (let i = 0, to = from >>> 2; i < end; i++) target[to + i] = words[at + i]!;
    return result;
  }

  #newSlab(): void {
    this.#slab = new ArrayBuffer(SLAB_BYTES);
    // Moving one result to another thread would take the others' bytes away.
    markAsUntransferable(this.#slab);
    this.#words = new Uint32Array(this.#slab);
    this.#used = 0;
  }
}
