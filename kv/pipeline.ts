import { type Batch, type PatronusClient, RetCode } from '../patronus/index.js';
import type { Pacing } from './pacing.js';

const MAX_BATCH = 16;
/** Batches under way at a time. With more, other operations of the client would find its send queue full. */
const BATCHES = 12;
/** Where everything is done at once (loopback) others on this thread get their turn after so long. */
const TURN_NS = 1e6;

/** Sends long rows of operations whose order among each other does not matter, many at a time. */
export class Pipeline {
  readonly #client: PatronusClient;
  readonly #pacing: Pacing;
  /** Posted or empty: to commit an empty one does nothing. */
  readonly #batches: readonly Batch[];
  #turnNs: number;

  constructor(client: PatronusClient, pacing: Pacing) {
    this.#client = client;
    this.#pacing = pacing;
    this.#batches = Array.from({ length: BATCHES }, () => client.createBatch());
    this.#turnNs = client.now();
  }

  /**
   * `prepare` adds the i-th of `count` operations to a batch. Resolves when nothing is under way any more: with Ok if all
   * were executed, else with the first failure, and any of them may have been executed or not.
   */
  async send(count: number, prepare: (batch: Batch, i: number) => RetCode): Promise<RetCode> {
    let status: RetCode = RetCode.Ok;
    let next = 0;
    for (let i = 0; i < count && status === RetCode.Ok; next = (next + 1) % BATCHES) {
      const batch = this.#batches[next]!;
      const before = batch.commit();
      status = typeof before === 'number' ? before : await before;
      while (i < count && batch.count < MAX_BATCH && status === RetCode.Ok) status = prepare(batch, i++);
      if (status === RetCode.Ok) status = batch.post();
      else batch.reset();
      if (this.#client.now() - this.#turnNs > TURN_NS) await this.#giveTurn();
    }
    for (let i = 0; i < BATCHES; i++) {
      const answer = await this.#batches[(next + i) % BATCHES]!.commit();
      if (status === RetCode.Ok) status = answer;
    }
    return status;
  }

  async #giveTurn(): Promise<void> {
    await this.#pacing.sleep(0);
    this.#turnNs = this.#client.now();
  }
}
