import { expect, it } from 'vitest';
import { KEY_BYTES, KeyBuffer, Keys } from '../../loadgen/keys.js';

function keyOf(keys: Keys, record: number): string {
  const key = new KeyBuffer();
  keys.copy(record, key);
  return Buffer.from(key.bytes).toString('latin1');
}

/** The definition, in 64-bit arithmetic. */
function definition(record: number): string {
  let hash = 0xcbf29ce484222325n;
  for (let octet = 0n; octet < 8n; octet += 1n) {
    hash ^= (BigInt(record) >> (8n * octet)) & 0xffn;
    hash = BigInt.asUintN(64, hash * 1099511628211n);
  }
  const signed = BigInt.asIntN(64, hash);
  return `user${(signed < 0n ? -signed : signed).toString().padStart(KEY_BYTES - 4, '0')}`;
}

it('makes the keys of YCSB', () => {
  const keys = new Keys(70_000);
  // Well known from listings of YCSB data sets.
  expect(keyOf(keys, 0)).toBe('user6284781860667377211');
  for (const record of [1, 2, 255, 256, 257, 12_345, 65_535, 65_536, 69_999]) {
    expect(keyOf(keys, record)).toBe(definition(record));
  }
});

it('makes different keys of one length', () => {
  const count = 20_000;
  const keys = new Keys(count);
  const seen = new Set<string>();
  for (let record = 0; record < count; record += 1) {
    const key = keyOf(keys, record);
    expect(key).toMatch(/^user\d{19}$/);
    seen.add(key);
  }
  expect(seen.size).toBe(count);
});
