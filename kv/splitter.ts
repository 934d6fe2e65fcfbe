import { RetCode } from '../patronus/index.js';
import type { TableContext } from './context.js';
import type { Subtable } from './directory.js';
import { Fence, FenceLost } from './fence.js';
import { subtableBytes } from './layout.js';
import { Split } from './split.js';

/** A lock has the table's term, but not so short that a split is mostly extending it. */
const MIN_LOCK_TERM_NS = 100e6;
/** Between two attempts to get a lock that another client has. */
const LOCKED_PAUSE_MS = 4;

/** Splits subtables that are full, and finishes splits whose client is gone. One at a time for each subtable. */
export class Splitter {
  /** Splits that this client has finished. */
  splits = 0;
  readonly #context: TableContext;
  readonly #running = new Map<number, Promise<RetCode>>();

  constructor(context: TableContext) {
    this.#context = context;
  }

  /** The subtable has no room for a key. */
  grow(subtable: Subtable): Promise<RetCode> {
    return this.#advance(subtable, true);
  }

  /** Entries of the subtable are being moved; `isNew`: into it. */
  finish(subtable: Subtable, isNew: boolean): Promise<RetCode> {
    const old = isNew
      ? this.#context.directory.subtableOf(subtable.suffix - 2 ** (subtable.localDepth - 1))
      : subtable;
    return this.#advance(old, false);
  }

  protected newSplit(subtable: Subtable, fence: Fence): Split {
    return new Split(this.#context, subtable, fence);
  }

  /** Resolves with Ok when the operation should look again, with the directory read again. */
  #advance(subtable: Subtable, grow: boolean): Promise<RetCode> {
    let running = this.#running.get(subtable.offset);
    if (running === undefined) {
      running = this.#try(subtable, grow).finally(() => this.#running.delete(subtable.offset));
      this.#running.set(subtable.offset, running);
    }
    return running;
  }

  async #try(subtable: Subtable, grow: boolean): Promise<RetCode> {
    const { client, keeper, pacing, superblock } = this.#context;
    const size = subtableBytes(superblock.groups);
    const termNs = Math.max(MIN_LOCK_TERM_NS, keeper.termNs);
    const fence = await Fence.tryAcquire(client, subtable.offset, size, termNs);
    if (fence === undefined) {
      await pacing.sleep(LOCKED_PAUSE_MS * (0.5 + pacing.random()));
    } else {
      const split = this.newSplit(subtable, fence);
      try {
        if (await split.run(grow)) this.splits++;
      } catch (error) {
        if (!(error instanceof FenceLost)) throw error;
      } finally {
        split.dispose();
        await fence.release();
      }
    }
    await this.#context.refreshDirectory();
    return RetCode.Ok;
  }
}
