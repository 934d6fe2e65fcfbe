import { randomInt } from 'node:crypto';
import { AcquireFlag, AcquireStatus, type Lease, type PatronusClient } from '../patronus/index.js';
import { MAX_MEMBERS, MEMBER_BYTES, SB_MEMBERS_OFFSET } from './layout.js';
import type { LeaseKeeper } from './leases.js';
import { Words } from './words.js';

/**
 * Who has the table open. Each client has a place: a word that it sets while it may have memory, and a lock beside it
 * that ends with its connection and never before. So a word that is set without a lock is that of a client that died.
 *
 * This only tells when a collection is worth its work. Nothing goes wrong if a client that lives is taken for dead, or
 * finds no place.
 */
export class Members {
  readonly #client: PatronusClient;
  readonly #words: Words;
  readonly #mark = randomInt(1, 2 ** 32);
  #place = -1;
  #lock: Lease | undefined;
  /** Other places that were set when last looked at. */
  others = 0;

  constructor(keeper: LeaseKeeper) {
    this.#client = keeper.client;
    this.#words = new Words(keeper, SB_MEMBERS_OFFSET, MAX_MEMBERS * MEMBER_BYTES);
  }

  /** Takes a place, unless it has one still, and gives those of others that have died away, after `onDead` was called for each. */
  async look(onDead: () => Promise<void>): Promise<void> {
    const words = await this.#words.read(0, MAX_MEMBERS * MEMBER_BYTES);
    if (this.#place >= 0 && words[2 * this.#place] !== this.#mark) await this.#leavePlace();
    this.others = 0;
    for (let place = 0; place < MAX_MEMBERS; place++) {
      const mark = words[2 * place]!;
      if (place === this.#place || (mark === 0 && this.#place >= 0)) continue;
      const lock = await this.#tryLock(place);
      if (lock === undefined) {
        this.others++;
        continue;
      }
      let kept = false;
      try {
        if (mark !== 0) await onDead();
        const isMine = this.#place < 0;
        const to = isMine ? this.#mark : 0;
        const found = await this.#words.cas(place * MEMBER_BYTES, [mark, 0], [to, 0]);
        kept = isMine && (found[0] === mark || found[0] === to);
      } finally {
        if (!kept) await this.#unlock(lock);
      }
      if (!kept) continue;
      this.#place = place;
      this.#lock = lock;
    }
  }

  /** `settled`: everything that this client had is known to others, or counted as lost. Else it is as if it had died. */
  async leave(settled: boolean): Promise<void> {
    if (this.#place < 0) return;
    if (settled)
      await this.#words.cas(this.#place * MEMBER_BYTES, [this.#mark, 0], [0, 0]).catch(() => undefined);
    await this.#leavePlace();
  }

  async #leavePlace(): Promise<void> {
    this.#place = -1;
    if (this.#lock !== undefined) await this.#unlock(this.#lock);
    this.#lock = undefined;
  }

  async #tryLock(place: number): Promise<Lease | undefined> {
    const { status, lease } = await this.#client.getWlease({
      offset: SB_MEMBERS_OFFSET + place * MEMBER_BYTES,
      size: MEMBER_BYTES,
      termNs: 1,
      flags: AcquireFlag.WithConflictDetect | AcquireFlag.NoGc,
    });
    return status === AcquireStatus.Success ? lease : undefined;
  }

  async #unlock(lock: Lease): Promise<void> {
    await this.#client.relinquish(lock).catch(() => undefined);
  }
}
