import { AcquireFlag, AcquireStatus, type Lease, type PatronusClient, RetCode } from '../patronus/index.js';
import type { Epoch } from './epoch.js';
import { refusal } from './errors.js';

/** A lock is extended when less than this part of its term is left. */
const EXTEND_BELOW = 0.5;
/** Of the term of a lock, what has to be left for another access under it. */
const USABLE_ABOVE = 0.125;
const ACQUIRE_ATTEMPTS = 5;

/** The lock has ended, or what its holder had free memory for: whatever was under way under it is another client's business now. */
export class FenceLost extends Error {}

/**
 * A lock that is a lease: an exclusive write lease on a range. If its holder dies it ends with its term, and from then on
 * the NIC refuses what the holder may still send under it, or under the leases that lease() has given out.
 */
export class Fence {
  readonly lease: Lease;
  readonly #client: PatronusClient;
  readonly #epoch: Epoch | undefined;
  /** Of collections: memory that was taken under the lock is to be used in the same one. */
  readonly #cycle: number;
  readonly #termNs: number;
  /** On this client's clock, not later than the lease's own. */
  #untilNs: number;
  #inner: { readonly offset: number; readonly lease: Lease; readonly untilNs: number } | undefined;

  /**
   * Undefined while somebody else holds the lock. `under`: a lock that has to outlast this one. With an `epoch` the lock is lost
   * to its holder, too, when a collection begins.
   */
  static async tryAcquire(
    client: PatronusClient,
    epoch: Epoch | undefined,
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
      let isGood = false;
      try {
        await epoch?.refresh();
        const fence = new Fence(client, epoch, under, lease!, term, sinceNs);
        under?.check();
        isGood = under === undefined || lease!.deadlineNs <= under.lease.deadlineNs;
        if (isGood) return fence;
      } finally {
        if (!isGood) await client.relinquish(lease!).catch(() => undefined);
      }
      if (attempt === ACQUIRE_ATTEMPTS) throw new FenceLost();
    }
  }

  private constructor(
    client: PatronusClient,
    epoch: Epoch | undefined,
    under: Fence | undefined,
    lease: Lease,
    termNs: number,
    sinceNs: number,
  ) {
    this.#client = client;
    this.#epoch = epoch;
    this.#cycle = under === undefined ? (epoch?.cycle ?? 0) : under.#cycle;
    this.lease = lease;
    this.#termNs = termNs;
    this.#untilNs = sinceNs + termNs;
  }

  /** Before each access: throws FenceLost if the lock may end too soon. Never extends a lock that has to end in another. */
  check(): void {
    if (this.#untilNs - this.#client.now() < this.#termNs * USABLE_ABOVE) throw new FenceLost();
    if (this.#epoch !== undefined && this.#epoch.cycle !== this.#cycle) throw new FenceLost();
  }

  /** As check(), and extends the lock in time. */
  async hold(): Promise<void> {
    const client = this.#client;
    if (this.#untilNs - client.now() < this.#termNs * EXTEND_BELOW) {
      this.check();
      const status = await client.extend(this.lease, this.#termNs);
      if (status !== RetCode.Ok) throw new FenceLost();
      this.#untilNs += this.#termNs;
      await this.#refresh();
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
        await this.#refresh();
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

  /** After a grant or an extension, as everywhere; see Epoch. */
  async #refresh(): Promise<void> {
    if (this.#epoch === undefined) return;
    await this.#epoch.refresh();
    this.check();
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
