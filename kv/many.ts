import { type Batch, type MaybePromise, RetCode } from '../patronus/index.js';
import type { Get } from './get.js';
import { PREPARED, type Step } from './operation.js';

const MAX_BATCH = 16;
/** Gets that share a batch: two reads each in the first round. */
export const GROUP = MAX_BATCH / 2;
/** So many groups are under way at a time. More would not hide more of the waiting, but need more of the processor's caches. */
const GROUPS = 4;
/** A get adds at most as many reads as are free; with fewer the batch goes out first. */
const LEAST_FREE = 4;

/**
 * Gets that go through their rounds together: one batch for the bucket reads of all, one for the blocks. Whichever needs
 * anything else (a lease, another attempt, a large block) leaves the group.
 */
export class GetGroup {
  readonly batch: Batch;
  /** Those whose reads are in the batch. */
  #waiting: Get[] = [];
  #sent: Get[] = [];
  #posted: number = RetCode.Ok;
  readonly #leaves: (get: Get, step: Step) => void;

  /** The gets have been started. `leaves` is called for each of them once, with its next step: DONE, or what it waits for. */
  constructor(gets: readonly Get[], batch: Batch, leaves: (get: Get, step: Step) => void) {
    this.batch = batch;
    this.#leaves = leaves;
    for (const get of gets) {
      get.shareBatch(batch);
      this.#take(get, begun(get));
    }
  }

  /** Sends the batch; false if nobody is left. */
  post(): boolean {
    if (this.#waiting.length === 0) return false;
    this.#posted = this.batch.post();
    return true;
  }

  wait(): MaybePromise<number> {
    return this.#posted === RetCode.Ok ? this.batch.commit() : this.#posted;
  }

  /** The batch was executed, or not: the next round of those who wait for it. */
  advance(status: number): void {
    const sent = this.#waiting;
    this.#waiting = this.#sent;
    this.#sent = sent;
    const { batch } = this;
    for (let i = 0; i < sent.length; i++) {
      const get = sent[i]!;
      if (MAX_BATCH - batch.count < LEAST_FREE) {
        get.shareBatch(undefined);
        this.#leaves(get, stepped(get, status));
      } else this.#take(get, stepped(get, status));
    }
    sent.length = 0;
  }

  #take(get: Get, step: Step): void {
    if (step === PREPARED) {
      this.#waiting.push(get);
      return;
    }
    get.shareBatch(undefined);
    this.#leaves(get, step);
  }
}

/**
 * Takes groups through their rounds, some at a time: while one is waited for the batches of the others are under way.
 * `beforeWaiting` is called each time before other code can run.
 */
export async function runTogether(
  next: () => GetGroup | undefined,
  beforeWaiting: () => void,
): Promise<void> {
  const underWay: GetGroup[] = [];
  for (;;) {
    while (underWay.length < GROUPS) {
      const group = next();
      if (group === undefined) break;
      if (group.post()) underWay.push(group);
    }
    const group = underWay.shift();
    if (group === undefined) return;
    const status = group.wait();
    if (typeof status === 'number') group.advance(status);
    else {
      beforeWaiting();
      group.advance(await status);
    }
    if (group.post()) underWay.push(group);
  }
}

function begun(get: Get): Step {
  try {
    return get.begin();
  } catch (error) {
    return Promise.reject(error);
  }
}

function stepped(get: Get, status: number): Step {
  try {
    return get.stepAfterWait(status);
  } catch (error) {
    return Promise.reject(error);
  }
}
