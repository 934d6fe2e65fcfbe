import type { MemoryRegion } from '../../native/index.js';
import { DeadlineHeap } from './deadline-heap.js';

/** No window, no neighbour, no piece of memory. */
export const NONE = -1;

/**
 * The leases that a directory has granted and that have not ended, by index. An index is used again; its generation
 * tells successive leases apart, so that a late request for an ended lease finds nothing.
 *
 * An index that was released rests until settle(): the old lease's header window may be bound until then, and must not
 * show the header of another lease. There are `spare` indices beyond the leases that may be alive, for those that rest.
 */
export class LeaseTable {
  readonly deadlines: DeadlineHeap;
  /** Indices of this table are below it. */
  readonly indices: number;
  readonly generation: Uint32Array;
  /** Slot of the connection that owns the lease. */
  readonly connection: Int32Array;
  /** The windows' places in the pool of that connection: of the buffer and of the header. */
  readonly window: Int32Array;
  readonly headerWindow: Int32Array;
  /** Instead of a window. */
  readonly region: (MemoryRegion | undefined)[];
  readonly offset: Float64Array;
  readonly size: Float64Array;
  readonly writable: Uint8Array;
  /** Node clock, ns, and what a unit stands for, ns; 0 without expiry. */
  readonly beginNs: Float64Array;
  readonly unitNs: Float64Array;
  /** Units that the deadline in the heap was made of. */
  readonly units: Uint32Array;
  /** The allocated piece that the lease lies in, NONE if it lies in no single one. */
  readonly piece: Float64Array;
  private readonly maxLeases: number;
  private readonly inUse: Uint8Array;
  private readonly free: Uint32Array;
  private freeCount: number;
  private readonly resting: Uint32Array;
  private restingCount = 0;
  /** The leases of a connection are a list. */
  private readonly first: Int32Array;
  private readonly next: Int32Array;
  private readonly previous: Int32Array;
  private liveCount = 0;

  constructor(maxLeases: number, connections: number, spare: number) {
    const indices = maxLeases + spare;
    this.maxLeases = maxLeases;
    this.indices = indices;
    this.deadlines = new DeadlineHeap(indices);
    this.generation = new Uint32Array(indices);
    this.connection = new Int32Array(indices);
    this.window = new Int32Array(indices);
    this.headerWindow = new Int32Array(indices);
    this.region = new Array<MemoryRegion | undefined>(indices).fill(undefined);
    this.offset = new Float64Array(indices);
    this.size = new Float64Array(indices);
    this.writable = new Uint8Array(indices);
    this.beginNs = new Float64Array(indices);
    this.unitNs = new Float64Array(indices);
    this.units = new Uint32Array(indices);
    this.piece = new Float64Array(indices);
    this.inUse = new Uint8Array(indices);
    this.free = new Uint32Array(indices);
    for (let i = 0; i < indices; i++) this.free[i] = indices - 1 - i;
    this.freeCount = indices;
    this.resting = new Uint32Array(indices);
    this.first = new Int32Array(connections).fill(NONE);
    this.next = new Int32Array(indices);
    this.previous = new Int32Array(indices);
  }

  get live(): number {
    return this.liveCount;
  }

  /** The index of the next lease; NONE if there are as many as there may be. It is free until begin(). */
  candidate(): number {
    return this.liveCount === this.maxLeases || this.freeCount === 0 ? NONE : this.free[this.freeCount - 1]!;
  }

  /** The candidate becomes a lease of that connection. */
  begin(connection: number): void {
    const index = this.free[--this.freeCount]!;
    this.liveCount++;
    this.inUse[index] = 1;
    this.connection[index] = connection;
    const other = this.first[connection]!;
    this.next[index] = other;
    this.previous[index] = NONE;
    if (other !== NONE) this.previous[other] = index;
    this.first[connection] = index;
  }

  /** End a lease. */
  release(index: number): void {
    this.deadlines.remove(index);
    this.inUse[index] = 0;
    this.generation[index]!++;
    this.resting[this.restingCount++] = index;
    this.liveCount--;
    const next = this.next[index]!;
    const previous = this.previous[index]!;
    if (next !== NONE) this.previous[next] = previous;
    if (previous !== NONE) this.next[previous] = next;
    else this.first[this.connection[index]!] = next;
  }

  /** The windows of all released leases are unbound: their indices can be used again. */
  settle(): void {
    while (this.restingCount > 0) this.free[this.freeCount++] = this.resting[--this.restingCount]!;
  }

  /** Whether this names a live lease of that connection. */
  owned(index: number, generation: number, connection: number): boolean {
    return (
      index < this.indices &&
      this.inUse[index] === 1 &&
      this.generation[index] === generation &&
      this.connection[index] === connection
    );
  }

  /** Some live lease of the connection; NONE if there is none. */
  anyOf(connection: number): number {
    return this.first[connection]!;
  }
}
