import { describe, expect, test } from 'vitest';
import {
  blockExpiry,
  blockHoldsKey,
  blockIntact,
  blockIsCounter,
  blockMetaLength,
  blockMetaWord,
  blockUnits,
  blockValueStart,
  blockVersion,
  COUNTER,
  fillBlock,
  prefixBytes,
  sealBlock,
  unitsOfBlock,
  valueOffset,
} from '../../kv/block.js';
import { checksumWords } from '../../kv/checksum.js';
import { combinedBucket, hashKey, KeyHash, secondBucket } from '../../kv/hash.js';
import {
  BUCKET_MARK,
  bucketHeaderLo,
  bucketServes,
  bucketTakes,
  COMBINED_BYTES,
  DEFAULT_GROUPS,
  FILLING,
  FROZEN,
  GROUP_BYTES,
  LARGE_UNITS,
  MAX_GROUPS,
  PENDING,
  SB_MAX_VALUE_BYTES,
  SB_VERSION_OFFSET,
  SLOTS_PER_BUCKET,
  SPLITTING,
  slotHi,
  slotPointer,
  slotUnits,
  subtableBytes,
} from '../../kv/layout.js';
import { seeded } from './random.js';

/** HalfSipHash by its paper, in the plainest way: bytes in, 8 bytes out, any numbers of rounds. */
function halfSipHash(c: number, d: number, key: Uint8Array, message: Uint8Array): string {
  const M = 0xffff_ffffn;
  const rotl = (x: bigint, n: bigint) => ((x << n) | (x >> (32n - n))) & M;
  const le = (bytes: Uint8Array, at: number) => BigInt(new DataView(bytes.buffer).getUint32(at, true));
  const k0 = le(key, 0);
  const k1 = le(key, 4);
  let [v0, v1, v2, v3] = [k0, k1 ^ 0xeen, 0x6c796765n ^ k0, 0x74656462n ^ k1];
  const rounds = (n: number) => {
    for (let i = 0; i < n; i++) {
      v0 = (v0 + v1) & M;
      v1 = rotl(v1, 5n) ^ v0;
      v0 = rotl(v0, 16n);
      v2 = (v2 + v3) & M;
      v3 = rotl(v3, 8n) ^ v2;
      v0 = (v0 + v3) & M;
      v3 = rotl(v3, 7n) ^ v0;
      v2 = (v2 + v1) & M;
      v1 = rotl(v1, 13n) ^ v2;
      v2 = rotl(v2, 16n);
    }
  };
  const padded = new Uint8Array((Math.floor(message.length / 4) + 1) * 4);
  padded.set(message);
  padded[padded.length - 1] = message.length & 0xff;
  for (let at = 0; at < padded.length; at += 4) {
    const m = le(padded, at);
    v3 ^= m;
    rounds(c);
    v0 ^= m;
  }
  v2 ^= 0xeen;
  rounds(d);
  const first = v1 ^ v3;
  v1 ^= 0xddn;
  rounds(d);
  const out = Buffer.alloc(8);
  out.writeUInt32LE(Number(first), 0);
  out.writeUInt32LE(Number(v1 ^ v3), 4);
  return out.toString('hex');
}

const counting = (length: number) => Uint8Array.from({ length }, (_, i) => i);

function hashOf(message: Uint8Array, seedLo: number, seedHi: number): KeyHash {
  const words = new Uint32Array(Math.ceil(message.length / 4) + 1);
  new Uint8Array(words.buffer).set(message);
  const out = new KeyHash();
  hashKey(words, message.length, seedLo, seedHi, out);
  return out;
}

describe('hash', () => {
  test('the reference in this test gives the published vectors of HalfSipHash-2-4', () => {
    const vectors = ['218d1f59b9b83cc8', 'be552412f8387315', '064f39ef7c50eb57', 'ce0f1a45f7060679'];
    vectors.forEach((vector, i) => {
      expect(halfSipHash(2, 4, counting(8), counting(i))).toBe(vector);
    });
  });

  test('is HalfSipHash-1-3 for all lengths', () => {
    const random = seeded(1);
    for (let length = 0; length < 300; length++) {
      const message = Uint8Array.from({ length }, () => random() * 256);
      const key = Uint8Array.from({ length: 8 }, () => random() * 256);
      const view = new DataView(key.buffer);
      const { lo, hi } = hashOf(message, view.getUint32(0, true), view.getUint32(4, true));
      const out = Buffer.alloc(8);
      out.writeInt32LE(lo, 0);
      out.writeInt32LE(hi, 4);
      expect(out.toString('hex')).toBe(halfSipHash(1, 3, key, message));
    }
  });

  test("its parts don't follow from each other", () => {
    const random = seeded(4);
    const hash = new KeyHash();
    for (let bit = 0; bit < 64; bit++) {
      // The second bucket depends on every bit, the others on none of each other's.
      let changed = 0;
      for (let i = 0; i < 64; i++) {
        hash.lo = Math.floor(random() * 2 ** 32);
        hash.hi = Math.floor(random() * 2 ** 32);
        const before = [hash.suffix, hash.fingerprint, hash.partA, hash.partB];
        if (bit < 32) hash.lo = (hash.lo ^ (1 << bit)) >>> 0;
        else hash.hi = (hash.hi ^ (1 << (bit - 32))) >>> 0;
        const after = [hash.suffix, hash.fingerprint, hash.partA, hash.partB];
        if (after[3] !== before[3]) changed++;
        const others = [0, 1, 2].filter((part) => after[part] !== before[part]);
        expect(others.length).toBeLessThanOrEqual(1);
        for (const part of after.slice(1)) expect(part).toBeLessThan(2 ** 20);
      }
      expect(changed).toBeGreaterThan(40);
    }
  });

  test('the two combined buckets are of different groups and spread evenly', () => {
    const random = seeded(2);
    for (const groups of [2, 3, 64, DEFAULT_GROUPS, MAX_GROUPS]) {
      const counts = new Uint32Array(2 * groups);
      for (let i = 0; i < 40 * groups; i++) {
        const a = combinedBucket(Math.floor(random() * 2 ** 20), groups);
        const b = secondBucket(Math.floor(random() * 2 ** 20), a, groups);
        expect(a >>> 1).not.toBe(b >>> 1);
        counts[a]!++;
        counts[b]!++;
      }
      expect(Math.min(...counts)).toBeGreaterThan(5);
      expect(Math.max(...counts)).toBeLessThan(100);
      expect(combinedBucket(2 ** 20 - 1, groups)).toBe(2 * groups - 1);
    }
  });
});

describe('layout', () => {
  test('sizes fit together', () => {
    expect(subtableBytes(DEFAULT_GROUPS)).toBe(256 * 1024);
    expect(8 + SLOTS_PER_BUCKET * 8).toBe(64);
    expect(GROUP_BYTES).toBe(COMBINED_BYTES + 64);
    expect((2 ** 20 - 1) * 2 * MAX_GROUPS).toBeLessThan(2 ** 32);
    expect((SB_MAX_VALUE_BYTES + 1) * 4).toBeLessThanOrEqual(SB_VERSION_OFFSET);
  });

  test('slots keep pointer, length and fingerprint', () => {
    for (const offset of [64, 0x8000_0040, 0xffff_ffc0, 0x1_0000_0000, 2 ** 48 - 64]) {
      for (const units of [1, 254, 255, 20_000]) {
        for (const fingerprint of [0, 1, 0x80, 0xff]) {
          const hi = slotHi(offset, units, fingerprint);
          expect(slotPointer(((offset % 2 ** 32) | PENDING) >>> 0, hi)).toBe(offset);
          expect(slotPointer(((offset % 2 ** 32) | FROZEN) >>> 0, hi)).toBe(offset);
          expect(slotPointer(offset % 2 ** 32, hi)).toBe(offset);
          expect(slotUnits(hi)).toBe(Math.min(units, LARGE_UNITS));
          expect(hi >>> 24).toBe(fingerprint);
          expect(hi).toBeGreaterThan(0);
        }
      }
    }
  });

  test('stale buckets are told by depth and suffix', () => {
    expect(bucketServes(bucketHeaderLo(2), 0b01, 2, 0b1101)).toBe(true);
    // Split since the directory was read: the half with the new bit has moved.
    expect(bucketServes(bucketHeaderLo(3), 0b001, 2, 0b1001)).toBe(true);
    expect(bucketServes(bucketHeaderLo(3), 0b001, 2, 0b1101)).toBe(false);
    expect(bucketServes(bucketHeaderLo(2), 0b10, 2, 0b1101)).toBe(false);
    expect(bucketServes(0, 0, 0, 0)).toBe(false);
    // While it is being split or filled it still serves its readers, at any depth.
    expect(bucketServes(bucketHeaderLo(31, SPLITTING), 0x1234_5678, 31, 0x9234_5678)).toBe(true);
    expect(bucketServes(bucketHeaderLo(2, FILLING), 0b01, 2, 0b1101)).toBe(true);
  });

  test('a bucket that is being split takes the keys that stay', () => {
    expect(bucketTakes(bucketHeaderLo(2), 0b1101)).toBe(true);
    expect(bucketTakes(bucketHeaderLo(2, SPLITTING), 0b1001)).toBe(true);
    expect(bucketTakes(bucketHeaderLo(2, SPLITTING), 0b1101)).toBe(false);
    expect(bucketTakes(bucketHeaderLo(2, FILLING), 0b1001)).toBe(false);
    expect(BUCKET_MARK & 0xffff).toBe(0);
  });
});

describe('checksum', () => {
  test('changes with every bit, with the length and with the order', () => {
    const random = seeded(3);
    for (const length of [1, 2, 3, 4, 5, 7, 8, 9, 40]) {
      const words = Uint32Array.from({ length }, () => random() * 2 ** 32);
      const sum = checksumWords(words, 0, length);
      for (let bit = 0; bit < 32 * length; bit++) {
        words[bit >>> 5]! ^= 1 << (bit & 31);
        expect(checksumWords(words, 0, length)).not.toBe(sum);
        words[bit >>> 5]! ^= 1 << (bit & 31);
      }
      expect(checksumWords(words, 0, length - 1)).not.toBe(sum);
      if (length > 1) expect(checksumWords(words.slice().reverse(), 0, length)).not.toBe(sum);
    }
    // High bits of two words of one lane must not cancel.
    const zero = new Uint32Array(16);
    const two = zero.slice();
    two[0] = two[4] = 0x8000_0000;
    expect(checksumWords(two, 0, 16)).not.toBe(checksumWords(zero, 0, 16));
  });
});

describe('block', () => {
  const make = (keyLength: number, valueLength: number, metaLength = 0, expiry = 0, flags = 0) => {
    const units = blockUnits(keyLength, metaLength, valueLength);
    const words = new Uint32Array(units * 16).fill(0xdead_beef);
    const bytes = new Uint8Array(words.buffer);
    const keyWords = new Uint32Array(Math.ceil(keyLength / 4));
    new Uint8Array(keyWords.buffer).set(counting(keyLength));
    const value = Uint8Array.from({ length: valueLength }, (_, i) => i * 7);
    const meta = metaLength === 0 ? undefined : Uint8Array.from({ length: metaLength }, (_, i) => i * 3);
    fillBlock(words, bytes, keyWords, keyLength, 11, 22, value, meta, expiry, flags);
    sealBlock(words, 2 ** 40 + 5);
    return { words, bytes, keyWords, value, meta };
  };

  test('keeps key, value and version, and ends with zeros', () => {
    for (const keyLength of [1, 3, 4, 5, 31, 4096]) {
      for (const valueLength of [0, 1, 27, 64, 1000]) {
        const { words, bytes, keyWords, value } = make(keyLength, valueLength);
        const at = valueOffset(keyLength, 0);
        expect(bytes.subarray(at, at + valueLength)).toEqual(value);
        expect(bytes.subarray(at + valueLength).every((byte) => byte === 0)).toBe(true);
        expect(blockIntact(words, 0, bytes.length)).toBe(true);
        expect(blockHoldsKey(words, 0, keyWords, keyLength, 11, 22)).toBe(true);
        expect(blockVersion(words, 0)).toBe(2 ** 40 + 5);
        expect(prefixBytes(keyLength)).toBeGreaterThanOrEqual(32 + keyLength);
      }
    }
  });

  test('keeps metadata, expiry and flags', () => {
    for (const metaLength of [1, 7, 8, 9, 255]) {
      const { words, bytes, meta, value } = make(5, 20, metaLength, 2 ** 47 + 12_345, COUNTER);
      expect(blockMetaLength(words, 0)).toBe(metaLength);
      const at = blockMetaWord(words, 0) * 4;
      expect(bytes.subarray(at, at + metaLength)).toEqual(meta);
      const start = blockValueStart(words, 0);
      expect(start % 8).toBe(0);
      expect(bytes.subarray(start, start + 20)).toEqual(value);
      expect(blockExpiry(words, 0)).toBe(2 ** 47 + 12_345);
      expect(blockVersion(words, 0)).toBe(2 ** 40 + 5);
      expect(blockIsCounter(words, 0)).toBe(true);
      expect(unitsOfBlock(words, 0)).toBe(bytes.length / 64);
    }
  });

  test('a counter may change, and nothing else of its block', () => {
    const { words, bytes } = make(5, 8, 0, 0, COUNTER);
    const start = blockValueStart(words, 0);
    for (let i = 0; i < start + 8; i++) {
      bytes[i]! ^= 0x40;
      expect(blockIntact(words, 0, bytes.length), `byte ${i}`).toBe(i >= start);
      bytes[i]! ^= 0x40;
    }
  });

  test('tells keys apart that differ in hash, length or bytes', () => {
    const { words, keyWords } = make(6, 10);
    expect(blockHoldsKey(words, 0, keyWords, 6, 11, 23)).toBe(false);
    expect(blockHoldsKey(words, 0, keyWords, 6, 12, 22)).toBe(false);
    expect(blockHoldsKey(words, 0, keyWords, 7, 11, 22)).toBe(false);
    keyWords[1]! ^= 0x100;
    expect(blockHoldsKey(words, 0, keyWords, 6, 11, 22)).toBe(false);
  });

  test('any changed byte shows, also a length that points outside', () => {
    const { words, bytes } = make(6, 50);
    const used = valueOffset(6, 0) + 50;
    for (let i = 0; i < used; i++) {
      bytes[i]! ^= 0x40;
      expect(blockIntact(words, 0, bytes.length), `byte ${i}`).toBe(false);
      bytes[i]! ^= 0x40;
    }
    expect(blockIntact(words, 0, 64)).toBe(false);
  });
});
