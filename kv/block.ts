import { checksumWords } from './checksum.js';
import { UNIT_BYTES } from './layout.js';

/**
 * A key-value block: header, key, metadata, value. Immutable from the moment its slot is published until nobody can read it
 * any more; but for the value of a counter, which is one 64-bit word that FETCH_AND_ADD changes. Word by word:
 *   0 checksum of words [1, end of the value), without a counter's value   1 value length
 *   2 key length 16 | metadata length 8 | flags 8   3, 4 hash of the key
 *   5 low half of the expiry   6 low half of the version   7 version 16 | expiry 16, the high parts
 *   8.. key, metadata, value, the first two padded with zeros to 8 bytes, the value to a whole word
 * The expiry is in milliseconds since 1970; 0: never.
 */
export const BLOCK_HEADER_BYTES = 32;
export const BLOCK_HEADER_WORDS = BLOCK_HEADER_BYTES / 4;
export const MAX_META_BYTES = 255;
/** Flags. */
export const COUNTER = 1;
const CHECKSUM = 0;
const VALUE_LENGTH = 1;
const LENGTHS = 2;
const HASH_LO = 3;
const HASH_HI = 4;
const EXPIRY_LO = 5;
const VERSION_LO = 6;
const HIGH_PARTS = 7;

// A module's own constants are part of its compiled code; imported and exported ones are loaded and checked at each use.
const HEADER_BYTES = BLOCK_HEADER_BYTES;
const HEADER_WORDS = BLOCK_HEADER_WORDS;
const UNIT = UNIT_BYTES;
const COUNTS = COUNTER;

/** Words that `length` bytes take when padded to 8 bytes. */
function paddedWords(length: number): number {
  return ((length + 7) >>> 3) << 1;
}

/** Offset of the value in its block. */
export function valueOffset(keyLength: number, metaLength: number): number {
  return HEADER_BYTES + (paddedWords(keyLength) + paddedWords(metaLength)) * 4;
}

/** Bytes to read for the header and the key, in whole units. */
export function prefixBytes(keyLength: number): number {
  return (HEADER_BYTES + keyLength + UNIT - 1) & -UNIT;
}

/** Units that a block needs. */
export function blockUnits(keyLength: number, metaLength: number, valueLength: number): number {
  return Math.ceil((valueOffset(keyLength, metaLength) + valueLength) / UNIT_BYTES);
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
  meta: Uint8Array | undefined,
  expiry: number,
  flags: number,
): void {
  const metaLength = meta === undefined ? 0 : meta.length;
  words[VALUE_LENGTH] = value.length;
  words[LENGTHS] = keyLength | (metaLength << 16) | (flags << 24);
  words[HASH_LO] = hashLo;
  words[HASH_HI] = hashHi;
  words[EXPIRY_LO] = expiry >>> 0;
  words[HIGH_PARTS] = Math.floor(expiry / 0x1_0000_0000) << 16;
  const keyEnd = BLOCK_HEADER_WORDS + paddedWords(keyLength);
  const keyWordsUsed = (keyLength + 3) >>> 2;
  for (let i = 0; i < keyWordsUsed; i++) words[BLOCK_HEADER_WORDS + i] = keyWords[i]!;
  if ((keyWordsUsed & 1) === 1) words[keyEnd - 1] = 0;
  if (meta !== undefined && metaLength > 0) {
    const end = (keyEnd + paddedWords(metaLength)) * 4;
    bytes.set(meta, keyEnd * 4);
    bytes.fill(0, keyEnd * 4 + metaLength, end);
  }
  const at = valueOffset(keyLength, metaLength);
  const end = at + value.length;
  const unitsEnd = blockUnits(keyLength, metaLength, value.length) * UNIT_BYTES;
  bytes.set(value, at);
  if (end < unitsEnd) bytes.fill(0, end, unitsEnd);
}

export function sealBlock(words: Uint32Array, version: number): void {
  words[VERSION_LO] = version >>> 0;
  words[HIGH_PARTS] = (words[HIGH_PARTS]! & 0xffff_0000) | Math.floor(version / 0x1_0000_0000);
  words[CHECKSUM] = checksumWords(words, 1, checkedEnd(words, 0, blockValueStart(words, 0)));
}

/** Where the words end that the checksum covers, from the block's start; the value begins at byte `start`. */
function checkedEnd(words: Uint32Array, at: number, start: number): number {
  const length = blockIsCounter(words, at) ? 0 : words[at + VALUE_LENGTH]!;
  return (start + length + 3) >>> 2;
}

/** `at` is the word where the block begins, the halves of the hash are int32. Reads no further than the block's first {@link prefixBytes}. */
export function blockHoldsKey(
  words: Uint32Array,
  at: number,
  keyWords: Uint32Array,
  keyLength: number,
  hashLo: number,
  hashHi: number,
): boolean {
  if ((words[at + HASH_LO]! | 0) !== hashLo || (words[at + HASH_HI]! | 0) !== hashHi) return false;
  if ((words[at + LENGTHS]! & 0xffff) !== keyLength) return false;
  const base = at + HEADER_WORDS;
  for (let i = (keyLength - 1) >>> 2; i >= 0; i--) if (words[base + i] !== keyWords[i]) return false;
  return true;
}

/** Whether the `size` bytes at word `at` hold a whole, unharmed block. */
export function blockIntact(words: Uint32Array, at: number, size: number): boolean {
  const start = blockValueStart(words, at);
  if (start + words[at + VALUE_LENGTH]! > size) return false;
  return words[at + CHECKSUM] === checksumWords(words, at + 1, at + checkedEnd(words, at, start));
}

/** Offset of the value in the block at word `at`. */
export function blockValueStart(words: Uint32Array, at: number): number {
  return valueOffset(blockKeyLength(words, at), blockMetaLength(words, at));
}

/** Units of a whole block whose first header is at word `at`. */
export function unitsOfBlock(words: Uint32Array, at: number): number {
  return blockUnits(blockKeyLength(words, at), blockMetaLength(words, at), words[at + VALUE_LENGTH]!);
}

export function blockHashLo(words: Uint32Array, at: number): number {
  return words[at + HASH_LO]!;
}

export function blockValueLength(words: Uint32Array, at: number): number {
  return words[at + VALUE_LENGTH]!;
}

export function blockKeyLength(words: Uint32Array, at: number): number {
  return words[at + LENGTHS]! & 0xffff;
}

export function blockMetaLength(words: Uint32Array, at: number): number {
  return (words[at + LENGTHS]! >>> 16) & 0xff;
}

/** Where the metadata begins, in words from the block's start. */
export function blockMetaWord(words: Uint32Array, at: number): number {
  return BLOCK_HEADER_WORDS + paddedWords(blockKeyLength(words, at));
}

export function blockIsCounter(words: Uint32Array, at: number): boolean {
  return ((words[at + LENGTHS]! >>> 24) & COUNTS) !== 0;
}

/** Whether the block has an expiry. */
export function blockExpires(words: Uint32Array, at: number): boolean {
  return (words[at + EXPIRY_LO]! | (words[at + HIGH_PARTS]! >>> 16)) !== 0;
}

/** ms since 1970; 0: never. */
export function blockExpiry(words: Uint32Array, at: number): number {
  return words[at + EXPIRY_LO]! + (words[at + HIGH_PARTS]! >>> 16) * 0x1_0000_0000;
}

export function blockVersion(words: Uint32Array, at: number): number {
  return words[at + VERSION_LO]! + (words[at + HIGH_PARTS]! & 0xffff) * 0x1_0000_0000;
}
