/**
 * Where everything of a table lies in a memory node, byte by byte. Words are little-endian; 64-bit words are handled
 * as two 32-bit halves, low half first. docs/kv.md has the pictures.
 */

/** Unit of block sizes and alignment of everything the index points to. */
export const UNIT_BYTES = 64;

export const MAX_KEY_BYTES = 4096;
/** Upper bound of a table's own limit: block sizes stay far below 2^31. */
export const MAX_VALUE_BYTES_LIMIT = 64 * 1024 * 1024;
export const DEFAULT_MAX_VALUE_BYTES = 1024 * 1024;

// ---- superblock: at offset 0 of the node's lease buffer

export const SUPERBLOCK_BYTES = 4096;
export const MAGIC_LO = 0x5652_4b50; // "PKRV"
export const MAGIC_HI = 0x424c_4254; // "TBLB"
export const LAYOUT_VERSION = 1;
export const TableState = { Empty: 0, Creating: 1, Ready: 2 } as const;

/** Indexes of 32-bit words. */
export const SB_LAYOUT_VERSION = 0;
export const SB_STATE = 1;
export const SB_MAGIC_LO = 2;
export const SB_MAGIC_HI = 3;
export const SB_SEED_LO = 4;
export const SB_SEED_HI = 5;
export const SB_GLOBAL_DEPTH = 6;
export const SB_GROUPS = 7;
export const SB_DIRECTORY_LO = 8;
export const SB_DIRECTORY_HI = 9;
export const SB_TERM_MS = 10;
export const SB_MAX_VALUE_BYTES = 11;
/** (layout version, state): one 64-bit word, moved by CAS. */
export const SB_STATE_OFFSET = 0;
/** Of the counter that write versions are taken from; on a line of its own, so that it can be leased alone. */
export const SB_VERSION_OFFSET = 64;
export const SB_VERSION_BYTES = 64;

// ---- directory: 2^globalDepth entries of 8 bytes: pointer 48 | local depth 8 | zero 8

export const MAX_GLOBAL_DEPTH = 16;
export const DIRECTORY_ENTRY_BYTES = 8;

export function directoryEntryHi(offset: number, localDepth: number): number {
  return Math.floor(offset / 0x1_0000_0000) | (localDepth << 16);
}

// ---- subtable: groups of main | overflow | main

export const BUCKET_BYTES = 64;
export const GROUP_BYTES = 3 * BUCKET_BYTES;
/** Two neighbouring buckets: a main one and its group's overflow bucket. */
export const COMBINED_BYTES = 2 * BUCKET_BYTES;
export const SLOTS_PER_BUCKET = 7;
export const SLOTS_PER_GROUP = 3 * SLOTS_PER_BUCKET;
export const DEFAULT_GROUPS = 1365;
export const MIN_GROUPS = 2;
/** part (20 bits) * 2 * groups has to stay below 2^32. */
export const MAX_GROUPS = 2047;

export function subtableBytes(groups: number): number {
  return groups * GROUP_BYTES;
}

/** Marks a bucket as initialised, so that zeroed memory is never taken for an empty bucket of depth 0. */
export const BUCKET_MARK = 0x424b_5400;

export function bucketHeaderLo(localDepth: number): number {
  return BUCKET_MARK | localDepth;
}

/**
 * Whether a bucket still serves the keys that the cached directory sends to it. Both suffixes are rounded to the
 * larger of the two depths: after a split of the subtable they differ for exactly the keys that have moved.
 */
export function bucketServes(
  headerLo: number,
  headerSuffix: number,
  cachedDepth: number,
  suffix: number,
): boolean {
  if ((headerLo & 0xffff_ff00) !== BUCKET_MARK) return false;
  const headerDepth = headerLo & 0xff;
  const mask = (1 << Math.max(headerDepth, cachedDepth)) - 1;
  return (headerSuffix & mask) === (suffix & mask);
}

// ---- slot: pointer 48 | length 8 (units) | fingerprint 8; zero = empty

/** Bit 0 of the pointer, free because blocks are 64-byte aligned: inserted, not committed yet. */
export const PENDING = 1;
/** Slot length of blocks of this many units or more: their size is in their header. */
export const LARGE_UNITS = 255;

export function slotHi(offset: number, units: number, fingerprint: number): number {
  return (
    (Math.floor(offset / 0x1_0000_0000) | (Math.min(units, LARGE_UNITS) << 16) | (fingerprint << 24)) >>> 0
  );
}

export function slotPointer(lo: number, hi: number): number {
  return ((lo & ~PENDING) >>> 0) + (hi & 0xffff) * 0x1_0000_0000;
}

export function slotUnits(hi: number): number {
  return (hi >>> 16) & 0xff;
}
