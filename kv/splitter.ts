import { RetCode } from '../patronus/index.js';
import type { TableContext } from './context.js';
import type { Subtable } from './directory.js';
import { Fence, FenceLost } from './fence.js';
import { subtableBytes } from './layout.js';
import { Split } from './split.js';

/** A lock has the table's term, but not so short that a split is mostly extending it. */
export const MIN_LOCK_TERM_NS = 100e6;
/** Between two attempts to get a lock that another client has. */
const LOCKED_PAUSE_MS = 4;

/**
 * Splits subtables that are full, or nearly so, and finishes splits whose client is gone. One after the other: subtables fill up
 * at about the same time, and one that waits for its turn takes everything but keys that find no room, while one
 * that is being split takes no write of a key that moves.
 */
export class Splitter {
  /** Splits that this client has finished. */
  splits = 0;
  readonly #context: TableContext;
  readonly #running = new Map<number, Promise<RetCode>>();
  /** The end of all that have begun. */
  #last: Promise<unknown> = Promise.resolve();
  /** The last split that was asked for ahead of time has failed, and none has worked since. */
  #onlyWhenFull = false;

  constructor(context: TableContext) {
    this.#context = context;
  }

  /** The subtable has no room for a key. */
  grow(subtable: Subtable): Promise<RetCode> {
    return this.#advance(subtable, true);
  }

  /**
   * The subtable will soon have no room: splits it while nobody needs to wait for that, unless there is a split to be made already:
   * those who need one don't wait for a row of others. A failure is for them, too.
   */
  growAhead(subtable: Subtable): void {
    if (this.#onlyWhenFull || this.#running.size > 0) return;
    this.#advance(subtable, true).catch(() => {
      this.#onlyWhenFull = true;
    });
  }

  /** Entries of the subtable are being moved; `isNew`: into it. */
  finish(subtable: Subtable, isNew: boolean): Promise<RetCode> {
    const old = isNew
      ? this.#context.directory.subtableOf(subtable.suffix - 2 ** (subtable.localDepth - 1))
      : subtable;
    return this.#advance(old, false);
  }

  /** Resolves when no split is under way any more. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#running.values());
  }

  protected newSplit(subtable: Subtable, fence: Fence): Split {
    return new Split(this.#context, subtable, fence);
  }

  /** Resolves with Ok when the operation should look again, with the directory read again. */
  #advance(subtable: Subtable, grow: boolean): Promise<RetCode> {
    let running = this.#running.get(subtable.offset);
    if (running === undefined) {
      running = this.#inTurn(subtable, grow).finally(() => this.#running.delete(subtable.offset));
      this.#running.set(subtable.offset, running);
    }
    return running;
  }

  async #inTurn(subtable: Subtable, grow: boolean): Promise<RetCode> {
    const mine = this.#last.then(() => this.#try(subtable, grow));
    this.#last = mine.catch(() => undefined);
    const { pacing } = this.#context;
    if (!(await mine)) await pacing.sleep(LOCKED_PAUSE_MS * (0.5 + pacing.random()));
    await this.#context.refreshDirectory();
    return RetCode.Ok;
  }

  /** False if another client has the lock. */
  async #try(subtable: Subtable, grow: boolean): Promise<boolean> {
    const { client, keeper, superblock } = this.#context;
    const size = subtableBytes(superblock.groups);
    const termNs = Math.max(MIN_LOCK_TERM_NS, keeper.termNs);
    const fence = await Fence.tryAcquire(client, keeper.epoch, subtable.offset, size, termNs);
    if (fence === undefined) return false;
    const split = this.newSplit(subtable, fence);
    try {
      if (await split.run(grow)) {
        this.splits++;
        this.#onlyWhenFull = false;
      }
    } catch (error) {
      if (!(error instanceof FenceLost)) throw error;
    } finally {
      split.dispose();
      await fence.release();
    }
    return true;
  }
}
