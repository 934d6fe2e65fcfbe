import { checksumWords } from './checksum.js';
import { UNIT_BYTES } from './layout.js';

/**
 * A key-value block: header, key, value. Immutable from the moment its slot is published until nobody can read it any
 * more. Word by word:
 *   0 checksum of words [1, end of the value)   1 value length   2 key length (low 16 bits)   3, 4 hash of the key
 *   5 zero   6, 7 version   8.. key, then value, each padded with zeros to a whole word
 */
export const BLOCK_HEADER_BYTES = 32;
export const BLOCK_HEADER_WORDS = BLOCK_HEADER_BYTES / 4;
const CHECKSUM = 0;
const VALUE_LENGTH = 1;
const KEY_LENGTH = 2;
const HASH_LO = 3;
const HASH_HI = 4;
const RESERVED = 5;
const VERSION_LO = 6;
const VERSION_HI = 7;

export function keyWordCount(keyLength: number): number {
  return (keyLength + 3) >>> 2;
}

/** Offset of the value in its block. */
export function valueOffset(keyLength: number): number {
  return BLOCK_HEADER_BYTES + keyWordCount(keyLength) * 4;
}

/** Bytes to read for the header and the key, in whole units. */
export function prefixBytes(keyLength: number): number {
  return (valueOffset(keyLength) + UNIT_BYTES - 1) & -UNIT_BYTES;
}

/** Units that a block needs. */
export function blockUnits(keyLength: number, valueLength: number): number {
  return Math.ceil((valueOffset(keyLength) + valueLength) / UNIT_BYTES);
}

function endWord(keyLength: number, valueLength: number): number {
  return (valueOffset(keyLength) + valueLength + 3) >>> 2;
}

/** Fills a block, but for the version and the checksum. The buffer's first bytes become the block. */
export function fillBlock(
  words: Uint32Array,
  bytes: Uint8Array,
  keyWords: Uint32Array,
  keyLength: number,
  hashLo: number,
  hashHi: number,
  value: Uint8Array,
): void {
  const keyEnd = BLOCK_HEADER_WORDS + keyWordCount(keyLength);
  words[VALUE_LENGTH] = value.length;
  words[KEY_LENGTH] = keyLength;
  words[HASH_LO] = hashLo;
  words[HASH_HI] = hashHi;
  words[RESERVED] = 0;
  for (let i = BLOCK_HEADER_WORDS; i < keyEnd; i++) words[i] = keyWords[i - BLOCK_HEADER_WORDS]!;
  const at = keyEnd * 4;
  const end = at + value.length;
  const unitsEnd = blockUnits(keyLength, value.length) * UNIT_BYTES;
  bytes.set(value, at);
  if (end < unitsEnd) bytes.fill(0, end, unitsEnd);
}

export function sealBlock(words: Uint32Array, version: number): void {
  words[VERSION_LO] = version >>> 0;
  words[VERSION_HI] = Math.floor(version / 0x1_0000_0000);
  words[CHECKSUM] = checksumWords(words, 1, endWord(words[KEY_LENGTH]!, words[VALUE_LENGTH]!));
}

/** `at` is the word where the block begins. Reads no further than the block's first {@link prefixBytes}. */
export function blockHoldsKey(
  words: Uint32Array,
  at: number,
  keyWords: Uint32Array,
  keyLength: number,
  hashLo: number,
  hashHi: number,
): boolean {
  if (words[at + HASH_LO] !== hashLo || words[at + HASH_HI] !== hashHi) return false;
  if (words[at + KEY_LENGTH] !== keyLength) return false;
  const base = at + BLOCK_HEADER_WORDS;
  for (let i = (keyLength - 1) >>> 2; i >= 0; i--) if (words[base + i] !== keyWords[i]) return false;
  return true;
}

/** Whether the `size` bytes at word `at` hold a whole, unharmed block. */
export function blockIntact(words: Uint32Array, at: number, size: number): boolean {
  const keyLength = words[at + KEY_LENGTH]!;
  const valueLength = words[at + VALUE_LENGTH]!;
  if (keyLength > 0xffff || valueOffset(keyLength) + valueLength > size) return false;
  return words[at + CHECKSUM] === checksumWords(words, at + 1, at + endWord(keyLength, valueLength));
}

export function blockHashLo(words: Uint32Array, at: number): number {
  return words[at + HASH_LO]!;
}

export function blockValueLength(words: Uint32Array, at: number): number {
  return words[at + VALUE_LENGTH]!;
}

export function blockKeyLength(words: Uint32Array, at: number): number {
  return words[at + KEY_LENGTH]!;
}

export function blockVersion(words: Uint32Array, at: number): number {
  return words[at + VERSION_LO]! + words[at + VERSION_HI]! * 0x1_0000_0000;
}
