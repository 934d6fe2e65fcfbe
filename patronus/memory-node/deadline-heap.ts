/**
 * The deadlines of leases, earliest first: a binary heap over lease indices that also knows where each lease stands,
 * so that a relinquished lease leaves at once and the heap never holds more than the live leases.
 */
export class DeadlineHeap {
  private readonly heap: Uint32Array;
  private readonly position: Int32Array;
  /** By lease; written before push(), in place of a number handed over, which would take an object. */
  readonly deadline: Float64Array;
  private size = 0;

  constructor(maxLeases: number) {
    this.heap = new Uint32Array(maxLeases);
    this.position = new Int32Array(maxLeases).fill(-1);
    this.deadline = new Float64Array(maxLeases);
  }

  /** The earliest deadline, ns; Infinity if there is none. */
  get earliestNs(): number {
    return this.size === 0 ? Number.POSITIVE_INFINITY : this.deadline[this.heap[0]!]!;
  }

  /** Whether the earliest deadline is not after `time[0]`. */
  isDue(time: Float64Array): boolean {
    return this.size > 0 && this.deadline[this.heap[0]!]! <= time[0]!;
  }

  /** Write the earliest deadline to `into[at]`. Only when there is one. */
  copyEarliest(into: Float64Array, at: number): void {
    into[at] = this.deadline[this.heap[0]!]!;
  }

  /** The lease with the earliest deadline. Only when there is one. */
  get earliestLease(): number {
    return this.heap[0]!;
  }

  /** Put in a lease that is not there, with its deadline. */
  push(lease: number): void {
    this.moveUp(this.size++, lease);
  }

  /** Remove a lease; nothing happens if it has no deadline. */
  remove(lease: number): void {
    const at = this.position[lease]!;
    if (at < 0) return;
    this.position[lease] = -1;
    const last = this.heap[--this.size]!;
    if (last === lease) return;
    const parent = (at - 1) >> 1;
    if (at > 0 && this.deadline[last]! < this.deadline[this.heap[parent]!]!) this.moveUp(at, last);
    else this.moveDown(at, last);
  }

  private place(at: number, lease: number): void {
    this.heap[at] = lease;
    this.position[lease] = at;
  }

  private moveUp(start: number, lease: number): void {
    const deadline = this.deadline[lease]!;
    let at = start;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const other = this.heap[parent]!;
      if (this.deadline[other]! <= deadline) break;
      this.place(at, other);
      at = parent;
    }
    this.place(at, lease);
  }

  private moveDown(start: number, lease: number): void {
    const deadline = this.deadline[lease]!;
    let at = start;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.size) break;
      if (child + 1 < this.size && this.deadline[this.heap[child + 1]!]! < this.deadline[this.heap[child]!]!)
        child++;
      const other = this.heap[child]!;
      if (this.deadline[other]! >= deadline) break;
      this.place(at, other);
      at = child;
    }
    this.place(at, lease);
  }
}
