import { RetCode } from '../patronus/index.js';
import { KvError, KvErrorCode } from './api.js';
import { blockIsCounter, blockValueStart, COUNTER } from './block.js';
import { COUNTER_BYTES } from './counter.js';
import { slotPointer } from './layout.js';
import type { HeldLease, LeaseCell } from './leases.js';
import { BEGIN, DONE, type Step } from './operation.js';
import { Put } from './put.js';

/** Beside those of a put. */
const ADD = 30;

/**
 * Adds to a counter by FETCH_AND_ADD on the word in its block. An absent or expired key gets a new counter, as a put does.
 *
 * The addition takes effect when it is executed if the counter's entry is still in its slot then. If it was replaced or
 * deleted after it had been found, the addition takes effect just before that: nobody can tell, since only those
 * see it who have found the old entry too. Nor can it hit what the block is used for later: it is executed under a lease
 * that began before the entry was found, as everything in an attempt.
 */
export class Incr extends Put {
  #delta = 0n;
  #result = 0n;
  readonly #deltaBytes = new Uint8Array(COUNTER_BYTES);
  readonly #deltaWords = new Uint32Array(this.#deltaBytes.buffer);
  #attemptNs = 0;
  #added: { readonly cell: LeaseCell; readonly held: HeldLease } | undefined;
  #unknown = false;

  startIncr(key: Uint8Array, delta: bigint): void {
    this.#delta = BigInt.asIntN(64, delta);
    const bits = BigInt.asUintN(64, delta);
    this.#deltaWords[0] = Number(bits & 0xffff_ffffn);
    this.#deltaWords[1] = Number(bits >> 32n);
    this.#result = this.#delta;
    this.lazy = true;
    this.#unknown = false;
    this.startWith(key, this.#deltaBytes, undefined, 0, COUNTER);
  }

  sum(): bigint {
    return this.#result;
  }

  override begin(): Step {
    this.#attemptNs = this.context.client.now();
    return super.begin();
  }

  override failure(error: unknown): unknown {
    if (!this.#unknown) return super.failure(error);
    return new KvError(
      KvErrorCode.OUTCOME_UNKNOWN,
      'The connection was lost after the addition was sent; it may or may not have happened',
      { cause: error },
    );
  }

  protected override keepsEntry(): boolean {
    return true;
  }

  protected override useEntry(place: number): Step {
    const { context, words } = this;
    if (!blockIsCounter(words, place)) {
      throw new KvError(KvErrorCode.NOT_A_COUNTER, 'The value of this key was put, it is no counter');
    }
    const block = slotPointer(this.oldLo, this.oldHi);
    const cell = context.allocator.segment(block);
    const held = cell.take(context.client.now());
    if (held === undefined) {
      this.phase = BEGIN;
      return this.acquireLease(cell);
    }
    this.#added = { cell, held };
    if (held.sinceNs > this.#attemptNs) return this.restart(RetCode.Retry);
    this.phase = ADD;
    const { lease } = held;
    const at = block + blockValueStart(words, place) - lease.offset;
    const status = this.prepareFaa(lease, at, this.#deltaWords[0]!, this.#deltaWords[1]!);
    return this.send(status);
  }

  protected override otherStep(status: number): Step {
    if (this.phase !== ADD) return super.otherStep(status);
    this.#result = BigInt.asIntN(64, this.atomicOld() + this.#delta);
    return DONE;
  }

  override step(status: number): Step {
    if (this.phase !== ADD || status === RetCode.Ok) return super.step(status);
    if (this.atomicAnswered) return this.otherStep(status);
    if (status === RetCode.RdmaExecutionErr || status === RetCode.OutcomeUnknown) {
      this.#unknown = true;
      throw new Error('no answer');
    }
    this.#added?.cell.drop(this.#added.held);
    return this.restart(status);
  }

  protected override releaseLeases(): void {
    super.releaseLeases();
    if (this.#added !== undefined) this.#added.cell.release(this.#added.held);
    this.#added = undefined;
  }
}
