/** Bytes of every key. */
export const KEY_BYTES = 23;
const KEY_DIGITS = KEY_BYTES - 4;
const KEY_WORDS = 6;

/**
 * The keys of YCSB for records 0 .. count - 1: "user" and the record's number hashed by 64-bit FNV-1, here always with
 * 19 digits (YCSB's own padding off gives the same key wherever the hash has 19).
 */
export class Keys {
  readonly #words: Uint32Array;

  constructor(count: number) {
    this.#words = new Uint32Array(count * KEY_WORDS);
    const bytes = new Uint8Array(this.#words.buffer);
    for (let record = 0; record < count; record += 1) writeKey(bytes, record * KEY_WORDS * 4, record);
  }

  /** Puts a record's key in `key`. */
  copy(record: number, key: KeyBuffer): void {
    const from = record * KEY_WORDS;
    for (let i = 0; i < KEY_WORDS; i += 1) key.words[i] = this.#words[from + i]!;
  }
}

/** Holds one key at a time, so that choosing a key allocates nothing. */
export class KeyBuffer {
  readonly words = new Uint32Array(KEY_WORDS);
  /** The key, {@link KEY_BYTES} bytes. */
  readonly bytes = new Uint8Array(this.words.buffer, 0, KEY_BYTES);
}

const limbs = new Uint16Array(4);

function writeKey(bytes: Uint8Array, offset: number, record: number): void {
  bytes[offset] = 0x75;
  bytes[offset + 1] = 0x73;
  bytes[offset + 2] = 0x65;
  bytes[offset + 3] = 0x72;
  fnv64(record);
  // Long division by 10 of the number in the limbs, last digit first.
  for (let at = offset + 4 + KEY_DIGITS - 1; at >= offset + 4; at -= 1) {
    let rest = 0;
    for (let i = 3; i >= 0; i -= 1) {
      const part = rest * 0x10000 + limbs[i]!;
      limbs[i] = part / 10;
      rest = part % 10;
    }
    bytes[at] = 0x30 + rest;
  }
}

/**
 * YCSB's hash: over the eight bytes of the number, first the exclusive or, then the product with 2^40 + 0x1b3; the
 * absolute value of the signed result. 64-bit numbers as four 16-bit limbs, the lowest first.
 */
function fnv64(record: number): void {
  let l0 = 0x2325;
  let l1 = 0x8422;
  let l2 = 0x9ce4;
  let l3 = 0xcbf2;
  for (let octet = 0; octet < 8; octet += 1) {
    l0 ^= octet < 4 ? (record >>> (8 * octet)) & 0xff : 0;
    let sum = l0 * 0x1b3;
    const p0 = sum & 0xffff;
    sum = (sum >>> 16) + l1 * 0x1b3;
    const p1 = sum & 0xffff;
    sum = (sum >>> 16) + l2 * 0x1b3 + (l0 << 8);
    const p2 = sum & 0xffff;
    sum = (sum >>> 16) + l3 * 0x1b3 + (l1 << 8);
    l0 = p0;
    l1 = p1;
    l2 = p2;
    l3 = sum & 0xffff;
  }
  if (l3 & 0x8000) {
    // Two's complement.
    let carry = 1;
    const negate = (limb: number): number => {
      const sum = (~limb & 0xffff) + carry;
      carry = sum >>> 16;
      return sum & 0xffff;
    };
    l0 = negate(l0);
    l1 = negate(l1);
    l2 = negate(l2);
    l3 = negate(l3);
  }
  limbs[0] = l0;
  limbs[1] = l1;
  limbs[2] = l2;
  limbs[3] = l3;
}
