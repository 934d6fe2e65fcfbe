/** Ranges remembered, and the longest that is. */
const MAX_RANGES = 16;
const MAX_RANGE_BYTES = 4096;

interface Range {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/**
 * What was read under a lease, the ranges used last. What this client writes under the lease is forgotten; of
 * what others write it knows nothing.
 */
export class ReadCache {
  /** The one used last is at the end. */
  private readonly ranges: Range[] = [];
  /** Changes when something was forgotten: what was read before must not be remembered after that. */
  version = 0;

  /** Copy the range to `into`; false if it is not known. */
  get(offset: number, size: number, into: Uint8Array): boolean {
    for (let i = this.ranges.length - 1; i >= 0; i--) {
      const range = this.ranges[i]!;
      const from = offset - range.offset;
      if (from < 0 || from + size > range.bytes.length) continue;
      // A view is an object: not for a range that is read as it was before.
      into.set(size === range.bytes.length ? range.bytes : range.bytes.subarray(from, from + size));
      for (let later = i + 1; later < this.ranges.length; later++)
        this.ranges[later - 1] = this.ranges[later]!;
      this.ranges[this.ranges.length - 1] = range;
      return true;
    }
    return false;
  }

  /** Remember what was read when the cache was at `version`. */
  put(offset: number, bytes: Uint8Array, version: number): void {
    if (version !== this.version || bytes.length > MAX_RANGE_BYTES) return;
    if (this.ranges.length === MAX_RANGES) this.ranges.shift();
    this.ranges.push({ offset, bytes: bytes.slice() });
  }

  forget(offset: number, size: number): void {
    this.version++;
    for (let i = this.ranges.length - 1; i >= 0; i--) {
      const range = this.ranges[i]!;
      if (offset < range.offset + range.bytes.length && range.offset < offset + size)
        this.ranges.splice(i, 1);
    }
  }
}
