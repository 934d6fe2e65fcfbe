import type { Random } from './random.js';

/** Share of reads of YCSB's core workloads; the rest are updates, which replace a whole value. */
const READ_SHARE = { a: 0.5, b: 0.95, c: 1 } as const;

/** a: update heavy, 50/50. b: read mostly, 95/5. c: read only. */
export type WorkloadName = keyof typeof READ_SHARE;
export const WORKLOADS = Object.keys(READ_SHARE) as WorkloadName[];

/** `insert`: a write of the load phase. */
export type OperationType = 'insert' | 'read' | 'update';

/** Draws whether the next operation is a read. */
export class Mix {
  readonly #readShare: number;
  readonly #random: Random;

  constructor(workload: WorkloadName, random: Random) {
    this.#readShare = READ_SHARE[workload];
    this.#random = random;
  }

  nextIsRead(): boolean {
    return this.#random.float() < this.#readShare;
  }
}
