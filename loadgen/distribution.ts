import { mix32, type Random } from './random.js';

/** How a run chooses records. */
export const DISTRIBUTIONS = ['zipfian', 'uniform'] as const;
export type DistributionName = (typeof DISTRIBUTIONS)[number];

/** Draws record numbers, 0 .. records - 1. */
export interface Distribution {
  next(): number;
}

/** YCSB's zipfian constant. */
export const ZIPFIAN_CONSTANT = 0.99;

export function createDistribution(name: DistributionName, records: number, random: Random): Distribution {
  return name === 'uniform' ? new Uniform(records, random) : new ScrambledZipfian(records, random);
}

export class Uniform implements Distribution {
  readonly #records: number;
  readonly #random: Random;

  constructor(records: number, random: Random) {
    this.#records = records;
    this.#random = random;
  }

  next(): number {
    return Math.floor(this.#random.float() * this.#records);
  }
}

/**
 * Ranks 0 .. records - 1, rank r with a probability proportional to 1 / (r + 1)^0.99. Drawn by rejection-inversion
 * (Hörmann and Derflinger, 1996): exact for every rank, where YCSB's formula approximates all but the first two, and
 * without its sum over all records at the start.
 */
export class Zipfian implements Distribution {
  readonly #records: number;
  readonly #random: Random;
  readonly #first: number;
  readonly #last: number;
  readonly #squeeze: number;

  constructor(records: number, random: Random) {
    this.#records = records;
    this.#random = random;
    this.#first = integral(1.5) - 1;
    this.#last = integral(records + 0.5);
    this.#squeeze = 2 - inverseIntegral(integral(2.5) - density(2));
  }

  next(): number {
    for (;;) {
      const u = this.#last + this.#random.float() * (this.#first - this.#last);
      const x = inverseIntegral(u);
      const k = Math.min(Math.max(Math.round(x), 1), this.#records);
      if (k - x <= this.#squeeze || u >= integral(k + 0.5) - density(k)) return k - 1;
    }
  }
}

/** Zipfian popularity with the popular records spread over all record numbers: see {@link scramble}. */
export class ScrambledZipfian implements Distribution {
  readonly #ranks: Zipfian;
  readonly #records: number;
  readonly #bits: number;

  constructor(records: number, random: Random) {
    this.#ranks = new Zipfian(records, random);
    this.#records = records;
    this.#bits = bitsFor(records);
  }

  next(): number {
    return permute(this.#ranks.next(), this.#records, this.#bits);
  }
}

/**
 * The record that has a popularity rank. A hash that is a permutation of 0 .. records - 1: no two ranks fall on one
 * record, as they do where a hash is reduced modulo the records, so the frequencies stay zipfian. The same in every
 * run: several generators on the same data have the same hot keys.
 */
export function scramble(rank: number, records: number): number {
  return permute(rank, records, bitsFor(records));
}

const E = 1 - ZIPFIAN_CONSTANT;

function density(x: number): number {
  return x ** -ZIPFIAN_CONSTANT;
}

/** The antiderivative of the density, 0 at 1. */
function integral(x: number): number {
  return Math.expm1(E * Math.log(x)) / E;
}

function inverseIntegral(y: number): number {
  return Math.exp(Math.log1p(E * y) / E);
}

function bitsFor(records: number): number {
  return Math.max(2, 32 - Math.clz32(records - 1));
}

/** Permutes 0 .. 2^bits - 1 over and over until the result is below `records`: fewer than two rounds on average. */
function permute(index: number, records: number, bits: number): number {
  const lowBits = bits >>> 1;
  const highBits = bits - lowBits;
  const lowMask = (1 << lowBits) - 1;
  const highMask = (1 << highBits) - 1;
  let x = index;
  do {
    // A Feistel network on halves of lowBits and highBits bits.
    let low = x & lowMask;
    let high = x >>> lowBits;
    high ^= mix32(low + 0x51ed270b) & highMask;
    low ^= mix32(high + 0x2c1b3c6d) & lowMask;
    high ^= mix32(low + 0x297a2d39) & highMask;
    low ^= mix32(high + 0x1b56c4e9) & lowMask;
    x = (high << lowBits) | low;
  } while (x >= records);
  return x;
}
