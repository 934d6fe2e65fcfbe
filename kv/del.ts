import { RetCode } from '../patronus/index.js';
import type { KvVersion } from './api.js';
import { BEGIN, DONE, type Step } from './operation.js';
import { isNamedBy, Resolve, WriteOperation } from './write-operation.js';

const Phase = { Begin: BEGIN, Lookup: 1, LookupBlocks: 2, Delete: 3 } as const;

/**
 * Deletes a key: one CAS of its committed slot to 0. Absence is found as a get finds it. Pending slots are not looked
 * at: a put under way that has not committed can be taken to come later.
 */
export class Del extends WriteOperation {
  existed = false;
  #ifVersion: KvVersion | undefined;
  /** Not a delete: only makes room where the key has expired. */
  #onlyExpired = false;
  #expired = false;

  start(key: Uint8Array, ifVersion: KvVersion | undefined, onlyExpired = false): void {
    this.startWrite(key);
    this.existed = false;
    this.#ifVersion = ifVersion;
    this.#onlyExpired = onlyExpired;
  }

  begin(): Step {
    this.phase = Phase.Begin;
    this.locate();
    const acquiring = this.takeLeases(this.context.client.now(), true);
    if (acquiring !== undefined) return acquiring;
    this.phase = Phase.Lookup;
    return this.send(this.prepareBuckets());
  }

  step(status: number): Step {
    if (status !== RetCode.Ok) return this.#failed(status);
    switch (this.phase) {
      case Phase.Lookup:
        if (!this.bucketsServe) return this.refreshDirectory();
        this.findCandidates(false, -1);
        return this.#next();
      case Phase.LookupBlocks:
        return this.#check();
      case Phase.Delete:
        this.decided(status);
        return this.#deleted();
      case Resolve.Lease:
        return this.readToResolve();
      case Resolve.Read:
        // Not executed, or it threw: a zero in the slot can be anybody's.
        this.resolve(this.oldLo, this.oldHi, 0, 0);
        return this.#restart(RetCode.Retry);
      default:
        return this.begin();
    }
  }

  #next(): Step {
    if (this.readCount === this.candidateCount) return DONE;
    this.phase = Phase.LookupBlocks;
    return this.readCandidates();
  }

  #check(): Step {
    while (this.checkedCount < this.readCount) {
      const index = this.checkedCount++;
      const place = this.places[index]!;
      if (!this.holdsKey(this.words, place)) continue;
      const version = this.versionAt(place);
      this.#expired = version === undefined;
      // What has expired is taken away, whatever was asked for; it was not there.
      if (version !== undefined && (this.#onlyExpired || !isNamedBy(version, this.#ifVersion))) return DONE;
      if (this.isFrozen(this.candidates[index]!)) return this.waitForSplit();
      this.rememberOld(this.candidates[index]!, place);
      this.phase = Phase.Delete;
      return this.decide(this.oldLo, this.oldHi, 0, 0);
    }
    return this.#next();
  }

  #deleted(): Step {
    if (!this.atomicFound(this.oldLo, this.oldHi)) return this.#restart(RetCode.Retry);
    this.existed = !this.#expired;
    this.retireOld();
    return DONE;
  }

  #restart(status: number): Step {
    this.phase = Phase.Begin;
    return this.again(status);
  }

  #failed(status: number): Step {
    if (this.phase === Phase.Delete && this.decided(status)) return this.#deleted();
    return this.mustResolve ? this.readToResolve() : this.#restart(status);
  }
}
