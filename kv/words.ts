import { type Batch, type RdmaBuffer, RetCode } from '../patronus/index.js';
import { unavailable } from './errors.js';
import type { LeaseCell, LeaseKeeper } from './leases.js';

/** A read of up to so many bytes brings every word whole. */
const WORDWISE_BYTES = 256;
/** In one batch. */
export const MAX_READ_BYTES = 16 * WORDWISE_BYTES;
const ATTEMPTS = 40;
const PAUSE_MS = 2;

/** Rare operations on single 64-bit words and small ranges, each under the lease of a cell, repeated until they are executed. */
export class Words {
  readonly #keeper: LeaseKeeper;
  readonly #cell: LeaseCell;
  readonly #offset: number;

  /** The range of the node's memory; offsets below are in it. */
  constructor(keeper: LeaseKeeper, offset: number, size: number) {
    this.#keeper = keeper;
    this.#offset = offset;
    this.#cell = keeper.cell(offset, size, true);
  }

  /** A copy of up to MAX_READ_BYTES; no word is torn. */
  read(at: number, size: number): Promise<Uint32Array> {
    return this.#do(
      size,
      (batch, buffer, base) => {
        let status: RetCode = RetCode.Ok;
        for (let done = 0; done < size && status === RetCode.Ok; done += WORDWISE_BYTES) {
          const some = Math.min(WORDWISE_BYTES, size - done);
          status = batch.prepareRead(base.lease, buffer, done, some, base.at + at + done, base.flags);
        }
        return status;
      },
      (words) => words.slice(0, size / 4),
    );
  }

  /**
   * Changes a word from what it is known to be; resolves with what was there before. Where an answer was lost, a second attempt
   * may find the new word.
   */
  cas(at: number, from: readonly [number, number], to: readonly [number, number]): Promise<[number, number]> {
    return this.#do(
      8,
      (batch, buffer, base) =>
        batch.prepareCas(base.lease, buffer, 0, base.at + at, ...from, ...to, base.flags),
      (words) => [words[0]!, words[1]!],
    );
  }

  /** Adds to a word; where an answer was lost, perhaps twice. */
  async add(at: number, lo: number, hi: number): Promise<void> {
    await this.#do(
      8,
      (batch, buffer, base) => batch.prepareFaa(base.lease, buffer, 0, base.at + at, lo, hi, base.flags),
      () => undefined,
    );
  }

  async #do<T>(
    size: number,
    prepare: (
      batch: Batch,
      buffer: RdmaBuffer,
      base: { lease: Parameters<Batch['prepareRead']>[0]; at: number; flags: number },
    ) => RetCode,
    resultOf: (words: Uint32Array) => T,
  ): Promise<T> {
    const { client, pacing, rwFlags: flags } = this.#keeper;
    const batch = client.createBatch();
    const buffer = client.getRdmaBuffer(size);
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const held = this.#cell.take(client.now());
        if (held === undefined) {
          await this.#cell.acquire();
          continue;
        }
        try {
          const { lease } = held;
          let status = prepare(batch, buffer, { lease, at: this.#offset - lease.offset, flags });
          if (status === RetCode.Ok) status = await batch.commit();
          if (status === RetCode.Ok) return resultOf(buffer.words);
          batch.reset();
          this.#cell.drop(held);
        } finally {
          this.#cell.release(held);
        }
        await pacing.sleep(PAUSE_MS * pacing.random());
      }
    } finally {
      client.putRdmaBuffer(buffer);
    }
    throw unavailable();
  }
}
