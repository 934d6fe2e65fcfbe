/**
 * Where everything of a table lies in a memory node, byte by byte. Words are little-endian; 64-bit words are handled
 * as two 32-bit halves, low half first. docs/kv.md has the pictures.
 */

/** Unit of block sizes and alignment of everything the index points to. */
export const UNIT_BYTES = 64;

export const MAX_KEY_BYTES = 4096;
/** Upper bound of a table's own limit: block sizes stay far below 2^31. */
export const MAX_VALUE_BYTES_LIMIT = 64 * 1024 * 1024;
export const DEFAULT_MAX_VALUE_BYTES = 16 * 1024 * 1024;

// ---- superblock: at offset 0 of the node's lease buffer

export const SUPERBLOCK_BYTES = 4096;
export const MAGIC_LO = 0x5652_4b50; // "PKRV"
export const MAGIC_HI = 0x424c_4254; // "TBLB"
export const LAYOUT_VERSION = 4;
export const TableState = { Empty: 0, Creating: 1, Ready: 2 } as const;

/** Indexes of 32-bit words. */
export const SB_LAYOUT_VERSION = 0;
export const SB_STATE = 1;
export const SB_MAGIC_LO = 2;
export const SB_MAGIC_HI = 3;
export const SB_SEED_LO = 4;
export const SB_SEED_HI = 5;
export const SB_GROUPS = 6;
export const SB_TERM_MS = 7;
export const SB_MAX_VALUE_BYTES = 8;
/** Offset of the registry of pieces, a 64-bit word. */
export const SB_PIECES = 10;
/** (layout version, state): one 64-bit word, moved by CAS. */
export const SB_STATE_OFFSET = 0;
/** Of the counter that write versions are taken from; on a line of its own, so that it can be leased alone. */
export const SB_VERSION_OFFSET = 64;
export const SB_VERSION_BYTES = 64;
/** Of the word that says where the directory is: pointer 48 | global depth 8 | zero 8. Leased alone too. */
export const SB_DIRECTORY_OFFSET = 128;
export const SB_DIRECTORY_BYTES = 64;

/** Of the head of the lists of memory that closed handles have left: pointer 48 | tag 16. Leased alone too. */
export const SB_ORPHANS_OFFSET = 192;
export const SB_ORPHANS_BYTES = 64;

/** Of the word with the epoch of collections, and the lock of who collects. */
export const SB_EPOCH_OFFSET = 1344;
export const SB_EPOCH_BYTES = 64;
/** Of the head of the lists that clients hand over to a collection: pointer 48 | low bits of the epoch 16. */
export const SB_HANDOVER_OFFSET = 1408;
/** Of the word that counts what is lost until the next collection, in units. */
export const SB_LOST_OFFSET = 1472;
export const SB_LOST_BYTES = 64;
/** A word for each client that has the table open, with a lock beside it. */
export const SB_MEMBERS_OFFSET = 2048;
export const MEMBER_BYTES = 8;
export const MAX_MEMBERS = 256;

/** The shard map. Indexes of 32-bit words; the ids of the nodes are the last. */
export const SHARD_MAP_VERSION = 1;
export const MAX_SHARDS = 256;
export const SM = {
  VERSION: 64,
  COUNT: 65,
  IDENTITY_LO: 66,
  IDENTITY_HI: 67,
  SEED_LO: 68,
  SEED_HI: 69,
  CHECKSUM: 70,
  NODES: 72,
} as const;

// ---- registry of pieces: 8 bytes for each 64 KiB of the allocation buffer: state 2 | number of pieces 30 | cycle 32

/** What memory is taken in: what a memory node allocates in, too. */
export const PIECE_BYTES = 64 * 1024;
export const PIECE_ENTRY_BYTES = 8;
export const PieceState = { None: 0, Claimed: 1, Kept: 2, Doomed: 3 } as const;

export function pieceEntryLo(state: number, count: number): number {
  return ((count << 2) | state) >>> 0;
}

// ---- directory: 2^globalDepth entries of 8 bytes: pointer 48 | local depth 8 | zero 8

/** Suffixes have 32 bits. 2^31 subtables of the usual size are more than 48-bit addresses reach. */
export const MAX_DEPTH = 31;
export const DIRECTORY_ENTRY_BYTES = 8;

/** High half of a directory entry, of the superblock's word for the directory, and of a subtable's split record. */
export function pointerHi(offset: number, low: number, high = 0): number {
  return Math.floor(offset / 0x1_0000_0000) | (low << 16) | (high << 24);
}

export function pointerOf(lo: number, hi: number): number {
  return lo + (hi & 0xffff) * 0x1_0000_0000;
}

/** Of depths up to MAX_DEPTH. By a shift: every read of a bucket needs it, and a power is a call. */
export function suffixMask(depth: number): number {
  return ((1 << depth) - 1) | 0;
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

/** The buckets, then a line with the split record. */
export function subtableBytes(groups: number): number {
  return groups * GROUP_BYTES + UNIT_BYTES;
}

/**
 * The split record, offset in the subtable: pointer 48 | local depth 8 | phase 8. The pointer is where the new subtable is
 * while a split is under way. Changed only under the split lock.
 */
export function splitRecordOffset(groups: number): number {
  return groups * GROUP_BYTES;
}
export const SplitPhase = { None: 0, Copy: 1, Switch: 2 } as const;

/** The header is the last word of its bucket: a read has seen the slots when it comes to the header. Index of a 32-bit word. */
export const BUCKET_HEADER = BUCKET_BYTES / 4 - 2;
/** Marks a bucket as initialised, so that zeroed memory is never taken for an empty bucket of depth 0. */
export const BUCKET_MARK = 0x424b_0000;
/** The entries that belong in the new subtable are being copied: no new ones, and those marked FROZEN don't change. */
export const SPLITTING = 0x100;
/** A new subtable that is readable already, while the old one may still be read too: nothing in it changes. */
export const FILLING = 0x200;
// A module's own constants are part of its compiled code; exported ones are loaded and checked at each use.
const FLAGS = SPLITTING | FILLING;
const MARK = BUCKET_MARK;

export function bucketHeaderLo(localDepth: number, flags = 0): number {
  return BUCKET_MARK | flags | localDepth;
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
  if ((headerLo & 0xffff_fc00) !== MARK) return false;
  const mask = suffixMask(Math.max(headerLo & 0xff, cachedDepth));
  return ((headerSuffix ^ suffix) & mask) === 0;
}

/** Whether an entry of a key with this suffix may be inserted into a bucket that serves it. */
export function bucketTakes(headerLo: number, suffix: number): boolean {
  const flags = headerLo & FLAGS;
  return flags === 0 || (flags === SPLITTING && ((suffix >>> (headerLo & 0xff)) & 1) === 0);
}

// ---- slot: pointer 48 | length 8 (units) | fingerprint 8; zero = empty

/** Bit 0 of the pointer, free because blocks are 64-byte aligned: inserted, not committed yet. */
export const PENDING = 1;
/** Bit 1: committed, and being moved into a new subtable. Readable; not to be changed by anybody but the splitter. */
export const FROZEN = 2;
const POINTER_LO = ~(PENDING | FROZEN);
/** Slot length of blocks of this many units or more: their size is in their header. */
export const LARGE_UNITS = 255;

export function slotHi(offset: number, units: number, fingerprint: number): number {
  return (
    (Math.floor(offset / 0x1_0000_0000) | (Math.min(units, LARGE_UNITS) << 16) | (fingerprint << 24)) >>> 0
  );
}

export function slotPointer(lo: number, hi: number): number {
  return ((lo & POINTER_LO) >>> 0) + (hi & 0xffff) * 0x1_0000_0000;
}

export function slotUnits(hi: number): number {
  return (hi >>> 16) & 0xff;
}
