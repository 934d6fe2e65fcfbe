/**
 * Messages between a client and a directory of a memory node: 64 bytes, little-endian, as sixteen 32-bit words.
 * Unused words are zero. Numbers over 32 bits take two words, low half first, and stay below 2^53.
 *
 *   word  request                              reply
 *   0     version | type << 8 | flags << 16    version | type << 8 | status << 16
 *   1     request id (returned)                request id
 *   2, 3  lease index, lease generation        lease index, lease generation
 *         RECYCLE_QP: index of the data QP     HELLO: node id, most requests under way
 *   4, 5  offset                               offset; HELLO: bytes of the lease buffer
 *   6, 7  size                                 size; HELLO: offset of the allocation buffer
 *   8, 9  term in ns                           begin of the term, node clock, ns; HELLO: bytes of it
 *   10,11                                      term in ns
 *   12                                         rkey
 *
 * CLOCK asks for the clock page (see clock-page.ts) to be written for a while: the request's term. Its reply has the key.
 */
export const MESSAGE_BYTES = 64;
export const MESSAGE_WORDS = MESSAGE_BYTES / 4;
export const WIRE_VERSION = 1;

export const MessageType = {
  HELLO: 1,
  ACQUIRE_READ: 2,
  ACQUIRE_WRITE: 3,
  RELINQUISH: 4,
  RECYCLE_QP: 5,
  CLOCK: 32,
} as const;

/** Status of a reply; ACQUIRE replies carry an AcquireStatus instead. */
export const ReplyStatus = { OK: 0, NOT_FOUND: 1, INVALID: 5, UNKNOWN_MESSAGE: 255 } as const;

/** Requests that one client may have under way; its receive queue at the node is as deep. */
export const MAX_REQUESTS = 64;

export const Word = {
  HEAD: 0,
  REQUEST_ID: 1,
  LEASE_INDEX: 2,
  LEASE_GENERATION: 3,
  OFFSET: 4,
  SIZE: 6,
  BEGIN: 8,
  /** Of a request. */
  TERM: 8,
  /** Of a reply. */
  GRANTED_TERM: 10,
  RKEY: 12,
} as const;

const TWO_32 = 4294967296;

export function head(type: number, flagsOrStatus: number): number {
  return (WIRE_VERSION | (type << 8) | (flagsOrStatus << 16)) >>> 0;
}

/** Write a safe non-negative integer into two words. */
export function putNumber(words: Uint32Array, at: number, value: number): void {
  words[at] = value >>> 0;
  words[at + 1] = value / TWO_32;
}

/** Read two words; what is not below 2^53 comes back as NaN, so that every comparison with it fails. */
export function getNumber(words: Uint32Array, at: number): number {
  const high = words[at + 1]!;
  return high >= 0x200000 ? Number.NaN : high * TWO_32 + words[at]!;
}

export function clearMessage(words: Uint32Array, at: number): void {
  words.fill(0, at, at + MESSAGE_WORDS);
}
