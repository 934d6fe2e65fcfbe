import { UNIT_BYTES } from './layout.js';

/** Blocks of up to this many units have a free list for each size; larger ones share lists in steps of 1/8. */
const EXACT_UNITS = 255;
/** 1 MiB. */
const PLENTY_UNITS = 2 ** 20 / UNIT_BYTES;

/** The units that a block of `units` is given: itself, or rounded up to the next class (at most 1/8 more). */
export function classUnits(units: number): number {
  if (units <= EXACT_UNITS) return units;
  const step = 1 << (28 - Math.clz32(units - 1));
  return Math.ceil(units / step) * step;
}

/** The largest class that fits in `units`. */
function classBelow(units: number): number {
  if (units <= EXACT_UNITS) return units;
  const step = 1 << (28 - Math.clz32(units));
  return Math.max(EXACT_UNITS, Math.floor(units / step) * step);
}

/** Free extents of remote memory by size. Local bookkeeping only; sizes in units, extents are 64-byte aligned. */
export class FreeLists {
  /** Units in all lists. */
  freeUnits = 0;
  readonly #exact: number[][] = Array.from({ length: EXACT_UNITS + 1 }, () => []);
  readonly #large = new Map<number, number[]>();
  /** Added since the last merge: without that another one finds nothing. */
  #addedUnits = 0;

  /** Any extent: it is cut into classes. */
  add(offset: number, units: number): void {
    this.#addedUnits += units;
    this.#put(offset, units);
  }

  /** So much is free, though not in the sizes asked for, that it should be used before any more memory is. */
  get isPlenty(): boolean {
    return this.freeUnits >= PLENTY_UNITS;
  }

  /** Whether so much was added since the last merge that the work of another one, spread over that, is little. */
  get isMergeDue(): boolean {
    return this.#addedUnits * 2 >= this.freeUnits;
  }

  #put(offset: number, units: number): void {
    this.freeUnits += units;
    while (units > EXACT_UNITS) {
      const piece = classBelow(units);
      this.#list(piece).push(offset);
      offset += piece * UNIT_BYTES;
      units -= piece;
    }
    if (units > 0) this.#exact[units]!.push(offset);
  }

  /** An extent of exactly `units`, which is a class; or -1. */
  take(units: number): number {
    const list = units <= EXACT_UNITS ? this.#exact[units]! : this.#large.get(units);
    if (list === undefined || list.length === 0) return -1;
    this.freeUnits -= units;
    return list.pop()!;
  }

  /** As take(), but cuts it from the smallest extent that is larger, of less than `below` units; the rest stays free. */
  split(units: number, below = Number.POSITIVE_INFINITY): number {
    for (let larger = units + 1; larger <= EXACT_UNITS; larger++) {
      if (larger >= below) return -1;
      if (this.#exact[larger]!.length > 0) return this.#cut(larger, units);
    }
    let best = Number.POSITIVE_INFINITY;
    for (const [size, list] of this.#large) if (size > units && list.length > 0 && size < best) best = size;
    return best === Number.POSITIVE_INFINITY ? -1 : this.#cut(best, units);
  }

  /** The largest extent, of at least `units`; or undefined. */
  takeLargest(units: number): { offset: number; units: number } | undefined {
    let best = 0;
    for (const [size, list] of this.#large) if (list.length > 0 && size > best) best = size;
    for (let size = EXACT_UNITS; best === 0 && size >= units; size--) {
      if (this.#exact[size]!.length > 0) best = size;
    }
    return best === 0 || best < units ? undefined : { offset: this.take(best), units: best };
  }

  /** Joins neighbouring extents, so that many small blocks can become a large one again. Whether it was worth trying. */
  merge(): boolean {
    if (this.#addedUnits === 0) return false;
    const extents: { offset: number; units: number }[] = [];
    this.#exact.forEach((list, units) => {
      for (const offset of list) extents.push({ offset, units });
      list.length = 0;
    });
    for (const [units, list] of this.#large) for (const offset of list) extents.push({ offset, units });
    this.#large.clear();
    extents.sort((a, b) => a.offset - b.offset);
    this.freeUnits = 0;
    let open: { offset: number; units: number } | undefined;
    for (const extent of extents) {
      if (open !== undefined && open.offset + open.units * UNIT_BYTES === extent.offset) {
        open.units += extent.units;
      } else {
        if (open !== undefined) this.#put(open.offset, open.units);
        open = extent;
      }
    }
    if (open !== undefined) this.#put(open.offset, open.units);
    this.#addedUnits = 0;
    return true;
  }

  /** Takes everything, neighbours joined. */
  drain(): { offset: number; units: number }[] {
    this.merge();
    const extents: { offset: number; units: number }[] = [];
    this.#exact.forEach((list, units) => {
      for (const offset of list.splice(0)) extents.push({ offset, units });
    });
    for (const [units, list] of this.#large) {
      for (const offset of list.splice(0)) extents.push({ offset, units });
    }
    this.freeUnits = 0;
    return extents;
  }

  clear(): void {
    for (const list of this.#exact) list.length = 0;
    this.#large.clear();
    this.freeUnits = 0;
    this.#addedUnits = 0;
  }

  #list(units: number): number[] {
    let list = this.#large.get(units);
    if (list === undefined) {
      list = [];
      this.#large.set(units, list);
    }
    return list;
  }

  #cut(larger: number, units: number): number {
    const offset = this.take(larger);
    this.#put(offset + units * UNIT_BYTES, larger - units);
    return offset;
  }
}
