const PRIME_A = 0x9e37_79b1;
const PRIME_B = 0x85eb_ca77;

/**
 * A 32-bit checksum of words [from, to), for detecting torn or recycled blocks; not a defence against forgery. Four
 * lanes hide the latency of the multiplication. Each step rotates, adds a word by xor and multiplies by an odd
 * number; all three are one-to-one, so a change of a single word always changes the result, and the rotation brings
 * high bits down to where the multiplication spreads them. The number of words is part of it.
 */
export function checksumWords(words: Uint32Array, from: number, to: number): number {
  let a = 0x243f_6a88;
  let b = 0x85a3_08d3 | 0;
  let c = 0x1319_8a2e;
  let d = 0x0370_7344;
  let i = from;
  for (const end = to - 3; i < end; i += 4) {
    a = Math.imul(((a << 13) | (a >>> 19)) ^ words[i]!, PRIME_A);
    b = Math.imul(((b << 13) | (b >>> 19)) ^ words[i + 1]!, PRIME_A);
    c = Math.imul(((c << 13) | (c >>> 19)) ^ words[i + 2]!, PRIME_A);
    d = Math.imul(((d << 13) | (d >>> 19)) ^ words[i + 3]!, PRIME_A);
  }
  for (; i < to; i++) a = Math.imul(((a << 13) | (a >>> 19)) ^ words[i]!, PRIME_A);
  let h = to - from;
  h = Math.imul(((h << 15) | (h >>> 17)) ^ a, PRIME_B);
  h = Math.imul(((h << 15) | (h >>> 17)) ^ b, PRIME_B);
  h = Math.imul(((h << 15) | (h >>> 17)) ^ c, PRIME_B);
  h = Math.imul(((h << 15) | (h >>> 17)) ^ d, PRIME_B);
  h ^= h >>> 15;
  h = Math.imul(h, PRIME_A);
  return (h ^ (h >>> 13)) >>> 0;
}
