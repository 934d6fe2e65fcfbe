import { AcquireFlag, AcquireStatus, type Lease, type PatronusClient, RetCode } from '../patronus/index.js';
import { refusal } from './errors.js';

/** A lock is extended when less than this part of its term is left. */
const EXTEND_BELOW = 0.5;
/** Of the term of a lock, what has to be left for another access under it. */
const USABLE_ABOVE = 0.125;
const ACQUIRE_ATTEMPTS = 5;

/** The lock has ended: whatever was under way under it is another client's business now. */
export class FenceLost extends Error {}

/**
 * A lock that is a lease: an exclusive write lease on a range. If its holder dies it ends with its term, and from then on
 * the NIC refuses what the holder may still send under it, or under the leases that lease() has given out.
 */
export class Fence {
  readonly lease: Lease;
  readonly #client: PatronusClient;
  readonly #termNs: number;
  /** On this client's clock, not later than the lease's own. */
  #untilNs: number;
  #inner: { readonly offset: number; readonly lease: Lease; readonly untilNs: number } | undefined;

  /** Undefined while somebody else holds the lock. `under`: a lock that has to outlast this one. */
  static async tryAcquire(
    client: PatronusClient,
    offset: number,
    size: number,
    termNs: number,
    under?: Fence,
  ): Promise<Fence | undefined> {
    for (let attempt = 1; ; attempt++) {
      const sinceNs = client.now();
      const term = under === undefined ? termNs : under.#innerTermNs(sinceNs);
      const { status, lease } = await client.getWlease({
        offset,
        size,
        termNs: term,
        flags: AcquireFlag.WithConflictDetect,
      });
      if (status === AcquireStatus.LockedErr) return undefined;
      if (status !== AcquireStatus.Success) {
        if (attempt < ACQUIRE_ATTEMPTS) continue;
        throw refusal('The memory node grants no lock', status);
      }
      const fence = new Fence(client, lease!, term, sinceNs);
      if (under === undefined || lease!.deadlineNs <= under.lease.deadlineNs) return fence;
      await fence.release();
      if (attempt === ACQUIRE_ATTEMPTS) throw new FenceLost();
    }
  }

  private constructor(client: PatronusClient, lease: Lease, termNs: number, sinceNs: number) {
    this.#client = client;
    this.lease = lease;
    this.#termNs = termNs;
    this.#untilNs = sinceNs + termNs;
  }

  /** Before each access: throws FenceLost if the lock may end too soon. Never extends a lock that has to end in another. */
  check(): void {
    if (this.#untilNs - this.#client.now() < this.#termNs * USABLE_ABOVE) throw new FenceLost();
  }

  /** As check(), and extends the lock in time. */
  async hold(): Promise<void> {
    const client = this.#client;
    if (this.#untilNs - client.now() < this.#termNs * EXTEND_BELOW) {
      this.check();
      const status = await client.extend(this.lease, this.#termNs);
      if (status !== RetCode.Ok) throw new FenceLost();
      this.#untilNs += this.#termNs;
    }
    this.check();
  }

  /** A lease to write another range that ends no later than this lock. It is kept for the next call. */
  async inner(offset: number, size: number): Promise<Lease> {
    const client = this.#client;
    const held = this.#inner;
    const now = client.now();
    if (held !== undefined && held.offset === offset && now < held.untilNs) return held.lease;
    await this.#dropInner();
    for (let attempt = 0; attempt < ACQUIRE_ATTEMPTS; attempt++) {
      await this.hold();
      const sinceNs = client.now();
      const termNs = this.#innerTermNs(sinceNs);
      const { status, lease } = await client.getWlease({ offset, size, termNs });
      if (status !== AcquireStatus.Success) continue;
      if (lease!.deadlineNs <= this.lease.deadlineNs) {
        this.#inner = { offset, lease: lease!, untilNs: sinceNs + termNs / 2 };
        return lease!;
      }
      await client.relinquish(lease!).catch(() => undefined);
    }
    throw new FenceLost();
  }

  async release(): Promise<void> {
    await this.#dropInner();
    await this.#client.relinquish(this.lease).catch(() => undefined);
  }

  #innerTermNs(nowNs: number): number {
    return Math.max(1, Math.floor((this.#untilNs - nowNs) * 0.75));
  }

  async #dropInner(): Promise<void> {
    const held = this.#inner;
    this.#inner = undefined;
    if (held !== undefined) await this.#client.relinquish(held.lease).catch(() => undefined);
  }
}
