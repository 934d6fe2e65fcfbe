import { NONE } from './lease-table.js';
import type { LockTable } from './lock-table.js';

/**
 * The node's locks as one of its directories uses them. What a lease that ends held stays locked to the other directories until
 * settle(): the lease's window may be bound until then. Within this directory the lock may go to the next lease at once, as the answer
 * to that waits for the window.
 */
export class DirectoryLocks {
  private readonly table: LockTable;
  /** What the first lease of this directory is in the table. */
  private readonly base: number;
  private readonly ending: Uint8Array;
  private readonly ended: Int32Array;
  private count = 0;
  /** Whose lock the last take() got; NONE: nobody's. */
  private from = NONE;

  constructor(table: LockTable, base: number, leases: number) {
    this.table = table;
    this.base = base;
    this.ending = new Uint8Array(leases);
    this.ended = new Int32Array(leases);
  }

  /** Whether leases have ended since the last settle() that held a lock. */
  get pending(): boolean {
    return this.count > 0;
  }

  /** Take the lock with this key for a lease that has none; false if another lease holds it. */
  take(key: number, lease: number): boolean {
    this.from = NONE;
    const holder = this.table.take(key, this.base + lease);
    if (holder === NONE) return true;
    const own = holder - this.base;
    if (this.ending[own] !== 1) return false;
    this.table.pass(holder, this.base + lease);
    this.ending[own] = 0;
    this.from = own;
    return true;
  }

  /** Undo the last take() if it was for this lease. */
  giveBack(lease: number): void {
    if (!this.table.holds(this.base + lease)) return;
    if (this.from === NONE) {
      this.table.release(this.base + lease);
      return;
    }
    this.table.pass(this.base + lease, this.base + this.from);
    this.ending[this.from] = 1;
    this.from = NONE;
  }

  /** The lease ends; what it holds is free for all after settle(). */
  release(lease: number): void {
    if (!this.table.holds(this.base + lease)) return;
    this.ending[lease] = 1;
    this.ended[this.count++] = lease;
  }

  /** The windows of the leases that ended are unbound. */
  settle(): void {
    while (this.count > 0) {
      const lease = this.ended[--this.count]!;
      if (this.ending[lease] === 0) continue;
      this.ending[lease] = 0;
      this.table.release(this.base + lease);
    }
  }
}
