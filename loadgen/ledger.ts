/** Number of the last write begun. */
const ISSUED = 0;
const FLOOR = 1;
/** While writes are under way: a number not above any of theirs. */
const OLDEST = 2;
/** Writes under way. One with an unknown outcome is for ever: it may still come. */
const PENDING = 3;
const STRIDE = 4;

/**
 * What a run knows about its own writes to each record, so that it can tell a stale value from one that may be there.
 *
 * Writes to a record are numbered from 1. Several may be under way at once, and then the store may order them as it
 * likes. But a write that was answered before another one began, which was answered too, can't be the record's value
 * any more: `floor` is the lowest number that a read beginning now may return.
 */
export class Ledger {
  /** Four words a record, in one cache line: see ISSUED .. PENDING. */
  readonly #words: Uint32Array;

  constructor(records: number) {
    this.#words = new Uint32Array(records * STRIDE);
  }

  /** Begins a write and returns its number. */
  begin(record: number): number {
    const words = this.#words;
    const at = record * STRIDE;
    const sequence = words[at + ISSUED]! + 1;
    words[at + ISSUED] = sequence;
    if (words[at + PENDING] === 0) words[at + OLDEST] = sequence;
    words[at + PENDING] = words[at + PENDING]! + 1;
    return sequence;
  }

  /** The number below which all writes are over: to be taken right after `begin`, for `succeeded`. */
  oldest(record: number): number {
    return this.#words[record * STRIDE + OLDEST]!;
  }

  /** The write is answered. A write that fails is not reported: it stays under way. */
  succeeded(record: number, oldestAtBegin: number): void {
    const words = this.#words;
    const at = record * STRIDE;
    words[at + PENDING] = words[at + PENDING]! - 1;
    if (oldestAtBegin > words[at + FLOOR]!) words[at + FLOOR] = oldestAtBegin;
  }

  /** The lowest number that a read beginning now may return; 0: none of this run's writes has to be there. */
  floor(record: number): number {
    return this.#words[record * STRIDE + FLOOR]!;
  }

  /** Number of the last write begun. */
  issued(record: number): number {
    return this.#words[record * STRIDE + ISSUED]!;
  }
}
