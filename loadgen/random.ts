/** Pseudo-random numbers from a seed: xoshiro128** (Blackman, Vigna), so that a run can be repeated. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /** Any integer; only its low 32 bits count. */
  constructor(seed: number) {
    // SplitMix32 spreads the seed over the state; four outputs in a row are never all zero.
    let state = seed | 0;
    const next = (): number => {
      state = (state + 0x9e3779b9) | 0;
      return mix32(state);
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    this.#d = next();
  }

  /** Uniform over 0 .. 2^32 - 1. */
  uint32(): number {
    const b5 = Math.imul(this.#b, 5);
    const result = Math.imul((b5 << 7) | (b5 >>> 25), 9);
    const t = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= t;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result >>> 0;
  }

  /** Uniform over [0, 1), in steps of 2^-53. */
  float(): number {
    return ((this.uint32() >>> 5) * 0x4000000 + (this.uint32() >>> 6)) / 0x20000000000000;
  }
}

/** A bijection of the 32-bit words in which every input bit reaches every output bit. Signed result. */
export function mix32(word: number): number {
  let x = word | 0;
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
  return x ^ (x >>> 15);
}
