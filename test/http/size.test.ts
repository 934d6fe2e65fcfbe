import { describe, expect, it } from 'vitest';
import { formatSize, parseSize } from '../../http/size.js';

describe('parseSize', () => {
  it.each([
    ['0', 0],
    ['4194304', 4_194_304],
    ['12B', 12],
    ['64KiB', 65_536],
    ['256MiB', 268_435_456],
    ['256 mib', 268_435_456],
    ['1.5GiB', 1_610_612_736],
    ['1KB', 1_000],
    ['2MB', 2_000_000],
    ['3gb', 3_000_000_000],
  ])('reads %s', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each([
    '',
    'MiB',
    '-1',
    '1e9',
    '256M',
    '256Mi',
    '1 2',
    '0x10',
    '1TiB',
    '.5MiB',
    '0.3B',
    '1.0001KiB',
    '9007199254740993',
  ])('refuses %j', (text) => {
    expect(() => parseSize(text)).toThrow(RangeError);
  });
});

describe('formatSize', () => {
  it.each([
    [0, '0 B'],
    [1000, '1000 B'],
    [65_536, '64 KiB'],
    [268_435_456, '256 MiB'],
    [1_610_612_736, '1536 MiB'],
    [4 * 2 ** 30, '4 GiB'],
  ])('%d is %s', (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });
});
