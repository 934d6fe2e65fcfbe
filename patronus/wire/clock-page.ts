import { getNumber } from './messages.js';

/**
 * A node's clock, as clients read it one-sided: 64 bytes, of which three words of 8 bytes are used. A number takes two
 * 32-bit words, low half first.
 */
export const CLOCK_PAGE_BYTES = 64;

/** For how long a node writes its clock after one request at most. */
export const MOST_PUBLISH_NS = 10e6;

export const ClockWord = {
  /** Node clock, ns. */
  CLOCK: 0,
  /** uint32: counts the values. It begins anew with the node. */
  NUMBER: 2,
  /** The clock once more. */
  COPY: 4,
} as const;

/** The clock of a page that was read, ns; NaN if the reader met the writer, or nothing was written yet. */
export function pageClock(words: Uint32Array): number {
  const { CLOCK, COPY, NUMBER } = ClockWord;
  const whole = words[CLOCK] === words[COPY] && words[CLOCK + 1] === words[COPY + 1];
  return whole && words[NUMBER] !== 0 ? getNumber(words, CLOCK) : Number.NaN;
}
