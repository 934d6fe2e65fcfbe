/**
 * Messages between a client and a directory of a memory node: 64 bytes, little-endian, as sixteen 32-bit words.
 * Words that a message does not use are zero, and a request in which they are not is malformed. Numbers over 32 bits
 * take two words, low half first, and stay below 2^53.
 *
 *   word  request                              reply
 *   0     version | type << 8 | flags << 16    version | type << 8 | status << 16
 *   1     request id (returned)                request id
 *
 *         ACQUIRE_READ, ACQUIRE_WRITE          the same, with status SUCCESS
 *   2, 3                                       lease index, lease generation
 *   4, 5  offset                               offset
 *   6, 7  size                                 size
 *   8, 9  term in ns                           begin of the term, node clock, ns
 *   10,11 allocation hint, 0                   term in ns: what one unit of the header word stands for
 *   12,13 key of the lock                      rkey, rkey of the header word (0: none)
 *   14                                         address of the header word
 *
 *         RELINQUISH, UPGRADE, EXTEND
 *   2, 3  lease index, lease generation        UPGRADE: 12: rkey
 *   8     EXTEND: units to add                 EXTEND: units now
 *
 *         ALLOCATE, DEALLOCATE, KEEP, GRANT
 *   4, 5  offset (not ALLOCATE)                ALLOCATE: offset
 *   6, 7  size (ALLOCATE, DEALLOCATE); KEEP, GRANT: 0
 *   10    ALLOCATE: allocation hint
 *   12,13 GRANT: identity of who may use it, 0: everybody
 *
 *         READ, WRITE, CAS, FAA (two-sided)
 *   2, 3  lease index, lease generation
 *   4, 5  offset in the lease
 *   6     bytes, at most MAX_PAYLOAD
 *   8..15 WRITE: the bytes; CAS: expected, desired; FAA: addend
 *                                              8..15: the bytes; the old value
 *
 *         COPY
 *   2, 3  lease to copy from
 *   4, 5  offset in it
 *   6     bytes, at most MAX_COPY
 *   8, 9  lease to copy to
 *   10,11 offset in it
 *
 *         RECYCLE_QP
 *   2     index of the data QP
 *   3     remote operations that it shall admit, Access bits; 0: all
 *
 *         CLOCK: have the clock page (see clock-page.ts) written for a while
 *   8, 9  how long, ns
 *                                              12: rkey of the page
 *
 *         DIRECTORY: where another directory of the node is; of directory 0 only
 *   2     which, from 1                        what its address ends in: see addresses.ts
 *   3                                          the directory where this client is at home
 *   4, 5                                       a secret, by which the others know this client
 *
 *         HELLO
 *   2                                          node id
 *   3                                          directory | directories << 16
 *   4, 5                                       bytes of the lease buffer
 *   6, 7                                       offset of the allocation buffer
 *   8, 9                                       bytes of it
 *   10,11                                      the client's identity
 *   12                                         rkey of all memory (0: not given away)
 *   13                                         incarnation of the node
 *   14,15                                      this directory's part of the allocation buffer, in spans of 64 KiB: start, length
 *   8, 9  not to directory 0: the secret
 */
export const MESSAGE_BYTES = 64;
export const MESSAGE_WORDS = MESSAGE_BYTES / 4;
export const WIRE_VERSION = 3;

export const MessageType = {
  HELLO: 1,
  ACQUIRE_READ: 2,
  ACQUIRE_WRITE: 3,
  RELINQUISH: 4,
  RECYCLE_QP: 5,
  UPGRADE: 6,
  EXTEND: 7,
  ALLOCATE: 8,
  DEALLOCATE: 9,
  KEEP: 10,
  GRANT: 11,
  READ: 12,
  WRITE: 13,
  CAS: 14,
  FAA: 15,
  COPY: 16,
  DIRECTORY: 17,
  CLOCK: 32,
} as const;

/** Status of a reply; ACQUIRE, ALLOCATE and UPGRADE replies carry an AcquireStatus instead. */
export const ReplyStatus = {
  OK: 0,
  NOT_FOUND: 1,
  INVALID: 5,
  /** A two-sided access that the RNIC would refuse. */
  PROTECTION: 6,
  /** A two-sided access that the RNIC could not execute. */
  EXECUTION: 7,
  UNKNOWN_MESSAGE: 255,
} as const;

/** Requests that one client may have under way; its receive queue at the node is as deep. */
export const MAX_REQUESTS = 64;
/** Bytes that a two-sided read or write moves with one message. */
export const MAX_PAYLOAD = 32;
/** Bytes that the memory node copies for one message: they hold up its loop. */
export const MAX_COPY = 16384;
/** Bytes of a header word; that of the lease with index i is at i times this. */
export const HEADER_BYTES = 8;

export const Word = {
  HEAD: 0,
  REQUEST_ID: 1,
  LEASE_INDEX: 2,
  LEASE_GENERATION: 3,
  QP_ACCESS: 3,
  /** Of a reply. */
  ADDRESS_END: 2,
  DIRECTORY: 3,
  HOME: 3,
  TOLD_SECRET: 4,
  OFFSET: 4,
  SIZE: 6,
  BEGIN: 8,
  /** Of a request. */
  TERM: 8,
  UNITS: 8,
  PAYLOAD: 8,
  TO_INDEX: 8,
  TO_GENERATION: 9,
  /** Of a reply. */
  GRANTED_TERM: 10,
  IDENTITY: 10,
  /** Of a request. */
  HINT: 10,
  TO_OFFSET: 10,
  SECRET: 8,
  LOCK_KEY: 12,
  GRANTEE: 12,
  /** Of a reply. */
  RKEY: 12,
  HEADER_RKEY: 13,
  INCARNATION: 13,
  HEADER_ADDRESS: 14,
  PART_START: 14,
  PART_SPANS: 15,
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

/** The same with a number of an array: handing it over would take an object if it is large. */
export function copyNumber(words: Uint32Array, at: number, from: Float64Array, index: number): void {
  words[at] = from[index]! >>> 0;
  words[at + 1] = from[index]! / TWO_32;
}

/** Read two words; what is not below 2^53 comes back as NaN, so that every comparison with it fails. */
export function getNumber(words: Uint32Array, at: number): number {
  const high = words[at + 1]!;
  return high >= 0x200000 ? Number.NaN : high * TWO_32 + words[at]!;
}

/** The same into an array, for the same reason as copyNumber(). */
export function takeNumber(words: Uint32Array, at: number, into: Float64Array, index: number): void {
  const high = words[at + 1]!;
  into[index] = high >= 0x200000 ? Number.NaN : high * TWO_32 + words[at]!;
}

/** Make a message all zero, in a view of 8-byte words. Eight stores: fill() is a call into C++, and a loop twice as slow. */
export function clearMessage(longs: Float64Array, message: number): void {
  const at = 8 * message;
  longs[at] = 0;
  longs[at + 1] = 0;
  longs[at + 2] = 0;
  longs[at + 3] = 0;
  longs[at + 4] = 0;
  longs[at + 5] = 0;
  longs[at + 6] = 0;
  longs[at + 7] = 0;
}
