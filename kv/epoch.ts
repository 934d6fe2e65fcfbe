import { RetCode } from '../patronus/index.js';
import { unavailable } from './errors.js';
import { SB_EPOCH_OFFSET } from './layout.js';
import type { LeaseKeeper } from './leases.js';

/**
 * What a collection of unreachable memory is at, modulo 3 of the epoch. Drop: clients forget the free memory that they have.
 * HandOver: what is reachable has been marked; they hand over what they have unlinked meanwhile. Done: there is none.
 */
export const CollectionPhase = { Done: 0, Drop: 1, HandOver: 2 } as const;

const ATTEMPTS = 20;
const PAUSE_MS = 2;

export function phaseOf(epoch: number): number {
  return epoch % 3;
}

/** The number of the collection that an epoch belongs to; Done belongs to the one that has ended. */
export function cycleOf(epoch: number): number {
  return Math.ceil(epoch / 3);
}

/**
 * The epoch of collections as this client knows it. It is read after every grant of a lease to write, before that is
 * used: so a lease that was granted after the epoch was raised is never used by a client that does not know of it, and
 * those granted before end within their term. See docs/kv.md, "Memory of clients that died".
 */
export class Epoch {
  value = 0;
  /** Told after each change, with the epoch that was known before. */
  onChange: (before: number) => void = () => {};
  /** Told after each reading. */
  onRefresh: () => void = () => {};
  readonly #keeper: LeaseKeeper;

  constructor(keeper: LeaseKeeper) {
    this.#keeper = keeper;
  }

  get phase(): number {
    return phaseOf(this.value);
  }

  get cycle(): number {
    return cycleOf(this.value);
  }

  /** Reads the epoch now. Rejects with UNAVAILABLE. */
  async refresh(): Promise<void> {
    const { client, pacing, superblock, rwFlags } = this.#keeper;
    const batch = client.createBatch();
    const buffer = client.getRdmaBuffer(8);
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const held = superblock.take(client.now());
        if (held === undefined) {
          await superblock.acquire();
          continue;
        }
        try {
          let status = batch.prepareRead(held.lease, buffer, 0, 8, SB_EPOCH_OFFSET, rwFlags);
          if (status === RetCode.Ok) status = await batch.commit();
          if (status === RetCode.Ok) {
            this.learn(buffer.words[0]!);
            this.onRefresh();
            return;
          }
          batch.reset();
          superblock.drop(held);
        } finally {
          superblock.release(held);
        }
        await pacing.sleep(PAUSE_MS * pacing.random());
      }
    } finally {
      client.putRdmaBuffer(buffer);
    }
    throw unavailable();
  }

  /** Epochs only grow; answers may come in another order than they were read. */
  learn(epoch: number): void {
    if (epoch <= this.value) return;
    const before = this.value;
    this.value = epoch;
    this.onChange(before);
  }
}
