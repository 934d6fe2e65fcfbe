/** How many requests a client keeps under way on one queue pair. */
import { expect, test } from 'vitest';
import {
  type Completion,
  type CompletionQueue,
  type ProtectionDomain,
  type QueuePair,
  WcStatus,
} from '../../native/index.js';
import type { OperationBatch } from '../../patronus/client/batch.js';
import { DATA_SEND_DEPTH, DataPath } from '../../patronus/client/data-path.js';

/**
 * A NIC that says that the places of its requests are free as late as it may: with the completions of a batch are free
 * those of the batches before.
 */
class LateNic {
  refused = 0;
  #posted = 0;
  #free = DATA_SEND_DEPTH;
  #completed = 0;
  readonly #batches: { wrId: number; requests: number }[] = [];

  post(wrId: number): boolean {
    if (this.#free === 0) {
      this.refused++;
      return false;
    }
    this.#free--;
    this.#posted++;
    this.#batches.at(-1)!.wrId = wrId;
    return true;
  }

  begin(): void {
    this.#posted = 0;
    this.#batches.push({ wrId: 0, requests: 0 });
  }

  doorbell(): void {
    this.#batches.at(-1)!.requests = this.#posted;
  }

  get underWay(): number {
    return this.#batches.length;
  }

  complete(into: Completion): boolean {
    const batch = this.#batches.shift();
    if (batch === undefined) return false;
    this.#free += this.#completed;
    this.#completed = batch.requests;
    into.wrId = batch.wrId;
    into.status = WcStatus.SUCCESS;
    return true;
  }
}

test('a request always finds a place in the ring, however late the NIC frees those of the last batch', () => {
  const nic = new LateNic();
  let answers = false;
  const cq = { poll: (into: Completion) => answers && nic.complete(into) } as unknown as CompletionQueue;
  const qp = { postRead: (wrId: number) => nic.post(wrId), doorbell: () => nic.doorbell() };
  const pd = { createQp: () => qp as unknown as QueuePair } as unknown as ProtectionDomain;
  const path = new DataPath(pd, cq, cq, 1, {
    recycle: () => Promise.reject(new Error('nothing fails here')),
    watch: () => {},
    lose: () => {},
  });
  const batches = Array.from({ length: 100 }, () => ({
    count: 16,
    outcome: undefined as number | undefined,
    writeTo(pair: typeof qp, wrIdBase: number) {
      nic.begin();
      for (let i = 0; i < this.count; i++) pair.postRead(wrIdBase | i);
    },
    complete(outcome: number) {
      this.outcome = outcome;
    },
  }));
  for (const batch of batches) path.submit(batch as unknown as OperationBatch);
  expect(nic.underWay).toBeGreaterThan(8);
  answers = true;
  while (path.poll() > 0);
  expect(nic.refused).toBe(0);
  expect(batches.filter(({ outcome }) => outcome !== 0)).toEqual([]);
});
