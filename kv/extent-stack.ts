import { type Batch, type RdmaBuffer, RetCode } from '../patronus/index.js';
import { unavailable } from './errors.js';
import { pointerOf, UNIT_BYTES } from './layout.js';
import type { HeldLease, LeaseCell, LeaseKeeper } from './leases.js';

/** A piece of free memory, in 64-byte units. */
export interface Extent {
  readonly offset: number;
  readonly units: number;
  /** Others may still be reading it: it has been unlinked less than a grace period before it was left. */
  readonly unlinked: boolean;
}

/** Words of a list before its extents: next list, number of extents, units of the extent that the list lies in, zero. */
const HEAD_WORDS = 4;
const EXTENT_WORDS = 4;
export const MAX_EXTENTS = 1023;
/** A list is full with so much memory in it, 1 MiB: who takes it leaves the others. */
const LIST_UNITS = 2 ** 20 / UNIT_BYTES;
const EXTENT_UNITS = 2 ** 25 / UNIT_BYTES;
const LIST_BYTES = (HEAD_WORDS + MAX_EXTENTS * EXTENT_WORDS) * 4;
const LIST_AT = UNIT_BYTES;
const ATTEMPTS = 20;

/** Bytes of a list of so many extents. */
export function listBytes(extents: number): number {
  return Math.ceil(((HEAD_WORDS + extents * EXTENT_WORDS) * 4) / UNIT_BYTES) * UNIT_BYTES;
}

/** What the tag of a head becomes by a change; undefined: it must not be changed. */
export type Retag = (tag: number) => number | undefined;

/** So that a head that was read before others took and left lists is not taken for the same one. */
export const countUp: Retag = (tag) => (tag + 1) & 0xffff;

/** What became of a change of the head. */
const Change = { Done: 0, Refused: 1 } as const;

/**
 * Free memory that some leave for others: a stack of lists in the memory itself. Its head, in the superblock, is a pointer
 * and a tag of 16 bits.
 */
export class ExtentStack {
  readonly #keeper: LeaseKeeper;
  readonly #region: LeaseCell;
  readonly #head: LeaseCell;

  /** `region`: the read lease that lists are read under. */
  constructor(keeper: LeaseKeeper, region: LeaseCell, headOffset: number) {
    this.#keeper = keeper;
    this.#region = region;
    this.#head = keeper.cell(headOffset, UNIT_BYTES, true);
  }

  /**
   * Leaves memory behind. The lists are written into the largest extents that nobody can be reading. `segment` gives what an
   * extent is written under; `isMine`, whether the memory is the caller's still. Resolves with the units that could not be
   * written down, which are lost.
   */
  async leave(
    extents: readonly Extent[],
    segment: (offset: number) => LeaseCell,
    isMine: () => boolean,
  ): Promise<number> {
    const retag = (tag: number) => (isMine() ? countUp(tag) : undefined);
    const places = extents
      .filter(({ unlinked }) => !unlinked)
      .flatMap(cut)
      .sort((a, b) => a.units - b.units);
    const rest = extents.filter(({ unlinked }) => unlinked);
    let smallest = 0;
    let end = places.length;
    while (end > smallest) {
      const place = places[--end]!;
      const room = Math.min(MAX_EXTENTS, (place.units * UNIT_BYTES) / (EXTENT_WORDS * 4) - 1);
      const some = rest.splice(Math.max(0, rest.length - room));
      for (let units = place.units; some.length < room && units < LIST_UNITS && end > smallest; ) {
        units += places[smallest]!.units;
        some.push(places[smallest++]!);
      }
      if (!(await this.push(place, some, segment(place.offset), retag))) {
        rest.push(place);
        return sumOfUnits(rest) + sumOfUnits(some) + sumOfUnits(places.slice(smallest, end));
      }
    }
    return sumOfUnits(rest);
  }

  /** Puts a list onto the stack; it is written into `place`. False: it is not there, or nobody knows. */
  async push(
    place: Pick<Extent, 'offset' | 'units'>,
    extents: readonly Extent[],
    segment: LeaseCell,
    retag: Retag,
  ): Promise<boolean> {
    const { rwFlags } = this.#keeper;
    const size = listBytes(extents.length);
    return this.#withBuffer(LIST_AT + size, async (batch, buffer) => {
      const { words } = buffer;
      const at = LIST_AT / 4;
      words[at + 2] = extents.length;
      words[at + 3] = place.units;
      extents.forEach(({ offset, units, unlinked }, i) => {
        const entry = at + HEAD_WORDS + i * EXTENT_WORDS;
        words[entry] = offset >>> 0;
        words[entry + 1] = Math.floor(offset / 0x1_0000_0000);
        words[entry + 2] = units;
        words[entry + 3] = unlinked ? 1 : 0;
      });
      const write = (lo: number, hi: number) =>
        this.#under(segment, ({ lease }) => {
          words[at] = lo;
          words[at + 1] = hi & 0xffff;
          const status = batch.prepareWrite(
            lease,
            buffer,
            LIST_AT,
            size,
            place.offset - lease.offset,
            rwFlags,
          );
          return status === RetCode.Ok ? batch.commit() : status;
        });
      return (await this.#change(batch, buffer, () => place.offset, retag, write)) === Change.Done;
    });
  }

  /** Takes the list that was left last; undefined if there is none. Rejects with UNAVAILABLE where it may be taken or not. */
  async pop(): Promise<Extent[] | undefined> {
    return this.#withBuffer(LIST_AT + LIST_BYTES, async (batch, buffer) => {
      let found: Extent[] | undefined;
      let next = 0;
      const read = async (lo: number, hi: number) => {
        const list = pointerOf(lo, hi);
        if (list === 0) return EMPTY;
        const [status, extents, behind] = await this.#read(batch, buffer, list);
        found = extents;
        next = behind;
        return status;
      };
      const change = await this.#change(batch, buffer, () => next, countUp, read);
      if (change !== Change.Done && found !== undefined) throw unavailable();
      return found;
    });
  }

  /** Takes everything at once. Rejects with UNAVAILABLE if that can't be done. */
  async takeAll(retag: Retag): Promise<Extent[]> {
    return this.#withBuffer(LIST_AT + LIST_BYTES, async (batch, buffer) => {
      let list = 0;
      const remember = async (lo: number, hi: number) => {
        list = pointerOf(lo, hi);
        return RetCode.Ok;
      };
      const change = await this.#change(batch, buffer, () => 0, retag, remember);
      if (change !== Change.Done) throw unavailable();
      const all: Extent[] = [];
      while (list !== 0) {
        const [status, extents, next] = await this.#read(batch, buffer, list);
        if (status !== RetCode.Ok) throw unavailable();
        all.push(...extents);
        list = next;
      }
      return all;
    });
  }

  /** One list, the extent that it lies in included, and where the next one is. */
  async #read(batch: Batch, buffer: RdmaBuffer, list: number): Promise<[number, Extent[], number]> {
    const { rwFlags } = this.#keeper;
    const { words } = buffer;
    for (let attempt = 0; ; attempt++) {
      const status = await this.#under(this.#region, ({ lease }) => {
        const size = Math.min(LIST_BYTES, lease.offset + lease.size - list);
        const prepared = batch.prepareRead(lease, buffer, LIST_AT, size, list - lease.offset, rwFlags);
        return prepared === RetCode.Ok ? batch.commit() : prepared;
      });
      if (status !== RetCode.Ok && attempt < ATTEMPTS) continue;
      if (status !== RetCode.Ok) return [status, [], 0];
      const at = LIST_AT / 4;
      const extents: Extent[] = [];
      for (let i = 0; i < Math.min(words[at + 2]!, MAX_EXTENTS); i++) {
        const entry = at + HEAD_WORDS + i * EXTENT_WORDS;
        const offset = pointerOf(words[entry]!, words[entry + 1]!);
        extents.push({ offset, units: words[entry + 2]!, unlinked: words[entry + 3] !== 0 });
      }
      extents.push({ offset: list, units: words[at + 3]!, unlinked: false });
      return [status, extents, pointerOf(words[at]!, words[at + 1]!)];
    }
  }

  /**
   * Changes the head: reads it, lets `prepare` do what has to be done before, and swaps it, until nothing came in between. Once
   * the swap was sent and its answer is lost nobody knows whether it was executed: Refused, as if it was not.
   */
  async #change(
    batch: Batch,
    buffer: RdmaBuffer,
    target: () => number,
    retag: Retag,
    prepare: (lo: number, hi: number) => Promise<number>,
  ): Promise<number> {
    const { rwFlags } = this.#keeper;
    const { words } = buffer;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const done = await this.#under(this.#head, async ({ lease }) => {
        let status = batch.prepareRead(lease, buffer, 0, 8, 0, rwFlags);
        if (status === RetCode.Ok) status = await batch.commit();
        if (status !== RetCode.Ok) return status;
        const [lo, hi] = [words[0]!, words[1]!];
        const tag = retag(hi >>> 16);
        if (tag === undefined) return EMPTY;
        const prepared = await prepare(lo, hi);
        if (prepared !== RetCode.Ok) return prepared;
        const to = target();
        const toHi = (Math.floor(to / 0x1_0000_0000) | (tag << 16)) >>> 0;
        status = batch.prepareCas(lease, buffer, 0, 0, lo, hi, to >>> 0, toHi, rwFlags);
        if (status !== RetCode.Ok) return status;
        status = await batch.commit();
        if (status === RetCode.LeaseLocalExpiredErr || status === RetCode.RdmaProtectionErr) return status;
        if (status !== RetCode.Ok) return EMPTY;
        return words[0] === lo && words[1] === hi ? RetCode.Ok : RetCode.Retry;
      });
      if (done === RetCode.Ok) return Change.Done;
      if (done === EMPTY) return Change.Refused;
    }
    return Change.Refused;
  }

  async #under(cell: LeaseCell, work: (held: HeldLease) => number | Promise<number>): Promise<number> {
    let held = cell.take(this.#keeper.client.now());
    if (held === undefined) {
      await cell.acquire();
      held = cell.take(this.#keeper.client.now());
      if (held === undefined) return RetCode.Retry;
    }
    try {
      const status = await work(held);
      if (status > RetCode.Ok && status !== RetCode.Retry) cell.drop(held);
      return status;
    } finally {
      cell.release(held);
    }
  }

  async #withBuffer<T>(size: number, work: (batch: Batch, buffer: RdmaBuffer) => Promise<T>): Promise<T> {
    const { client } = this.#keeper;
    const batch = client.createBatch();
    const buffer = client.getRdmaBuffer(size);
    try {
      return await work(batch, buffer);
    } finally {
      batch.reset();
      client.putRdmaBuffer(buffer);
    }
  }
}

/** In pieces that the largest values just fit in. */
function cut({ offset, units, unlinked }: Extent): Extent[] {
  const pieces: Extent[] = [];
  for (let at = 0; at < units; at += EXTENT_UNITS) {
    pieces.push({ offset: offset + at * UNIT_BYTES, units: Math.min(EXTENT_UNITS, units - at), unlinked });
  }
  return pieces;
}

export function sumOfUnits(extents: readonly Pick<Extent, 'units'>[]): number {
  return extents.reduce((sum, { units }) => sum + units, 0);
}

/** Beside RetCode: nothing is there, or the head must not be changed. */
const EMPTY = -1;
