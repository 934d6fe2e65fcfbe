import { describe, expect, it } from 'vitest';
import { isIntact, runOf, sequenceOf, ValueWriter } from '../../loadgen/values.js';

const RUN = 0xfedcba98;

function makeValue(record: number, sequence: number, length: number): Uint8Array {
  return Uint8Array.from(new ValueWriter(length).make(record, RUN, sequence));
}

describe.each([16, 17, 19, 20, 100, 1001])('a value of %i bytes', (length) => {
  it('is recognised, and tells who wrote it', () => {
    const value = makeValue(5, 0x80000001, length);
    expect(value.length).toBe(length);
    expect(isIntact(5, value)).toBe(true);
    expect(runOf(value)).toBe(RUN);
    expect(sequenceOf(value)).toBe(0x80000001);
  });

  it('is refused with any bit flipped', () => {
    const value = makeValue(5, 3, length);
    for (let bit = 0; bit < length * 8; bit += 1) {
      value[bit >> 3]! ^= 1 << (bit & 7);
      expect(isIntact(5, value), `bit ${bit}`).toBe(false);
      value[bit >> 3]! ^= 1 << (bit & 7);
    }
    expect(isIntact(5, value)).toBe(true);
  });

  it('is refused cut short, lengthened, and for another record', () => {
    const value = makeValue(5, 3, length);
    for (let cut = 0; cut < length; cut += 1) expect(isIntact(5, value.subarray(0, cut))).toBe(false);
    expect(isIntact(5, Buffer.concat([value, Buffer.alloc(1)]))).toBe(false);
    expect(isIntact(6, value)).toBe(false);
  });

  it('is refused when half of it is from another write', () => {
    if (length <= 20) return;
    const torn = makeValue(5, 3, length);
    torn.set(makeValue(5, 4, length).subarray(length >> 1), length >> 1);
    expect(isIntact(5, torn)).toBe(false);
  });
});

it('refuses zeroes', () => {
  expect(isIntact(0, new Uint8Array(100))).toBe(false);
});
