import { type Batch, RetCode } from '../patronus/index.js';
import { pointerOf, SB_ORPHANS_BYTES, SB_ORPHANS_OFFSET, UNIT_BYTES } from './layout.js';
import type { HeldLease, LeaseCell, LeaseKeeper } from './leases.js';

/** A piece of free memory, in 64-byte units. */
export interface Extent {
  readonly offset: number;
  readonly units: number;
  /** Others may still be reading it: it has been unlinked less than a grace period before the handle was closed. */
  readonly unlinked: boolean;
}

/** Words of a list before its extents: next list, number of extents, units of the extent that the list lies in, zero. */
const HEAD_WORDS = 4;
const EXTENT_WORDS = 4;
const MAX_EXTENTS = 1023;
const ATTEMPTS = 20;

/**
 * Free memory of handles that have been closed, for those that are open: a stack of lists in the memory itself. Its
 * head, in the superblock, is a pointer and a tag of 16 bits that every change counts up, so that a head that was read
 * before others took and left lists is not taken for the same one.
 */
export class Orphans {
  readonly #keeper: LeaseKeeper;
  readonly #region: LeaseCell;
  readonly #head: LeaseCell;

  constructor(keeper: LeaseKeeper, region: LeaseCell) {
    this.#keeper = keeper;
    this.#region = region;
    this.#head = keeper.cell(SB_ORPHANS_OFFSET, SB_ORPHANS_BYTES, true);
  }

  /**
   * Leaves memory behind. The lists are written into the largest extents that nobody can be reading. `segment` gives what an
   * extent is written under. What can't be written down is lost.
   */
  async leave(extents: readonly Extent[], segment: (offset: number) => LeaseCell): Promise<void> {
    const places = extents.filter(({ unlinked }) => !unlinked).sort((a, b) => a.units - b.units);
    const rest = extents.filter(({ unlinked }) => unlinked);
    while (places.length > 0) {
      const place = places.pop()!;
      const room = Math.min(MAX_EXTENTS, (place.units * UNIT_BYTES) / (EXTENT_WORDS * 4) - 1);
      const some = rest.splice(0, room);
      while (some.length < room && places.length > 0) some.push(places.shift()!);
      if (!(await this.#push(place, some, segment(place.offset)))) return;
    }
  }

  /** Takes everything that was left. */
  async adopt(take: (extent: Extent) => void): Promise<void> {
    const { client, rwFlags } = this.#keeper;
    const batch = client.createBatch();
    const buffer = client.getRdmaBuffer((HEAD_WORDS + MAX_EXTENTS * EXTENT_WORDS) * 4 + UNIT_BYTES);
    const { words } = buffer;
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        // The lease to read lists under is older than what it learns of them.
        const done = await this.#under(this.#region, (region) =>
          this.#under(this.#head, async (head) => {
            let status = batch.prepareRead(head.lease, buffer, 0, 8, 0, rwFlags);
            if (status === RetCode.Ok) status = await batch.commit();
            if (status !== RetCode.Ok) return status;
            const [lo, hi] = [words[0]!, words[1]!];
            const list = pointerOf(lo, hi);
            if (list === 0) return EMPTY;
            const size = (HEAD_WORDS + MAX_EXTENTS * EXTENT_WORDS) * 4;
            const { lease } = region;
            const end = Math.min(size, lease.offset + lease.size - list);
            status = batch.prepareRead(lease, buffer, UNIT_BYTES, end, list - lease.offset, rwFlags);
            if (status === RetCode.Ok) status = await batch.commit();
            if (status !== RetCode.Ok) return status;
            const at = UNIT_BYTES / 4;
            const next = pointerOf(words[at]!, words[at + 1]!);
            status = this.#swap(batch, head, buffer, lo, hi, next);
            if (status === RetCode.Ok) status = await batch.commit();
            if (status !== RetCode.Ok) return status;
            if (words[0] !== lo || words[1] !== hi) return RetCode.Retry;
            for (let i = 0; i < words[at + 2]!; i++) {
              const entry = at + HEAD_WORDS + i * EXTENT_WORDS;
              const offset = pointerOf(words[entry]!, words[entry + 1]!);
              take({ offset, units: words[entry + 2]!, unlinked: words[entry + 3] !== 0 });
            }
            take({ offset: list, units: words[at + 3]!, unlinked: false });
            return RetCode.Ok;
          }),
        );
        if (done === EMPTY) return;
      }
    } finally {
      batch.reset();
      client.putRdmaBuffer(buffer);
    }
  }

  async #push(place: Extent, extents: readonly Extent[], segment: LeaseCell): Promise<boolean> {
    const { client, rwFlags } = this.#keeper;
    const size = Math.ceil(((HEAD_WORDS + extents.length * EXTENT_WORDS) * 4) / UNIT_BYTES) * UNIT_BYTES;
    const batch = client.createBatch();
    const buffer = client.getRdmaBuffer(size + UNIT_BYTES);
    const { words } = buffer;
    const at = UNIT_BYTES / 4;
    try {
      words[at + 2] = extents.length;
      words[at + 3] = place.units;
      extents.forEach(({ offset, units, unlinked }, i) => {
        const entry = at + HEAD_WORDS + i * EXTENT_WORDS;
        words[entry] = offset >>> 0;
        words[entry + 1] = Math.floor(offset / 0x1_0000_0000);
        words[entry + 2] = units;
        words[entry + 3] = unlinked ? 1 : 0;
      });
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const done = await this.#under(segment, (written) =>
          this.#under(this.#head, async (head) => {
            let status = batch.prepareRead(head.lease, buffer, 0, 8, 0, rwFlags);
            if (status === RetCode.Ok) status = await batch.commit();
            if (status !== RetCode.Ok) return status;
            const [lo, hi] = [words[0]!, words[1]!];
            words[at] = lo;
            words[at + 1] = hi & 0xffff;
            const { lease } = written;
            status = batch.prepareWrite(
              lease,
              buffer,
              UNIT_BYTES,
              size,
              place.offset - lease.offset,
              rwFlags,
            );
            if (status === RetCode.Ok) status = await batch.commit();
            if (status !== RetCode.Ok) return status;
            status = this.#swap(batch, head, buffer, lo, hi, place.offset);
            if (status !== RetCode.Ok) return status;
            // Whether it was executed can't be known after a failure: then the list may be there, and is not left twice.
            if ((await batch.commit()) !== RetCode.Ok) return EMPTY;
            return words[0] === lo && words[1] === hi ? RetCode.Ok : RetCode.Retry;
          }),
        );
        if (done === RetCode.Ok) return true;
        if (done === EMPTY) return false;
      }
      return false;
    } finally {
      batch.reset();
      client.putRdmaBuffer(buffer);
    }
  }

  #swap(
    batch: Batch,
    head: HeldLease,
    buffer: Parameters<Batch['prepareCas']>[1],
    lo: number,
    hi: number,
    to: number,
  ) {
    const tag = ((hi >>> 16) + 1) & 0xffff;
    const toHi = (Math.floor(to / 0x1_0000_0000) | (tag << 16)) >>> 0;
    return batch.prepareCas(head.lease, buffer, 0, 0, lo, hi, to >>> 0, toHi, this.#keeper.rwFlags);
  }

  async #under(cell: LeaseCell, work: (held: HeldLease) => Promise<number>): Promise<number> {
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
}

/** Beside RetCode: there is nothing (more) to do. */
const EMPTY = -1;
