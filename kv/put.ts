import { type RdmaBuffer, RetCode } from '../patronus/index.js';
import type { KvError, KvVersion, PutOptions, PutResult } from './api.js';
import { blockUnits, fillBlock, sealBlock } from './block.js';
import type { TableContext } from './context.js';
import { classUnits } from './free-lists.js';
import { PENDING, slotHi, UNIT_BYTES } from './layout.js';
import type { HeldLease } from './leases.js';
import { BEGIN, DONE, SCRATCH_BYTES, type Step } from './operation.js';
import { versionText } from './versions.js';
import { isNamedBy, Resolve, WriteOperation } from './write-operation.js';

const Phase = {
  Begin: BEGIN,
  Lookup: 2,
  LookupBlocks: 3,
  Update: 4,
  Reserve: 5,
  Recheck: 6,
  RecheckBlocks: 7,
  Commit: 8,
  Withdraw: 9,
} as const;

/** A pending slot of somebody else is left alone for this many attempts: its owner is most likely about to commit. */
const PATIENCE = 4;
/** With so few of its 28 slots left to a key, its subtable is split: mostly when that is 0.87 full. */
const SPARE_SLOTS = 2;
/** Buckets read again after the kill of a pending slot, in one attempt. */
const MAX_KILLS = 64;

/**
 * Writes the value of a key.
 *
 * If a committed slot has the key: one CAS of that slot from the old entry to the new one (update). Else an insert,
 * in two steps, because the key could be inserted in two slots by two clients at once: first the entry is put into an empty
 * slot marked PENDING, which readers ignore, then both combined buckets are read again, and only if no other slot
 * has the key is the mark taken off by a second CAS (commit).
 *
 * At most one committed slot has a key at any time: of two inserts of one key, the one whose first CAS came later
 * reads the buckets after the other's first CAS. It finds the other pending, and then kills it (its commit will fail) or
 * withdraws itself; or committed, and withdraws; or gone, and then that attempt of the other never commits any more,
 * or its entry has been deleted already. So never do both commit, unless a delete came in between. Which of two
 * pending inserts gives way is decided by the order of the slots, the same for all clients, so one of them goes on.
 *
 * A pending slot may be killed by anyone at any time: its owner notices at its commit and starts again. That frees
 * what a dead client has left behind.
 */
export class Put extends WriteOperation {
  protected entryLo = 0;
  protected entryHi = 0;
  /** No block is written until it turns out that one is needed. */
  protected lazy = false;
  #ifAbsent = false;
  #ifVersion: KvVersion | undefined;
  /** Units that the block fills; #units: that it is given. */
  #filledUnits = 0;
  /** The block's image: in a small buffer of this object, or in a large one for this operation. */
  readonly #small: RdmaBuffer;
  #image: RdmaBuffer;
  #large: RdmaBuffer | undefined;
  #units = 0;
  #offset = -1;
  /** Of collections: in a later one the block is no longer this operation's, unless it is linked. */
  #cycle = 0;
  #version = 0;
  #written = false;
  /** Somebody could have seen the block, or a write to it may be under way: it has to go through the limbo. */
  #exposed = false;
  /** Our PENDING entry is in the slot, as far as we know. */
  #reserved = false;
  #linked = false;
  #kills = 0;
  /** The first pending slot of the key. */
  #pendingFirst = -1;
  #deciding = 0;
  #lastError: KvError | undefined;
  #segmentHeld: HeldLease | undefined;
  #replacesExpired = false;
  #result!: PutResult;

  constructor(context: TableContext) {
    super(context);
    this.#small = context.client.getRdmaBuffer(SCRATCH_BYTES);
    this.#image = this.#small;
  }

  start(key: Uint8Array, value: Uint8Array, options: PutOptions | undefined): void {
    const ttlMs = options?.ttlMs;
    const expiry = ttlMs === undefined ? 0 : this.context.pacing.wallMs() + ttlMs;
    if (expiry > 0) this.context.expirySeen = true;
    this.#ifAbsent = options?.ifAbsent === true;
    this.#ifVersion = options?.ifVersion;
    this.startWith(key, value, options?.meta, expiry, 0);
  }

  protected startWith(
    key: Uint8Array,
    value: Uint8Array,
    meta: Uint8Array | undefined,
    expiry: number,
    flags: number,
  ): void {
    this.startWrite(key);
    const units = blockUnits(key.length, meta === undefined ? 0 : meta.length, value.length);
    this.#filledUnits = units;
    this.#units = classUnits(units);
    if (units * UNIT_BYTES > SCRATCH_BYTES) {
      this.#large = this.context.client.getRdmaBuffer(units * UNIT_BYTES);
      this.#image = this.#large;
    }
    const { words, bytes } = this.#image;
    const { lo, hi } = this.hash;
    fillBlock(words, bytes, this.keyWords, key.length, lo, hi, value, meta, expiry, flags);
  }

  result(): PutResult {
    return this.#result;
  }

  begin(): Step {
    this.phase = Phase.Begin;
    const { context } = this;
    const now = context.client.now();
    if (this.#version === 0 && !this.lazy) {
      this.#version = context.versions.take();
      if (this.#version === 0) return context.versions.refill();
      sealBlock(this.#image.words, this.#version);
    }
    const { allocator } = context;
    if (this.#offset >= 0 && this.#cycle !== allocator.cycle && !this.#reserved) this.#forgetBlock();
    if (this.#offset < 0 && !this.lazy) {
      const offset = allocator.take(this.#units, now);
      if (offset < 0) return this.#waitForMemory();
      this.#place(offset, allocator.cycle);
    }
    // Where our entry may still be pending the location must not change.
    if (!this.#reserved) this.locate();
    const acquiring = this.takeLeases(now, true);
    if (acquiring !== undefined) return acquiring;
    if (this.#reserved) return this.#withdraw();
    return this.#lookup(now);
  }

  step(status: number): Step {
    if (status !== RetCode.Ok) return this.#failed(status);
    switch (this.phase) {
      case Phase.Lookup:
        return this.#looked();
      case Phase.LookupBlocks:
        return this.#lookedAtBlocks();
      case Phase.Update:
        this.decided(status);
        return this.#updated();
      case Phase.Reserve:
        return this.#reservationAnswered();
      case Phase.Recheck:
        return this.#rechecked();
      case Phase.RecheckBlocks:
        return this.#recheckedBlocks();
      case Phase.Commit:
        this.decided(status);
        return this.#committed();
      case Phase.Withdraw:
        this.#reserved = false;
        return this.restart(RetCode.Retry);
      case Resolve.Lease:
        return this.readToResolve();
      case Resolve.Read:
        return this.#resolved();
      default:
        return this.otherStep(status);
    }
  }

  /** Of the phases that a subclass adds. */
  protected otherStep(_status: number): Step {
    return this.begin();
  }

  override finish(): void {
    if (this.#offset >= 0 && !this.#linked) this.#dropBlock();
    super.finish();
    if (this.#large !== undefined) this.context.client.putRdmaBuffer(this.#large);
    this.#large = undefined;
    this.#image = this.#small;
    this.#offset = -1;
    this.#version = 0;
    this.#written = false;
    this.#exposed = false;
    this.#reserved = false;
    this.#linked = false;
    this.#kills = 0;
    this.#lastError = undefined;
  }

  override dispose(): void {
    super.dispose();
    this.context.client.putRdmaBuffer(this.#small);
  }

  protected override releaseLeases(): void {
    super.releaseLeases();
    if (this.#segmentHeld === undefined) return;
    this.context.allocator.segment(this.#offset).release(this.#segmentHeld);
    this.#segmentHeld = undefined;
  }

  protected override dropLeases(): void {
    super.dropLeases();
    if (this.#segmentHeld !== undefined) this.context.allocator.segment(this.#offset).drop(this.#segmentHeld);
  }

  /** One more attempt if our pending entry has to be taken away first. */
  protected override giveUp(error: KvError): void {
    if (!this.#reserved || this.#lastError !== undefined) throw this.#lastError ?? error;
    this.#lastError = error;
  }

  /** Whether an entry that is there is used instead of being replaced. */
  protected keepsEntry(): boolean {
    return false;
  }

  /** Uses the entry whose block begins at word `place`. Only if keepsEntry(). */
  protected useEntry(_place: number): Step {
    return DONE;
  }

  /** Puts the entry into the empty slot, marked; and reads the buckets again behind that. */
  protected reserve(): Step {
    this.phase = Phase.Reserve;
    const { entryLo, entryHi } = this;
    this.#exposed = true;
    let status = this.prepareSlotCas(this.slot, 0, 0, (entryLo | PENDING) >>> 0, entryHi);
    if (status === RetCode.Ok) status = this.prepareBuckets();
    return this.send(status);
  }

  /** The insert's linearization point. */
  protected commit(): Step {
    this.phase = Phase.Commit;
    const { entryLo, entryHi } = this;
    return this.decide((entryLo | PENDING) >>> 0, entryHi, entryLo, entryHi);
  }

  #waitForMemory(): Promise<number> {
    return this.context.allocator.wait(this.#units).then(({ offset, cycle }) => {
      this.#place(offset, cycle);
      return RetCode.Ok;
    });
  }

  /** A collection has begun since it was taken, and finds it. */
  #forgetBlock(): void {
    if (this.#exposed) this.context.allocator.lose(this.#units);
    this.#offset = -1;
    this.#written = false;
    this.#exposed = false;
  }

  #place(offset: number, cycle: number): void {
    this.#offset = offset;
    this.#cycle = cycle;
    this.entryLo = offset >>> 0;
    this.entryHi = slotHi(offset, this.#filledUnits, this.hash.fingerprint);
  }

  /** Writes the block, unless that is done, and reads the buckets. */
  #lookup(now: number): Step {
    let status: RetCode = RetCode.Ok;
    if (!this.#written && !this.lazy) {
      const segment = this.context.allocator.segment(this.#offset);
      const held = segment.take(now);
      if (held === undefined) return this.acquireLease(segment);
      this.#segmentHeld = held;
      const { lease } = held;
      const size = this.#filledUnits * UNIT_BYTES;
      const at = this.#offset - lease.offset;
      status = this.batch.prepareWrite(lease, this.#image, 0, size, at, this.context.keeper.rwFlags);
    }
    this.phase = Phase.Lookup;
    if (status === RetCode.Ok) status = this.prepareBuckets();
    return this.send(status);
  }

  #looked(): Step {
    if (!this.lazy) this.#written = true;
    if (!this.bucketsServe) return this.refreshDirectory();
    this.findCandidates(true, -1);
    this.#startMatching();
    if (this.candidateCount === 0) return this.#choose();
    this.phase = Phase.LookupBlocks;
    return this.readCandidates();
  }

  #lookedAtBlocks(): Step {
    this.#match();
    if (this.committedMatch >= 0) return this.#update();
    if (this.readCount < this.candidateCount) return this.readCandidates();
    return this.#choose();
  }

  #update(): Step {
    this.rememberOld(this.committedMatch, this.committedPlace);
    const version = this.versionAt(this.committedPlace);
    this.#replacesExpired = version === undefined;
    if (version !== undefined && (this.#ifAbsent || !isNamedBy(version, this.#ifVersion))) {
      return this.#refuse(version);
    }
    if (version === undefined && this.#ifVersion !== undefined) return this.#refuse(undefined);
    if (version !== undefined && this.keepsEntry()) return this.useEntry(this.committedPlace);
    if (this.isFrozen(this.slot)) return this.waitForSplit();
    if (this.lazy) return this.#withBlock();
    this.phase = Phase.Update;
    this.#deciding = Phase.Update;
    this.#exposed = true;
    return this.decide(this.oldLo, this.oldHi, this.entryLo, this.entryHi);
  }

  /** A block is needed after all: begins anew with one. */
  #withBlock(): Step {
    this.lazy = false;
    this.phase = Phase.Begin;
    this.releaseLeases();
    return RetCode.Ok;
  }

  #refuse(version: KvVersion | undefined): Step {
    this.#result = { outcome: 'refused', version };
    return DONE;
  }

  #updated(): Step {
    if (!this.atomicFound(this.oldLo, this.oldHi)) return this.restart(RetCode.Retry);
    return this.#finishUpdate();
  }

  #finishUpdate(): Step {
    this.#link();
    this.retireOld();
    this.#result = {
      outcome: this.#replacesExpired ? 'created' : 'replaced',
      version: versionText(this.#version),
    };
    return DONE;
  }

  /** The key has no committed slot: choose an empty one in the combined bucket that has more of them. */
  #choose(): Step {
    if (this.#ifVersion !== undefined) return this.#refuse(undefined);
    if (!this.bucketsTake) return this.waitForSplit();
    if (this.lazy) return this.#withBlock();
    if (this.#pendingFirst >= 0) return this.#giveWayOrKill(this.#pendingFirst);
    const a = this.emptySlotIn(0);
    const freeInA = this.freeSlots;
    const b = this.emptySlotIn(1);
    if (a >= 0 || b >= 0) {
      this.slot = freeInA >= this.freeSlots ? a : b;
      if (freeInA + this.freeSlots <= SPARE_SLOTS) this.context.splitter.growAhead(this.subtable);
      return this.reserve();
    }
    if (this.pendingSlot >= 0) return this.#giveWayOrKill(this.pendingSlot);
    return this.growTable();
  }

  /** Somebody's pending slot is in the way: time for its owner first, then out with it. */
  #giveWayOrKill(slot: number): Step {
    if (this.attempt < PATIENCE) return this.restart(RetCode.Retry);
    return this.#kill(slot, Phase.Lookup);
  }

  /** Takes a pending slot away and reads the buckets again: whether that worked, or it was committed, shows there. */
  #kill(slot: number, next: number): Step {
    if (++this.#kills > MAX_KILLS) return this.restart(RetCode.Retry);
    this.phase = next;
    const { words } = this;
    let status = this.prepareSlotCas(slot, words[slot]!, words[slot + 1]!, 0, 0);
    if (status === RetCode.Ok) status = this.prepareBuckets();
    return this.send(status);
  }

  #reservationAnswered(): Step {
    if (!this.atomicFound(0, 0)) return this.restart(RetCode.Retry);
    this.#reserved = true;
    return this.#rechecked();
  }

  #rechecked(): Step {
    const { words, slot, entryLo, entryHi } = this;
    if (words[slot] !== (entryLo | PENDING) >>> 0 || words[slot + 1] !== entryHi) {
      this.#reserved = false;
      return this.restart(RetCode.Retry);
    }
    // A split has begun since the lookup: this entry would not move with the others.
    if (!this.bucketsServe || !this.bucketsTake) return this.#withdraw();
    this.findCandidates(true, slot);
    this.#startMatching();
    if (this.candidateCount === 0) return this.#commitOwn();
    this.phase = Phase.RecheckBlocks;
    return this.readCandidates();
  }

  #recheckedBlocks(): Step {
    this.#match();
    if (this.committedMatch >= 0) return this.#withdraw();
    if (this.readCount < this.candidateCount) return this.readCandidates();
    if (this.#pendingFirst < 0) return this.#commitOwn();
    // The candidates come in the order of the slots: the first pending one decides.
    if (this.#pendingFirst < this.slot) return this.#withdraw();
    return this.#kill(this.#pendingFirst, Phase.Recheck);
  }

  #commitOwn(): Step {
    this.#deciding = Phase.Commit;
    return this.commit();
  }

  #committed(): Step {
    this.#reserved = false;
    if (!this.atomicFound((this.entryLo | PENDING) >>> 0, this.entryHi)) return this.restart(RetCode.Retry);
    return this.#finishCreate();
  }

  #finishCreate(): Step {
    this.#link();
    this.#result = { outcome: 'created', version: versionText(this.#version) };
    return DONE;
  }

  #link(): void {
    this.#linked = true;
    this.context.locations.remember(this.hash, this.slot, this.entryLo, this.entryHi);
  }

  /** Takes our own pending entry away. That it was killed before is as good. */
  #withdraw(): Step {
    this.phase = Phase.Withdraw;
    const { entryLo, entryHi } = this;
    return this.send(this.prepareSlotCas(this.slot, (entryLo | PENDING) >>> 0, entryHi, 0, 0));
  }

  /** Begins the next attempt. Of a pending entry that may still be there, begin() takes care first. */
  protected restart(status: number): Step {
    this.phase = Phase.Begin;
    return this.again(status);
  }

  #failed(status: number): Step {
    switch (this.phase) {
      case Phase.Lookup:
        // Whatever of the block's write is still to come must not hit its next use.
        if (!this.#written && !this.lazy) this.#exposed = true;
        break;
      case Phase.Update:
        if (this.decided(status)) return this.#updated();
        return this.#resolveOrRestart(status);
      case Phase.Commit:
        if (this.decided(status)) return this.#committed();
        return this.#resolveOrRestart(status);
      case Phase.Reserve:
        // Perhaps executed: begin() withdraws it; a withdrawal of what was never there does nothing.
        this.#reserved = !this.atomicAnswered || this.atomicFound(0, 0);
        break;
      case Resolve.Lease:
      case Resolve.Read:
        return this.#resolveOrRestart(status);
    }
    return this.restart(status);
  }

  #resolveOrRestart(status: number): Step {
    return this.mustResolve ? this.readToResolve() : this.restart(status);
  }

  #resolved(): Step {
    const { entryLo, entryHi } = this;
    if (this.#deciding === Phase.Update) {
      return this.resolve(this.oldLo, this.oldHi, entryLo, entryHi)
        ? this.#finishUpdate()
        : this.restart(RetCode.Retry);
    }
    return this.resolve((entryLo | PENDING) >>> 0, entryHi, entryLo, entryHi)
      ? this.#finishCreate()
      : this.restart(RetCode.Retry);
  }

  #startMatching(): void {
    this.committedMatch = -1;
    this.#pendingFirst = -1;
  }

  /** Looks through the blocks just read for the key. */
  #match(): void {
    while (this.checkedCount < this.readCount) {
      const index = this.checkedCount++;
      const slot = this.candidates[index]!;
      const place = this.places[index]!;
      if (!this.holdsKey(this.words, place)) continue;
      if (!this.isPending(slot)) {
        this.committedMatch = slot;
        this.committedPlace = place;
      } else if (this.#pendingFirst < 0) this.#pendingFirst = slot;
    }
  }

  #dropBlock(): void {
    const { allocator } = this.context;
    // A slot may point to it that we can't reach: better lost than used twice.
    if (this.#reserved || this.outcomeUnknown) allocator.lose(this.#units);
    else if (this.#exposed) allocator.discard(this.#offset, this.#units, this.#cycle);
    else allocator.free(this.#offset, this.#units, this.#cycle);
  }
}
