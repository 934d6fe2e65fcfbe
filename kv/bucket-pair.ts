import {
  BUCKET_BYTES,
  BUCKET_HEADER,
  bucketServes,
  bucketTakes,
  COMBINED_BYTES,
  FILLING,
  PENDING,
  SLOTS_PER_BUCKET,
} from './layout.js';

/** What a read of a key's two combined buckets has brought, one behind the other. Slots are named by the index of their first word. */
export const PAIR_SLOTS = 4 * SLOTS_PER_BUCKET;

// A module's own constants are part of its compiled code; imported and exported ones are loaded and checked at each use.
const BUCKET_WORDS = BUCKET_BYTES / 4;
const PAIR_WORDS = 2 * (COMBINED_BYTES / 4);
const HEADER = BUCKET_HEADER;
const UNCOMMITTED = PENDING;
const NOT_OPEN = FILLING;

/** Whether the buckets belong to the keys that the cached directory sends to them. */
export function pairServes(words: Uint32Array, cachedDepth: number, suffix: number): boolean {
  let lo = words[HEADER]!;
  let hi = words[HEADER + 1]!;
  if (!bucketServes(lo, hi, cachedDepth, suffix)) return false;
  for (let header = HEADER + BUCKET_WORDS; header < PAIR_WORDS; header += BUCKET_WORDS) {
    // Most often all four say the same.
    if (words[header] === lo && words[header + 1] === hi) continue;
    lo = words[header]!;
    hi = words[header + 1]!;
    if (!bucketServes(lo, hi, cachedDepth, suffix)) return false;
  }
  return true;
}

/** Whether a key with this suffix may be inserted into the buckets. */
export function pairTakes(words: Uint32Array, suffix: number): boolean {
  for (let header = HEADER; header < PAIR_WORDS; header += BUCKET_WORDS) {
    if (!bucketTakes(words[header]!, suffix)) return false;
  }
  return true;
}

/** Whether one of the buckets is of a new subtable that is not open to writers yet. */
export function pairFills(words: Uint32Array): boolean {
  for (let header = HEADER; header < PAIR_WORDS; header += BUCKET_WORDS) {
    if ((words[header]! & NOT_OPEN) !== 0) return true;
  }
  return false;
}

/** Writes the slots with this fingerprint into `slots`, but for `except`, and returns how many there are. */
export function slotsWith(
  words: Uint32Array,
  fingerprint: number,
  withPending: boolean,
  except: number,
  slots: Int32Array,
): number {
  let count = 0;
  for (let bucket = 0; bucket < PAIR_WORDS; bucket += BUCKET_WORDS) {
    // Most buckets have none.
    if (
      words[bucket + 1]! >>> 24 !== fingerprint &&
      words[bucket + 3]! >>> 24 !== fingerprint &&
      words[bucket + 5]! >>> 24 !== fingerprint &&
      words[bucket + 7]! >>> 24 !== fingerprint &&
      words[bucket + 9]! >>> 24 !== fingerprint &&
      words[bucket + 11]! >>> 24 !== fingerprint &&
      words[bucket + 13]! >>> 24 !== fingerprint
    ) {
      continue;
    }
    for (let slot = bucket; slot < bucket + HEADER; slot += 2) {
      const hi = words[slot + 1]!;
      if (hi >>> 24 !== fingerprint || hi === 0 || slot === except) continue;
      if (withPending || (words[slot]! & UNCOMMITTED) === 0) slots[count++] = slot;
    }
  }
  return count;
}
