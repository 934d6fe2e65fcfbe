import { mix32 } from './random.js';

/**
 * Every byte of a value follows from its record and its header, so that a reader can check all of them:
 *
 *   word 0  run: which run of a generator wrote it
 *   word 1  sequence: the how-manyth write of that run to this record, from 1
 *   word 2  length of the value in bytes
 *   word 3  check: hash of the record and the words before
 *   rest    a pseudo-random stream that begins with the check
 */
const HEADER_WORDS = 4;
export const MIN_VALUE_BYTES = HEADER_WORDS * 4;
export const MAX_VALUE_BYTES = 16 * 1024 * 1024;

/** The check word of a value's header. */
function checkWord(record: number, run: number, sequence: number, length: number): number {
  return mix32(mix32(mix32(mix32(record ^ 0x5bd1e995) ^ run) ^ sequence) ^ length);
}

/** The word of the stream that follows `word`: xorshift, which goes through all words but zero. */
function nextWord(word: number): number {
  let x = word === 0 ? 1 : word;
  x ^= x << 13;
  x ^= x >>> 17;
  return x ^ (x << 5);
}

/** Builds values in a buffer of its own: no allocation per value. */
export class ValueWriter {
  readonly #words: Uint32Array;
  /** The value last made; overwritten by the next. */
  readonly bytes: Uint8Array;

  /** @param valueBytes {@link MIN_VALUE_BYTES} .. {@link MAX_VALUE_BYTES} */
  constructor(valueBytes: number) {
    this.#words = new Uint32Array(Math.ceil(valueBytes / 4));
    this.bytes = new Uint8Array(this.#words.buffer, 0, valueBytes);
  }

  make(record: number, run: number, sequence: number): Uint8Array {
    const words = this.#words;
    let word = checkWord(record, run, sequence, this.bytes.length);
    words[0] = run;
    words[1] = sequence;
    words[2] = this.bytes.length;
    words[3] = word;
    for (let i = HEADER_WORDS; i < words.length; i += 1) {
      word = nextWord(word);
      words[i] = word;
    }
    return this.bytes;
  }
}

/** Whether every byte is as some run wrote it for this record. {@link runOf} and {@link sequenceOf} tell which. */
export function isIntact(record: number, value: Uint8Array): boolean {
  const { length } = value;
  if (length < MIN_VALUE_BYTES || wordAt(value, 8) !== length) return false;
  let word = checkWord(record, wordAt(value, 0), wordAt(value, 4), length);
  if (wordAt(value, 12) !== word) return false;
  // Word by word rather than against a copy: no call, and nothing is stored.
  let at = MIN_VALUE_BYTES;
  for (; at + 4 <= length; at += 4) {
    word = nextWord(word);
    if (wordAt(value, at) !== word) return false;
  }
  word = nextWord(word);
  for (; at < length; at += 1, word >>>= 8) {
    if (value[at] !== (word & 0xff)) return false;
  }
  return true;
}

/** The run that wrote an intact value. */
export function runOf(value: Uint8Array): number {
  return wordAt(value, 0) >>> 0;
}

/** Which write of its run an intact value is. */
export function sequenceOf(value: Uint8Array): number {
  return wordAt(value, 4) >>> 0;
}

/** Signed, little-endian. */
function wordAt(value: Uint8Array, at: number): number {
  return value[at]! | (value[at + 1]! << 8) | (value[at + 2]! << 16) | (value[at + 3]! << 24);
}
