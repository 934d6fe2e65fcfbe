/**
 * HalfSipHash-1-3 with 64 bits of output (Aumasson and Bernstein's SipHash on 32-bit words): keyed, so that who does
 * not know a table's seed can't choose keys that fall into the same buckets.
 */

/** Hash of one key and what the index derives from it. Reused: filled in place. Its halves are int32, which need no conversion. */
export class KeyHash {
  lo = 0;
  hi = 0;

  /** Its low bits, as many as the directory has, select the directory entry. */
  get suffix(): number {
    return this.lo;
  }

  get fingerprint(): number {
    return this.hi >>> 24;
  }

  /** 20 bits that select the first combined bucket. */
  get partA(): number {
    return this.hi & 0xf_ffff;
  }

  /** 20 bits that select the second: mixed from all 64, so that neither the suffix nor the first bucket fixes them. */
  get partB(): number {
    const mixed = Math.imul(this.lo ^ (this.lo >>> 15), 0x2c1b_3c6d) ^ Math.imul(this.hi, 0x297a_2d39);
    return Math.imul(mixed ^ (mixed >>> 15), 0x1b56_c4e9) >>> 12;
  }
}

/** Hashes `length` bytes in `words`; the bytes behind them in the last word must be zero. */
export function hashKey(
  words: Uint32Array,
  length: number,
  seedLo: number,
  seedHi: number,
  out: KeyHash,
): void {
  let v0 = seedLo | 0;
  let v1 = seedHi ^ 0xee;
  let v2 = 0x6c79_6765 ^ seedLo;
  let v3 = 0x7465_6462 ^ seedHi;
  const whole = length >>> 2;
  // The round index runs over the message words, the length word and the 2 * 3 finalisation rounds.
  for (let i = 0; i < whole + 7; i++) {
    let m = 0;
    if (i < whole) m = words[i]!;
    else if (i === whole) m = (length << 24) | ((length & 3) === 0 ? 0 : words[whole]!);
    else if (i === whole + 1) v2 ^= 0xee;
    else if (i === whole + 4) {
      out.lo = v1 ^ v3;
      v1 ^= 0xdd;
    }
    v3 ^= m;
    v0 = (v0 + v1) | 0;
    v1 = (v1 << 5) | (v1 >>> 27);
    v1 ^= v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = (v3 << 8) | (v3 >>> 24);
    v3 ^= v2;
    v0 = (v0 + v3) | 0;
    v3 = (v3 << 7) | (v3 >>> 25);
    v3 ^= v0;
    v2 = (v2 + v1) | 0;
    v1 = (v1 << 13) | (v1 >>> 19);
    v1 ^= v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= m;
  }
  out.hi = v1 ^ v3;
}

/** Which of the 2 * groups combined buckets a 20-bit part selects: group * 2 + side. */
export function combinedBucket(part: number, groups: number): number {
  return (part * 2 * groups) >>> 20;
}

/**
 * The key's second combined bucket, given its first. Two combined buckets of one group share the overflow bucket,
 * so the second is always taken from another group: the key then has 28 slots, none of them twice.
 */
export function secondBucket(part: number, first: number, groups: number): number {
  const second = combinedBucket(part, groups);
  return second >>> 1 === first >>> 1 ? (second + 2) % (2 * groups) : second;
}
