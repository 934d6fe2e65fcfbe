import { DeadlineHeap } from './deadline-heap.js';

/**
 * The leases that a directory has granted and that have not ended, by index. An index is used again; its generation
 * tells successive leases apart, so that a late request for an ended lease finds nothing.
 */
export class LeaseTable {
  readonly deadlines: DeadlineHeap;
  readonly generation: Uint32Array;
  /** Slot of the connection that owns the lease. */
  readonly connection: Int32Array;
  /** The window's place in the pool of that connection. */
  readonly window: Int32Array;
  readonly offset: Float64Array;
  private readonly inUse: Uint8Array;
  private readonly free: Uint32Array;
  private freeCount: number;

  constructor(maxLeases: number) {
    this.deadlines = new DeadlineHeap(maxLeases);
    this.generation = new Uint32Array(maxLeases);
    this.connection = new Int32Array(maxLeases);
    this.window = new Int32Array(maxLeases);
    this.offset = new Float64Array(maxLeases);
    this.inUse = new Uint8Array(maxLeases);
    this.free = new Uint32Array(maxLeases);
    for (let i = 0; i < maxLeases; i++) this.free[i] = maxLeases - 1 - i;
    this.freeCount = maxLeases;
  }

  get live(): number {
    return this.generation.length - this.freeCount;
  }

  get full(): boolean {
    return this.freeCount === 0;
  }

  /** Take an index; only when not full. */
  take(): number {
    const index = this.free[--this.freeCount]!;
    this.inUse[index] = 1;
    return index;
  }

  /** End a lease. */
  release(index: number): void {
    this.deadlines.remove(index);
    this.inUse[index] = 0;
    this.generation[index]!++;
    this.free[this.freeCount++] = index;
  }

  /** Whether this names a live lease of that connection. */
  owned(index: number, generation: number, connection: number): boolean {
    return (
      index < this.inUse.length &&
      this.inUse[index] === 1 &&
      this.generation[index] === generation &&
      this.connection[index] === connection
    );
  }

  /** Visit the live leases of a connection; the visitor may release the one it is given. */
  forEachOf(connection: number, visit: (index: number) => void): void {
    for (let index = 0; index < this.inUse.length; index++) {
      if (this.inUse[index] === 1 && this.connection[index] === connection) visit(index);
    }
  }
}
