import { RetCode } from '../patronus/index.js';
import { KvError, KvErrorCode, type KvVersion } from './api.js';
import { blockIsCounter, blockVersion, unitsOfBlock } from './block.js';
import { cycleOf } from './epoch.js';
import { classUnits } from './free-lists.js';
import { FROZEN, LARGE_UNITS, slotPointer, slotUnits } from './layout.js';
import { Operation, type Step } from './operation.js';
import { versionText } from './versions.js';

/** How the CAS that makes a write visible stands. */
const Outcome = { None: 0, Sent: 1, Unknown: 2 } as const;

/** Phases of every write: acquiring a lease for, and waiting for, the read that decides about an unknown outcome. */
export const Resolve = { Lease: 20, Read: 21 } as const;

/** A read of the slot that decides about an unknown outcome is tried as often as this. */
const RESOLVE_ATTEMPTS = 16;

/** Whether a condition on the version holds. A counter's version, with a dot, matches none. */
export function isNamedBy(version: KvVersion, ifVersion: KvVersion | undefined): boolean {
  return ifVersion === undefined || (version === ifVersion && !version.includes('.'));
}

/**
 * What put and del have in common: the slot of the key's committed entry, and the one CAS that makes the write visible
 * (its linearization point).
 *
 * When that CAS fails with the connection, nobody tells whether it was executed. Its result in the scratch buffer does,
 * if it arrived; a refusal by the NIC (protection error) without a result means no. Else the slot is read again
 * under a new lease. The write's own entry there: executed. The word that the CAS expected: not executed, because
 * what it replaces is not reused while this operation has not given it to the limbo. Anything else can have come
 * before or after it: the caller is told OUTCOME_UNKNOWN, for a second attempt could bring back an overwritten value.
 */
export abstract class WriteOperation extends Operation {
  /** The committed slot of the key, its word, and the units of its block. */
  protected slot = -1;
  protected oldLo = 0;
  protected oldHi = 0;
  protected oldUnits = 0;
  protected committedMatch = -1;
  protected committedPlace = 0;
  /** The epoch of collections when the attempt began whose CAS decides. */
  #decisionEpoch = 0;
  #outcome: number = Outcome.None;
  #resolveAttempts = 0;

  protected startWrite(key: Uint8Array): void {
    this.setKey(key);
    this.#outcome = Outcome.None;
    this.#resolveAttempts = 0;
  }

  protected get outcomeUnknown(): boolean {
    return this.#outcome !== Outcome.None;
  }

  override failure(error: unknown): unknown {
    if (this.#outcome === Outcome.None) return super.failure(error);
    return new KvError(
      KvErrorCode.OUTCOME_UNKNOWN,
      'The connection was lost after the write was sent; it may or may not have happened',
      { cause: error },
    );
  }

  /** Remembers the committed entry of the key, found in `slot` with its block at `place`. */
  protected rememberOld(slot: number, place: number): void {
    const { words } = this;
    this.slot = slot;
    this.oldLo = words[slot]!;
    this.oldHi = words[slot + 1]!;
    const units = slotUnits(this.oldHi);
    this.oldUnits = units < LARGE_UNITS ? units : classUnits(unitsOfBlock(words, place));
  }

  /** The version of the value at word `place`: undefined if its key has expired. */
  protected versionAt(place: number): KvVersion | undefined {
    const { words } = this;
    if (this.isExpired(words, place)) return undefined;
    // The value is not at hand, so a counter gets the version of none of its values.
    return blockIsCounter(words, place)
      ? `${versionText(blockVersion(words, place))}.`
      : versionText(blockVersion(words, place));
  }

  protected retireOld(): void {
    const { allocator } = this.context;
    allocator.retire(slotPointer(this.oldLo, this.oldHi), this.oldUnits, this.#decisionEpoch);
  }

  /** Sends the CAS that decides. */
  protected decide(expectedLo: number, expectedHi: number, desiredLo: number, desiredHi: number): Step {
    const status = this.prepareSlotCas(this.slot, expectedLo, expectedHi, desiredLo, desiredHi);
    if (status === RetCode.Ok) this.#outcome = Outcome.Sent;
    this.#decisionEpoch = this.attemptEpoch;
    return this.send(status);
  }

  /** Takes the status of decide(). True: the result is there. False: it was not executed, or that is to be resolved. */
  protected decided(status: number): boolean {
    if (status === RetCode.Ok || this.atomicAnswered) {
      this.#outcome = Outcome.None;
      return true;
    }
    const unknown = status === RetCode.RdmaExecutionErr || status === RetCode.OutcomeUnknown;
    this.#outcome = unknown ? Outcome.Unknown : Outcome.None;
    return false;
  }

  protected get mustResolve(): boolean {
    return this.#outcome === Outcome.Unknown;
  }

  /** Reads the buckets again, under new leases, to learn what became of the CAS. Only if mustResolve. */
  protected readToResolve(): Step {
    if (++this.#resolveAttempts > RESOLVE_ATTEMPTS) throw new Error('the slot could not be read again');
    this.dropLeases();
    this.releaseLeases();
    this.phase = Resolve.Lease;
    const acquiring = this.takeLeases(this.context.client.now(), false);
    if (acquiring !== undefined) return acquiring;
    this.phase = Resolve.Read;
    return this.send(this.prepareBuckets());
  }

  /** Takes the image that readToResolve() brought: whether the CAS to this word was executed; throws if unknowable. */
  protected resolve(expectedLo: number, expectedHi: number, desiredLo: number, desiredHi: number): boolean {
    const { words, slot } = this;
    // A collection has given the blocks to others if nothing led to them: what is there can be anybody's.
    if (cycleOf(this.#decisionEpoch) !== this.context.keeper.epoch.cycle) {
      throw new Error('a collection has begun since');
    }
    // A split changes the mark of an entry, and nothing else, before it empties the slot.
    const lo = (words[slot]! & ~FROZEN) >>> 0;
    const hi = words[slot + 1]!;
    const mine = lo === desiredLo && hi === desiredHi && hi !== 0;
    if (!mine && (lo !== expectedLo || hi !== expectedHi)) throw new Error('the slot has changed since');
    this.#outcome = Outcome.None;
    return mine;
  }
}
