import { type Batch, type Lease, type RdmaBuffer, RetCode } from '../patronus/index.js';
import { BLOCK_HEADER_BYTES, blockExpiry, blockKeyLength, unitsOfBlock } from './block.js';
import type { TableContext } from './context.js';
import type { Subtable } from './directory.js';
import { unavailable } from './errors.js';
import {
  BUCKET_BYTES,
  BUCKET_HEADER,
  BUCKET_MARK,
  GROUP_BYTES,
  LARGE_UNITS,
  PENDING,
  slotPointer,
  slotUnits,
  suffixMask,
  UNIT_BYTES,
} from './layout.js';

const MAX_BATCH = 16;
const BUCKET_WORDS = BUCKET_BYTES / 4;
/** Bytes of a block that are read first: enough for most keys. */
const FIRST_BYTES = 4 * UNIT_BYTES;
/** Groups of one step. */
export const STEP_GROUPS = MAX_BATCH;
const PLACES_AT = STEP_GROUPS * GROUP_BYTES;
const SCRATCH_BYTES = PLACES_AT + MAX_BATCH * FIRST_BYTES;
const ATTEMPTS = 40;
const PAUSE_MS = 4;

/** Who is told what a step has found: with keys of each entry its key, else its size. */
export interface Found {
  /** 64-byte units of the entry's block. */
  size(units: number): void;
  /** `expiry`: ms since 1970, 0: never. */
  key(key: Uint8Array, expiry: number): void;
}

/**
 * Reads the index group by group, for scans and counts. A key in the table stays in its slot, or moves by a split to the slot
 * with the same index of the new subtable; so who has read a group of a subtable, and finds by the headers read with
 * the slots that the subtable covered the hashes it was taken for, has seen all keys that were there the whole time.
 */
export class Walk {
  readonly #context: TableContext;
  readonly #batch: Batch;
  readonly #scratch: RdmaBuffer;
  readonly #flags: number;
  readonly #slots: number[] = [];

  constructor(context: TableContext) {
    this.#context = context;
    this.#flags = context.keeper.rwFlags;
    this.#batch = context.client.createBatch();
    this.#scratch = context.client.getRdmaBuffer(SCRATCH_BYTES);
  }

  close(): void {
    this.#context.client.putRdmaBuffer(this.#scratch);
  }

  /** Reads `count` groups of the subtable that holds `suffix`; returns that subtable. `withKeys`: the blocks too. */
  async step(
    suffix: number,
    group: number,
    count: number,
    withKeys: boolean,
    found: Found,
  ): Promise<Subtable> {
    const context = this.#context;
    const { region, client, pacing } = context;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const held = region.take(client.now());
      if (held === undefined) {
        await region.acquire();
        continue;
      }
      const keys: { key: Uint8Array; expiry: number }[] = [];
      let status: RetCode = RetCode.Ok;
      try {
        const subtable = context.directory.subtableOf(suffix);
        const { lease } = held;
        for (let i = 0; i < count && status === RetCode.Ok; i++) {
          const at = subtable.offset + (group + i) * GROUP_BYTES - lease.offset;
          status = this.#batch.prepareRead(
            lease,
            this.#scratch,
            i * GROUP_BYTES,
            GROUP_BYTES,
            at,
            this.#flags,
          );
        }
        status = await this.#send(status);
        if (status === RetCode.Ok && !this.#covers(subtable, count)) {
          await context.refreshDirectory();
          continue;
        }
        if (status === RetCode.Ok) {
          this.#collect(count);
          if (withKeys) {
            status = await this.#readKeys(held.lease, (key, expiry) => keys.push({ key, expiry }));
          } else status = await this.#readSizes(held.lease, found);
        }
        if (status === RetCode.Ok) {
          for (const { key, expiry } of keys) found.key(key, expiry);
          return subtable;
        }
        context.countRetry(status);
        region.drop(held);
      } finally {
        region.release(held);
      }
      await pacing.sleep(PAUSE_MS * pacing.random());
    }
    throw unavailable();
  }

  /** Whether the groups just read hold all keys of the hashes that the cached directory leads to this subtable. */
  #covers({ localDepth, suffix }: Subtable, groups: number): boolean {
    const { words } = this.#scratch;
    for (let at = BUCKET_HEADER; at < groups * 3 * BUCKET_WORDS; at += BUCKET_WORDS) {
      const depth = words[at]! & 0xff;
      if ((words[at]! & 0xffff_0000) !== BUCKET_MARK || depth > localDepth) return false;
      if (((words[at + 1]! ^ suffix) & suffixMask(depth)) !== 0) return false;
    }
    return true;
  }

  #collect(groups: number): void {
    const { words } = this.#scratch;
    this.#slots.length = 0;
    for (let at = 0; at < groups * 3 * BUCKET_WORDS; at += 2) {
      if (at % BUCKET_WORDS === BUCKET_HEADER) continue;
      if (words[at + 1] !== 0 && (words[at]! & PENDING) === 0) this.#slots.push(at);
    }
  }

  async #readKeys(lease: Lease, onKey: (key: Uint8Array, expiry: number) => void): Promise<RetCode> {
    const { words, bytes } = this.#scratch;
    for (let from = 0; from < this.#slots.length; from += MAX_BATCH) {
      const some = this.#slots.slice(from, from + MAX_BATCH);
      let status: RetCode = RetCode.Ok;
      some.forEach((slot, i) => {
        const hi = words[slot + 1]!;
        const size = Math.min(FIRST_BYTES, slotUnits(hi) * UNIT_BYTES);
        const at = slotPointer(words[slot]!, hi) - lease.offset;
        if (status === RetCode.Ok) {
          status = this.#batch.prepareRead(
            lease,
            this.#scratch,
            PLACES_AT + i * FIRST_BYTES,
            size,
            at,
            this.#flags,
          );
        }
      });
      status = await this.#send(status);
      if (status !== RetCode.Ok) return status;
      for (const [i, slot] of some.entries()) {
        const place = PLACES_AT + i * FIRST_BYTES;
        const length = blockKeyLength(words, place / 4);
        const expiry = blockExpiry(words, place / 4);
        if (BLOCK_HEADER_BYTES + length <= FIRST_BYTES) {
          onKey(bytes.slice(place + BLOCK_HEADER_BYTES, place + BLOCK_HEADER_BYTES + length), expiry);
          continue;
        }
        const key = await this.#readLongKey(lease, slotPointer(words[slot]!, words[slot + 1]!), length);
        if (typeof key === 'number') return key;
        onKey(key, expiry);
      }
    }
    return RetCode.Ok;
  }

  async #readLongKey(lease: Lease, block: number, length: number): Promise<Uint8Array | RetCode> {
    const { client } = this.#context;
    const size = BLOCK_HEADER_BYTES + length;
    const buffer = client.getRdmaBuffer(size);
    try {
      const status = await this.#send(
        this.#batch.prepareRead(lease, buffer, 0, size, block - lease.offset, this.#flags),
      );
      return status === RetCode.Ok ? buffer.bytes.slice(BLOCK_HEADER_BYTES, size) : status;
    } finally {
      client.putRdmaBuffer(buffer);
    }
  }

  /** The slots tell the sizes of all but the largest blocks. */
  async #readSizes(lease: Lease, found: Found): Promise<RetCode> {
    const { words } = this.#scratch;
    const sizes = this.#slots.map((slot) => slotUnits(words[slot + 1]!));
    for (const [i, slot] of this.#slots.entries()) {
      if (sizes[i] !== LARGE_UNITS) continue;
      const at = slotPointer(words[slot]!, words[slot + 1]!) - lease.offset;
      const status = await this.#send(
        this.#batch.prepareRead(lease, this.#scratch, PLACES_AT, BLOCK_HEADER_BYTES, at, this.#flags),
      );
      if (status !== RetCode.Ok) return status;
      sizes[i] = unitsOfBlock(words, PLACES_AT / 4);
    }
    for (const units of sizes) found.size(units);
    return RetCode.Ok;
  }

  async #send(status: RetCode): Promise<RetCode> {
    if (status === RetCode.Ok) return this.#batch.commit();
    this.#batch.reset();
    return status;
  }
}
