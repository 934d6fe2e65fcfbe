import {
  AcquireFlag,
  AcquireStatus,
  type Lease,
  type PatronusClient,
  RetCode,
  RwFlag,
} from '../patronus/index.js';
import { KvError, KvErrorCode, type KvProtection } from './api.js';
import { Epoch } from './epoch.js';
import { refusal } from './errors.js';
import { SUPERBLOCK_BYTES } from './layout.js';
import type { Pacing } from './pacing.js';

/** A lease is renewed in the background from this part of its term on, if it is used then. */
const RENEW_AFTER = 0.5;
/** No attempt begins with a lease older than this part of its term; it would rather wait for the next one. */
const USABLE_FOR = 0.875;
/** When the node is short of windows. */
const ACQUIRE_ATTEMPTS = 10;
const ACQUIRE_PAUSE_MS = 20;

/** A lease and the attempts that use it. Relinquished when it has a successor and nobody uses it any more. */
export class HeldLease {
  readonly lease: Lease;
  /** This client's clock just before the lease was asked for: not later than its begin. */
  readonly sinceNs: number;
  users = 0;
  retired = false;

  constructor(lease: Lease, sinceNs: number) {
    this.lease = lease;
    this.sinceNs = sinceNs;
  }
}

/** All leases of one table handle. They have one term, the table's: the grace period of freed blocks builds on it. */
export class LeaseKeeper {
  readonly client: PatronusClient;
  readonly pacing: Pacing;
  readonly termNs: number;
  readonly renewNs: number;
  readonly usableNs: number;
  readonly protection: KvProtection;
  /** How the leases are acquired, and how memory is accessed under them. */
  readonly acquireFlags: number;
  readonly rwFlags: number;
  /** Read lease on the superblock. */
  readonly superblock: LeaseCell;
  readonly epoch: Epoch;
  renewals = 0;
  closed = false;
  readonly #cells: LeaseCell[] = [];
  readonly #relinquishing = new Set<Promise<unknown>>();

  constructor(client: PatronusClient, pacing: Pacing, termNs: number, protection: KvProtection = 'region') {
    this.protection = protection;
    this.acquireFlags =
      protection === 'none' ? AcquireFlag.NoRpc : protection === 'mr' ? AcquireFlag.UseMR : 0;
    this.rwFlags = protection === 'none' ? RwFlag.UseUniversalRkey : 0;
    this.client = client;
    this.pacing = pacing;
    this.termNs = termNs;
    this.renewNs = termNs * RENEW_AFTER;
    this.usableNs = termNs * USABLE_FOR;
    this.superblock = this.cell(0, SUPERBLOCK_BYTES, false);
    this.epoch = new Epoch(this);
  }

  /** A range to be held under a lease while it is used; nothing is acquired yet. */
  cell(offset: number, size: number, writable: boolean): LeaseCell {
    const cell = new LeaseCell(this, offset, size, writable);
    this.#cells.push(cell);
    return cell;
  }

  relinquish(held: HeldLease): void {
    // An ended lease has given its window back by itself.
    if (this.client.now() - held.sinceNs >= this.termNs) return;
    // That it can end first, or the connection, is no failure here: either way it is gone.
    const done: Promise<unknown> = this.client
      .relinquish(held.lease)
      .catch(() => undefined)
      .finally(() => this.#relinquishing.delete(done));
    this.#relinquishing.add(done);
  }

  /** Call it when no attempt is under way. */
  async close(): Promise<void> {
    this.closed = true;
    for (const cell of this.#cells) await cell.close();
    await Promise.all(this.#relinquishing);
  }
}

/** One range and the lease on it that is current. */
export class LeaseCell {
  readonly #keeper: LeaseKeeper;
  readonly #offset: number;
  readonly #size: number;
  readonly #writable: boolean;
  #current: HeldLease | undefined;
  #wasHeld = false;
  #acquiring: Promise<RetCode> | undefined;

  constructor(keeper: LeaseKeeper, offset: number, size: number, writable: boolean) {
    this.#keeper = keeper;
    this.#offset = offset;
    this.#size = size;
    this.#writable = writable;
  }

  /** The lease for an attempt that begins now, or undefined: await acquire() and ask again. Give it back with release(). */
  take(nowNs: number): HeldLease | undefined {
    const held = this.#current;
    if (held === undefined) return undefined;
    const age = nowNs - held.sinceNs;
    if (age >= this.#keeper.renewNs) {
      if (age >= this.#keeper.usableNs) {
        this.drop(held);
        return undefined;
      }
      // A failure shows when the lease has run out, if it still fails then.
      if (this.#acquiring === undefined) this.acquire().catch(() => undefined);
    }
    held.users++;
    return held;
  }

  release(held: HeldLease): void {
    if (--held.users === 0 && held.retired) this.#keeper.relinquish(held);
  }

  /** Not to be used for further attempts: it has ended, or the NIC refused it. */
  drop(held: HeldLease): void {
    if (this.#current !== held) return;
    this.#current = undefined;
    this.#retire(held);
  }

  /** Resolves with Ok when there is a fresh lease; rejects with a KvError. */
  acquire(): Promise<RetCode> {
    this.#acquiring ??= this.#acquire().finally(() => {
      this.#acquiring = undefined;
    });
    return this.#acquiring;
  }

  async close(): Promise<void> {
    await this.#acquiring?.catch(() => undefined);
    if (this.#current !== undefined) this.drop(this.#current);
  }

  #retire(held: HeldLease): void {
    held.retired = true;
    if (held.users === 0) this.#keeper.relinquish(held);
  }

  async #acquire(): Promise<RetCode> {
    const { client, pacing, termNs } = this.#keeper;
    const request = { offset: this.#offset, size: this.#size, termNs, flags: this.#keeper.acquireFlags };
    for (let attempt = 1; ; attempt++) {
      const sinceNs = client.now();
      const { status, lease } = await (this.#writable
        ? client.getWlease(request)
        : client.getRlease(request));
      if (status === AcquireStatus.Success) {
        const held = new HeldLease(lease!, sinceNs);
        try {
          if (this.#writable) await this.#keeper.epoch.refresh();
          if (this.#keeper.closed) throw new KvError(KvErrorCode.CLOSED, 'The store is closed');
        } catch (error) {
          this.#keeper.relinquish(held);
          throw error;
        }
        const old = this.#current;
        this.#current = held;
        if (old !== undefined) this.#retire(old);
        if (this.#wasHeld) this.#keeper.renewals++;
        this.#wasHeld = true;
        return RetCode.Ok;
      }
      const short =
        status === AcquireStatus.NoMw ||
        status === AcquireStatus.BindErr ||
        status === AcquireStatus.RegMrErr;
      if (!short || attempt === ACQUIRE_ATTEMPTS) {
        throw refusal(`The memory node grants no lease on ${this.#size} bytes at ${this.#offset}`, status);
      }
      await pacing.sleep(ACQUIRE_PAUSE_MS * (0.5 + pacing.random()));
    }
  }
}
