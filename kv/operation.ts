import { type Batch, type Lease, type MaybePromise, type RdmaBuffer, RetCode } from '../patronus/index.js';
import { KvError, KvErrorCode } from './api.js';
import { blockExpires, blockExpiry, blockHoldsKey, prefixBytes } from './block.js';
import { type BlockRead, readUnderOwnLeases } from './block-reads.js';
import { PAIR_SLOTS, pairFills, pairServes, pairTakes, slotsWith } from './bucket-pair.js';
import type { TableContext } from './context.js';
import type { Subtable } from './directory.js';
import { toKvError } from './errors.js';
import { combinedBucket, hashKey, KeyHash, secondBucket } from './hash.js';
import {
  BUCKET_BYTES,
  BUCKET_HEADER,
  COMBINED_BYTES,
  FROZEN,
  GROUP_BYTES,
  MAX_KEY_BYTES,
  PENDING,
  slotPointer,
  slotUnits,
  UNIT_BYTES,
} from './layout.js';
import type { HeldLease, LeaseCell } from './leases.js';

/**
 * What a step of an operation leaves behind: the status of the batch that it sent, at once or as a promise, or DONE.
 */
export type Step = number | Promise<number>;
export const DONE = -1;
/** Only with a shared batch or among others: the operation waits for the status of its batch. */
export const PREPARED = -2;
/** The phase in which an Ok begins an attempt. */
export const BEGIN = 0;

/** Attempts before an operation gives up with CONTENTION or UNAVAILABLE. */
const MAX_ATTEMPTS = 40;
/** Attempts that follow each other at once; later ones pause. */
const EAGER_ATTEMPTS = 2;
const MAX_PAUSE_MS = 32;

/** How long an operation waits for splits: terms, and at least. */
const SPLIT_PATIENCE_TERMS = 20;
const MIN_SPLIT_PATIENCE_NS = 20e9;

const MAX_BATCH = 16;
export const SCRATCH_BYTES = 8192;
/** In the scratch buffer: both combined buckets, the old value of an atomic, blocks of candidates. */
const BUCKETS_AT = 0;
const ATOMIC_AT = 2 * COMBINED_BYTES;
const CANDIDATES_AT = ATOMIC_AT + UNIT_BYTES;
export const CANDIDATE_BYTES = SCRATCH_BYTES - CANDIDATES_AT;
const BUCKET_WORDS = BUCKET_BYTES / 4;
const COMBINED_WORDS = COMBINED_BYTES / 4;
// A module's own constants are part of its compiled code; imported and exported ones are loaded and checked at each use.
const { Ok } = RetCode;
const SENT_LATER = PREPARED;
const SIDE_BYTES = BUCKET_BYTES;
const PAIR_HALF = COMBINED_BYTES;
const GROUP = GROUP_BYTES;
const UNIT = UNIT_BYTES;
const SCRATCH = SCRATCH_BYTES;
/** Never the value of a slot: what the result of an atomic is set to before, to see whether it was executed. */
const NOT_EXECUTED = 0xffff_ffff;

/**
 * One operation on one key: a state machine. begin() starts an attempt, step() takes the status of the batch sent last
 * and goes on; where the work is done at once (loopback) the whole operation runs without a promise. Objects are
 * pooled with their buffers and used for one operation after another.
 *
 * An attempt takes its leases when it begins and uses no others. So everything that it has read from the index was
 * read after its leases began, and they end within one term of that: what makes the grace period of the
 * allocator sufficient, for reading a block as well as for the CAS that expects the word of an old one.
 *
 * Slots are named by the index of their first word in the image of the two combined buckets. All clients see the
 * same key's slots in the same order.
 */
export abstract class Operation {
  protected readonly context: TableContext;
  /** Its own, or one that it shares for some steps. */
  protected batch: Batch;
  protected readonly scratch: RdmaBuffer;
  /** Of the scratch buffer. It begins with the image of the buckets. */
  protected readonly words: Uint32Array;
  protected readonly keyWords = new Uint32Array(MAX_KEY_BYTES / 4);
  protected readonly hash = new KeyHash();
  protected keyLength = 0;
  protected phase = 0;
  protected attempt = 0;
  /** Slots with the key's fingerprint, where their blocks lie in the scratch buffer (words), how far they are. */
  protected readonly candidates = new Int32Array(PAIR_SLOTS);
  protected readonly places = new Int32Array(PAIR_SLOTS);
  protected candidateCount = 0;
  protected checkedCount = 0;
  protected readCount = 0;

  protected subtable!: Subtable;
  protected regionHeld: HeldLease | undefined;
  protected subtableHeld: HeldLease | undefined;
  /** What emptySlotIn() has seen: empty slots in that combined bucket, and some pending slot in either. */
  protected freeSlots = 0;
  protected pendingSlot = -1;
  readonly #ownBatch: Batch;
  #among = false;
  readonly #rwFlags: number;
  /** Blocks are read under leases of their own, buckets under that of the subtable. */
  readonly #byBlock: boolean;
  /** The epoch of collections that was known when the attempt began. */
  protected attemptEpoch = 0;
  #attemptNs = 0;
  /** The clock since the operation last waited for anything; undefined if it has not been read since. */
  #nowNs: number | undefined;
  /** The date before anything was read. Looked at by reads only if keys with an expiry have been seen. */
  #attemptMs = 0;
  #dateKnown = false;
  #splitPatienceNs = 0;
  /** Numbers of the combined buckets: of the odd ones the overflow bucket comes first. */
  #combinedA = 0;
  #combinedB = 0;
  #bucketA = 0;
  #bucketB = 0;

  constructor(context: TableContext) {
    this.context = context;
    this.#ownBatch = context.client.createBatch();
    this.batch = this.#ownBatch;
    this.#rwFlags = context.keeper.rwFlags;
    this.#byBlock = context.keeper.protection === 'block';
    this.scratch = context.client.getRdmaBuffer(SCRATCH_BYTES);
    this.words = this.scratch.words;
  }

  abstract begin(): Step;
  abstract step(status: number): Step;

  /** As step(), after a wait. */
  stepAfterWait(status: number): Step {
    this.#nowNs = undefined;
    return this.step(status);
  }

  /** After the operation, whatever its end: back to what a pooled object is. */
  finish(): void {
    this.releaseLeases();
    const batch = this.#ownBatch;
    if (batch.count > 0) batch.reset();
    this.batch = batch;
  }

  /** The pool is emptied. */
  dispose(): void {
    this.context.client.putRdmaBuffer(this.scratch);
  }

  /** What an error that ends the operation means to the caller. */
  failure(error: unknown): unknown {
    return toKvError(error);
  }

  protected setKey(key: Uint8Array): void {
    const { keyWords } = this;
    const length = key.length;
    const whole = length >>> 2;
    let at = 0;
    for (let i = 0; i < whole; i++, at += 4) {
      keyWords[i] = key[at]! | (key[at + 1]! << 8) | (key[at + 2]! << 16) | (key[at + 3]! << 24);
    }
    if (at < length) {
      let last = key[at]!;
      if (at + 1 < length) last |= key[at + 1]! << 8;
      if (at + 2 < length) last |= key[at + 2]! << 16;
      keyWords[whole] = last;
    }
    this.keyLength = length;
    this.attempt = 0;
    this.#splitPatienceNs = 0;
    const { superblock } = this.context;
    hashKey(keyWords, length, superblock.seedLo, superblock.seedHi, this.hash);
  }

  /** Finds the key's buckets with the cached directory. */
  protected locate(): void {
    const { directory, superblock } = this.context;
    const { groups } = superblock;
    const subtable = directory.subtableOf(this.hash.suffix);
    const a = combinedBucket(this.hash.partA, groups);
    const b = secondBucket(this.hash.partB, a, groups);
    this.subtable = subtable;
    this.#combinedA = a;
    this.#combinedB = b;
    this.#bucketA = subtable.offset + (a >>> 1) * GROUP + (a & 1) * SIDE_BYTES;
    this.#bucketB = subtable.offset + (b >>> 1) * GROUP + (b & 1) * SIDE_BYTES;
  }

  /** Takes the leases of an attempt; a promise if one has to be acquired: then begin again. */
  protected takeLeases(now: number, write: boolean): Promise<number> | undefined {
    this.#attemptNs = now;
    this.#nowNs = now;
    if (write) this.attemptEpoch = this.context.keeper.epoch.value;
    this.#dateKnown = write || this.context.expirySeen;
    if (this.#dateKnown) this.#attemptMs = this.context.pacing.wallMs();
    if (this.#byBlock) return this.#takeSubtableLease(now);
    const held = this.context.region.take(now);
    if (held === undefined) return this.context.region.acquire();
    this.regionHeld = held;
    return write ? this.#takeSubtableLease(now) : undefined;
  }

  #takeSubtableLease(now: number): Promise<number> | undefined {
    const subtableHeld = this.subtable.lease.take(now);
    if (subtableHeld === undefined) return this.acquireLease(this.subtable.lease);
    this.subtableHeld = subtableHeld;
    return undefined;
  }

  protected acquireLease(cell: LeaseCell): Promise<number> {
    this.releaseLeases();
    return cell.acquire();
  }

  protected releaseLeases(): void {
    if (this.regionHeld !== undefined) this.context.region.release(this.regionHeld);
    if (this.subtableHeld !== undefined) this.subtable.lease.release(this.subtableHeld);
    this.regionHeld = undefined;
    this.subtableHeld = undefined;
  }

  protected dropLeases(): void {
    if (this.regionHeld !== undefined) this.context.region.drop(this.regionHeld);
    if (this.subtableHeld !== undefined) this.subtable.lease.drop(this.subtableHeld);
  }

  protected prepareBuckets(): RetCode {
    const { batch, scratch } = this;
    const { lease } = this.regionHeld ?? this.subtableHeld!;
    const base = lease.offset;
    const flags = this.#rwFlags;
    const status = batch.prepareRead(lease, scratch, BUCKETS_AT, PAIR_HALF, this.#bucketA - base, flags);
    if (status !== Ok) return status;
    return batch.prepareRead(lease, scratch, BUCKETS_AT + PAIR_HALF, PAIR_HALF, this.#bucketB - base, flags);
  }

  /**
   * Adds the read of a block to the batch that reads the buckets, behind them: a batch is executed in order. Whether it is the block that
   * a slot points to shows when the buckets have been read. Only for a batch of its own, and not by block.
   */
  protected prepareGuess(lo: number, hi: number): RetCode {
    const { lease } = this.regionHeld!;
    const offset = slotPointer(lo, hi) - lease.offset;
    const size = this.candidateBytes(slotUnits(hi));
    return this.batch.prepareRead(lease, this.scratch, CANDIDATES_AT, size, offset, this.#rwFlags);
  }

  /** Whether the slot has this word: then it is the only candidate for now, and its block was read by prepareGuess(). */
  protected guessedRight(slot: number, lo: number, hi: number): boolean {
    const { words } = this;
    if ((words[slot]! | 0) !== lo || (words[slot + 1]! | 0) !== hi) return false;
    this.candidates[0] = slot;
    this.places[0] = CANDIDATES_AT >>> 2;
    this.candidateCount = 1;
    this.checkedCount = 0;
    this.readCount = 1;
    return true;
  }

  /** Whether the operation sends its batches itself, and reads blocks under the region's lease. */
  protected get maySendMore(): boolean {
    return this.batch === this.#ownBatch && !this.#byBlock;
  }

  /** Lets several operations go out together; without one the operation goes on alone. */
  shareBatch(shared: Batch | undefined): void {
    this.batch = shared ?? this.#ownBatch;
  }

  /** Sends the batch unless an operation was not taken. */
  protected send(status: number): Step {
    const { batch } = this;
    if (batch !== this.#ownBatch) return status === Ok ? SENT_LATER : status;
    if (status === Ok) {
      if (!this.#among) return batch.commit(this.#nowNs);
      const posted = batch.post(this.#nowNs);
      return posted === Ok ? SENT_LATER : posted;
    }
    batch.reset();
    return status;
  }

  /** From now on the operation posts its batches, and who runs it waits for them while others are under way; or itself again. */
  runAmongOthers(among: boolean): void {
    this.#among = among;
  }

  /** The outcome of the batch that was posted. */
  commitPosted(): MaybePromise<number> {
    return this.batch.commit();
  }

  protected prepareSlotCas(
    slot: number,
    expectedLo: number,
    expectedHi: number,
    desiredLo: number,
    desiredHi: number,
  ): RetCode {
    const { words, scratch } = this;
    words[ATOMIC_AT / 4] = NOT_EXECUTED;
    words[ATOMIC_AT / 4 + 1] = NOT_EXECUTED;
    const { lease } = this.subtableHeld!;
    const offset = this.#slotAddress(slot) - lease.offset;
    return this.batch.prepareCas(
      lease,
      scratch,
      ATOMIC_AT,
      offset,
      expectedLo,
      expectedHi,
      desiredLo,
      desiredHi,
      this.#rwFlags,
    );
  }

  /** An addition to the word at `offset` in the lease. */
  protected prepareFaa(lease: Lease, offset: number, lo: number, hi: number): RetCode {
    const { words, scratch } = this;
    words[ATOMIC_AT / 4] = NOT_EXECUTED;
    words[ATOMIC_AT / 4 + 1] = NOT_EXECUTED;
    return this.batch.prepareFaa(lease, scratch, ATOMIC_AT, offset, lo, hi, this.#rwFlags);
  }

  /** What was in the word before the atomic sent last. */
  protected atomicOld(): bigint {
    return (BigInt(this.words[ATOMIC_AT / 4 + 1]!) << 32n) | BigInt(this.words[ATOMIC_AT / 4]!);
  }

  /** Of the atomic sent last: whether its result has arrived, so that it was executed for certain. */
  protected get atomicAnswered(): boolean {
    return this.words[ATOMIC_AT / 4] !== NOT_EXECUTED || this.words[ATOMIC_AT / 4 + 1] !== NOT_EXECUTED;
  }

  protected atomicFound(lo: number, hi: number): boolean {
    return this.words[ATOMIC_AT / 4] === lo && this.words[ATOMIC_AT / 4 + 1] === hi;
  }

  /** Whether the buckets just read still belong to the key. */
  protected get bucketsServe(): boolean {
    return pairServes(this.words, this.subtable.localDepth, this.hash.suffix);
  }

  /** Whether the key may be inserted into the buckets just read. */
  protected get bucketsTake(): boolean {
    return pairTakes(this.words, this.hash.suffix);
  }

  /** Whether one of the buckets just read is of a new subtable that is not open to writers yet. */
  protected get bucketsFilling(): boolean {
    return pairFills(this.words);
  }

  /** Whether the entry found in a slot can't be changed now. */
  protected isFrozen(slot: number): boolean {
    return (this.words[slot]! & FROZEN) !== 0 || this.bucketsFilling;
  }

  /**
   * An empty slot of combined bucket 0 or 1, in its main bucket if there is one (the overflow bucket serves a second main
   * bucket too), or -1. Look into 0 first, then into 1: freeSlots and pendingSlot are by-products.
   */
  protected emptySlotIn(combined: number): number {
    const { words } = this;
    const first = combined * COMBINED_WORDS;
    const mainFirst = ((combined === 0 ? this.#combinedA : this.#combinedB) & 1) === 0;
    const main = mainFirst ? first : first + BUCKET_WORDS;
    let empty = -1;
    this.freeSlots = 0;
    if (combined === 0) this.pendingSlot = -1;
    for (let bucket = first; bucket < first + COMBINED_WORDS; bucket += BUCKET_WORDS) {
      for (let slot = bucket; slot < bucket + BUCKET_HEADER; slot += 2) {
        if (words[slot + 1] === 0) {
          this.freeSlots++;
          if (empty < 0 || (bucket === main && empty < main)) empty = slot;
        } else if (this.isPending(slot)) this.pendingSlot = slot;
      }
    }
    return empty;
  }

  /** Collects the slots with the key's fingerprint, but for `except`. */
  protected findCandidates(withPending: boolean, except: number): void {
    const { words, candidates, hash } = this;
    this.candidateCount = slotsWith(words, hash.fingerprint, withPending, except, candidates);
    this.checkedCount = 0;
    this.readCount = 0;
  }

  /** How much of a block of a slot's length is read to see whether it has the key: all of that at the latest. */
  protected candidateBytes(units: number): number {
    return Math.min(units * UNIT, prefixBytes(this.keyLength));
  }

  /** Reads as many of the candidates' blocks as fit in one batch. Call while readCount < candidateCount. */
  protected readCandidates(): Step {
    if (this.#byBlock) return this.#readCandidatesByBlock();
    const { batch, words, scratch, candidates, places, candidateCount } = this;
    const { lease } = this.regionHeld!;
    const base = lease.offset;
    const flags = this.#rwFlags;
    let read = this.readCount;
    let at = CANDIDATES_AT;
    let status: number = Ok;
    while (read < candidateCount && batch.count < MAX_BATCH && status === Ok) {
      const slot = candidates[read]!;
      const hi = words[slot + 1]!;
      const size = this.candidateBytes(slotUnits(hi));
      if (at + size > SCRATCH) break;
      status = batch.prepareRead(lease, scratch, at, size, slotPointer(words[slot]!, hi) - base, flags);
      places[read++] = at >>> 2;
      at += size;
    }
    this.readCount = read;
    return this.send(status);
  }

  /** Reads a block, or its beginning, into a buffer of the operation's. */
  protected readBlock(buffer: RdmaBuffer, size: number, pointer: number): Step {
    if (this.#byBlock) return this.#readByBlock([{ buffer, at: 0, size, pointer }]);
    const { lease } = this.regionHeld!;
    return this.send(this.batch.prepareRead(lease, buffer, 0, size, pointer - lease.offset, this.#rwFlags));
  }

  #readCandidatesByBlock(): Promise<number> {
    const { words, scratch: buffer, candidates, places } = this;
    const reads: BlockRead[] = [];
    let at = CANDIDATES_AT;
    while (this.readCount < this.candidateCount && reads.length < MAX_BATCH) {
      const slot = candidates[this.readCount]!;
      const size = this.candidateBytes(slotUnits(words[slot + 1]!));
      if (at + size > SCRATCH_BYTES) break;
      reads.push({ buffer, at, size, pointer: slotPointer(words[slot]!, words[slot + 1]!) });
      places[this.readCount++] = at >>> 2;
      at += size;
    }
    return this.#readByBlock(reads);
  }

  #readByBlock(reads: readonly BlockRead[]): Promise<number> {
    const { client, keeper } = this.context;
    return readUnderOwnLeases(client, this.#ownBatch, reads, this.#attemptNs + keeper.termNs);
  }

  protected holdsKey(words: Uint32Array, place: number): boolean {
    return blockHoldsKey(words, place, this.keyWords, this.keyLength, this.hash.lo, this.hash.hi);
  }

  /**
   * Whether the block at word `place` is one of a key that was absent when its slot was read: by the date before that. By a
   * later date an old block could pass for an absent key that another client has renewed in time.
   */
  protected isExpired(words: Uint32Array, place: number): boolean {
    if (!blockExpires(words, place)) return false;
    this.context.expirySeen = true;
    return blockExpiry(words, place) <= this.#attemptMs;
  }

  /** Whether the date is missed: the block may have expired and the attempt does not know. Then begin another. */
  protected lacksDate(words: Uint32Array, place: number): boolean {
    if (this.#dateKnown || !blockExpires(words, place)) return false;
    this.context.expirySeen = true;
    return true;
  }

  protected isPending(slot: number): boolean {
    return (this.words[slot]! & PENDING) !== 0;
  }

  /** The index is newer than the cached directory. Then begins anew. */
  protected refreshDirectory(): Step {
    this.phase = BEGIN;
    this.#countAttempt(RetCode.CacheStale);
    this.releaseLeases();
    return this.context.refreshDirectory().then(() => RetCode.Ok);
  }

  /** Entries of the key's subtable are being moved: begins anew when that is done, or does what a dead client has left. */
  protected waitForSplit(): Step {
    const { context } = this;
    const now = context.client.now();
    if (this.#splitPatienceNs === 0) {
      this.#splitPatienceNs =
        now + Math.max(MIN_SPLIT_PATIENCE_NS, SPLIT_PATIENCE_TERMS * context.keeper.termNs);
    } else if (now > this.#splitPatienceNs) {
      this.giveUp(
        new KvError(KvErrorCode.CONTENTION, 'The index is being split for too long; nothing was changed'),
      );
    }
    this.phase = BEGIN;
    const isNew = this.bucketsFilling;
    this.releaseLeases();
    return context.splitter.finish(this.subtable, isNew);
  }

  /** The key's buckets are full: begins anew when the subtable has been split. */
  protected growTable(): Step {
    this.phase = BEGIN;
    this.releaseLeases();
    return this.context.splitter.grow(this.subtable);
  }

  /**
   * Gives the attempt up and begins the next one, at once or after a pause; call as the last thing of a step, with
   * the phase in which an Ok begins anew. `status` is why: Retry for a lost race.
   */
  protected again(status: number): Step {
    this.#countAttempt(status);
    if (status !== RetCode.Retry) this.dropLeases();
    this.releaseLeases();
    if (this.attempt <= EAGER_ATTEMPTS) return RetCode.Ok;
    const { pacing } = this.context;
    const longest = Math.min(MAX_PAUSE_MS, 2 ** (this.attempt - EAGER_ATTEMPTS - 2));
    return pacing.sleep(Math.floor(longest * pacing.random() * 2)).then(() => RetCode.Ok);
  }

  /** What to do when the attempts are used up. */
  protected giveUp(error: KvError): void {
    throw error;
  }

  #countAttempt(status: number): void {
    this.context.countRetry(status);
    if (++this.attempt < MAX_ATTEMPTS) return;
    this.giveUp(
      status === RetCode.RdmaExecutionErr || status === RetCode.OutcomeUnknown
        ? new KvError(KvErrorCode.UNAVAILABLE, 'The memory node does not execute requests')
        : new KvError(KvErrorCode.CONTENTION, `Gave up after ${this.attempt} attempts; nothing was changed`),
    );
  }

  #slotAddress(slot: number): number {
    const inA = slot < COMBINED_WORDS;
    return (inA ? this.#bucketA : this.#bucketB) + (inA ? slot : slot - COMBINED_WORDS) * 4;
  }
}
