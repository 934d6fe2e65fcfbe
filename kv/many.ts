import { type Batch, type MaybePromise, RetCode } from '../patronus/index.js';
import type { Get } from './get.js';
import { DONE, type Operation, PREPARED, type Step } from './operation.js';

const MAX_BATCH = 16;
/** Gets that share a batch: two reads each in the first round. */
export const GROUP = MAX_BATCH / 2;
/** So many are under way at a time. More would not hide more of the waiting, but need more of the processor's caches. */
export const GROUPS = 4;
export const SINGLES = 16;
/** A get adds at most as many reads as are free; with fewer the batch goes out first. */
const LEAST_FREE = 4;

/** Something that takes rounds, in each of which a batch is sent and waited for. */
export interface Rounds {
  /** Sends the batch of the next round, unless it is under way; false if there is none. */
  post(): boolean;
  wait(): MaybePromise<number>;
  /** The batch was executed, or not: prepares the next round. */
  advance(status: number): void;
}

/**
 * Gets that go through their rounds together: one batch for the bucket reads of all, one for the blocks. Whichever needs
 * anything else (a lease, another attempt, a large block) leaves the group.
 */
export class GetGroup implements Rounds {
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

  post(): boolean {
    if (this.#waiting.length === 0) return false;
    this.#posted = this.batch.post();
    return true;
  }

  wait(): MaybePromise<number> {
    return this.#posted === RetCode.Ok ? this.batch.commit() : this.#posted;
  }

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

/** An operation that goes through its rounds with batches of its own. */
export class Single implements Rounds {
  readonly #operation: Operation;
  readonly #leaves: (step: Step) => void;
  #posted = false;

  /** The operation has been started. `leaves` is called once, with its next step: DONE, or what it waits for. */
  constructor(operation: Operation, leaves: (step: Step) => void) {
    this.#operation = operation;
    this.#leaves = leaves;
    operation.runAmongOthers(true);
    this.#take(begun(operation));
  }

  post(): boolean {
    return this.#posted;
  }

  wait(): MaybePromise<number> {
    return this.#operation.commitPosted();
  }

  advance(status: number): void {
    this.#take(stepped(this.#operation, status));
  }

  #take(first: Step): void {
    let step = first;
    while (typeof step === 'number' && step !== PREPARED && step !== DONE) {
      step = stepped(this.#operation, step);
    }
    this.#posted = step === PREPARED;
    if (this.#posted) return;
    this.#operation.runAmongOthers(false);
    this.#leaves(step);
  }
}

/**
 * Takes operations through their rounds, at most so many at a time: while one is waited for the batches of the others are
 * under way. `beforeWaiting` is called each time before other code can run.
 */
export async function runTogether(
  most: number,
  next: () => Rounds | undefined,
  beforeWaiting: () => void,
): Promise<void> {
  const underWay: Rounds[] = [];
  for (;;) {
    while (underWay.length < most) {
      const rounds = next();
      if (rounds === undefined) break;
      if (rounds.post()) underWay.push(rounds);
    }
    const rounds = underWay.shift();
    if (rounds === undefined) return;
    const status = rounds.wait();
    if (typeof status === 'number') rounds.advance(status);
    else {
      beforeWaiting();
      rounds.advance(await status);
    }
    if (rounds.post()) underWay.push(rounds);
  }
}

function begun(operation: Operation): Step {
  try {
    return operation.begin();
  } catch (error) {
    return Promise.reject(error);
  }
}

function stepped(operation: Operation, status: number): Step {
  try {
    return operation.stepAfterWait(status);
  } catch (error) {
    return Promise.reject(error);
  }
}
