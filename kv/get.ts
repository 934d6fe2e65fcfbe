import { type RdmaBuffer, RetCode } from '../patronus/index.js';
import type { KvEntry } from './api.js';
import {
  blockExpiry,
  blockIntact,
  blockIsCounter,
  blockMetaLength,
  blockMetaWord,
  blockValueLength,
  blockValueStart,
  blockVersion,
  unitsOfBlock,
} from './block.js';
import { counterText, counterVersion } from './counter.js';
import { LARGE_UNITS, slotPointer, slotUnits, UNIT_BYTES } from './layout.js';
import { BEGIN, CANDIDATE_BYTES, DONE, Operation, type Step } from './operation.js';
import { versionText } from './versions.js';

/** Phases. */
const BEGINNING = BEGIN;
const BUCKETS = 1;
const CANDIDATES = 2;
const WHOLE = 3;
// A module's own constants are part of its compiled code; imported ones are loaded and checked at each use.
const FOUND_OR_NOT = DONE;
const { Ok } = RetCode;
const UNIT = UNIT_BYTES;
const LARGE = LARGE_UNITS;
const MOST_WHOLE = CANDIDATE_BYTES;

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * Reads the value of a key. A hit takes effect when the slot's word is read: it was committed then, and the block it
 * points to does not change before this attempt's read lease has ended. A miss takes effect at a moment between the first
 * and the last slot read: had the key been in some slot all the time it would have been found there, for an update
 * keeps the slot; it must have been deleted in between, or was absent from the start.
 */
export class Get extends Operation {
  found = false;
  /** Where the whole block is, if found and not only its presence was asked for. */
  #words!: Uint32Array;
  #bytes!: Uint8Array;
  #place = 0;
  #presenceOnly = false;
  #large: RdmaBuffer | undefined;
  /** Where the key is guessed to be, and the word of that slot; the high half is 0 without a guess. */
  #guessSlot = 0;
  #guessLo = 0;
  #guessHi = 0;

  start(key: Uint8Array, presenceOnly: boolean): void {
    this.setKey(key);
    this.#presenceOnly = presenceOnly;
    this.found = false;
  }

  value(): Uint8Array {
    const words = this.#words;
    const place = this.#place;
    const at = place + blockValueStart(words, place) / 4;
    if (blockIsCounter(words, place)) return counterText(words, at);
    return this.context.results.copy(words, this.#bytes, at, blockValueLength(words, place));
  }

  entry(): KvEntry {
    const words = this.#words;
    const place = this.#place;
    const number = blockVersion(words, place);
    const version = blockIsCounter(words, place)
      ? counterVersion(number, words, place + blockValueStart(words, place) / 4)
      : versionText(number);
    const metaLength = blockMetaLength(words, place);
    const expiry = blockExpiry(words, place);
    const entry: Writable<KvEntry> = { value: this.value(), version };
    if (metaLength > 0) {
      const at = place + blockMetaWord(words, place);
      entry.meta = this.context.results.copy(words, this.#bytes, at, metaLength);
    }
    if (expiry > 0) entry.expiresAtMs = expiry;
    return entry;
  }

  begin(): Step {
    this.phase = BEGINNING;
    this.locate();
    const acquiring = this.takeLeases(this.context.client.now(), false);
    if (acquiring !== undefined) return acquiring;
    this.phase = BUCKETS;
    const status = this.prepareBuckets();
    this.#guessHi = 0;
    if (status !== Ok || !this.maySendMore) return this.send(status);
    const { locations } = this.context;
    const hi = locations.hi(this.hash);
    if (hi === 0) return this.send(status);
    this.#guessHi = hi;
    this.#guessLo = locations.lo(this.hash);
    this.#guessSlot = locations.slot(this.hash);
    return this.send(this.prepareGuess(this.#guessLo, hi));
  }

  step(status: number): Step {
    if (status !== Ok) {
      this.phase = BEGINNING;
      return this.again(status);
    }
    switch (this.phase) {
      case BUCKETS:
        if (!this.bucketsServe) return this.refreshDirectory();
        if (this.#guessHi !== 0) {
          if (this.guessedRight(this.#guessSlot, this.#guessLo, this.#guessHi)) return this.#check();
          this.#guessHi = 0;
        }
        this.findCandidates(false, -1);
        return this.#next();
      case CANDIDATES:
        return this.#check();
      case WHOLE:
        return this.#checkWhole();
      default:
        return this.begin();
    }
  }

  override finish(): void {
    super.finish();
    if (this.#large !== undefined) this.context.client.putRdmaBuffer(this.#large);
    this.#large = undefined;
  }

  /** Small blocks are read whole at once, larger ones only if they turn out to be the key's. */
  protected override candidateBytes(units: number): number {
    const size = units * UNIT;
    if (this.#presenceOnly || units === LARGE || size > MOST_WHOLE) return super.candidateBytes(units);
    return size;
  }

  #next(): Step {
    if (this.#guessHi !== 0) {
      // It was right about the slot, but the slot is another key's.
      this.#guessHi = 0;
      this.findCandidates(false, -1);
    }
    if (this.readCount === this.candidateCount) return FOUND_OR_NOT;
    this.phase = CANDIDATES;
    return this.readCandidates();
  }

  #check(): Step {
    const { words } = this;
    while (this.checkedCount < this.readCount) {
      const index = this.checkedCount++;
      const place = this.places[index]!;
      const slot = this.candidates[index]!;
      const units = slotUnits(words[slot + 1]!);
      const size = units * UNIT;
      const isWhole = this.candidateBytes(units) === size && units !== LARGE;
      const mine = this.holdsKey(words, place);
      if (isWhole && !blockIntact(words, place, size)) return this.#retry();
      if (!mine) continue;
      this.context.locations.remember(this.hash, slot, words[slot]!, words[slot + 1]!);
      if (this.#presenceOnly || isWhole) return this.#hit(words, this.scratch.bytes, place);
      return this.#readWhole(slot, place);
    }
    return this.#next();
  }

  #readWhole(slot: number, place: number): Step {
    const { words } = this;
    const { maxValueBytes } = this.context.superblock;
    if (blockValueLength(words, place) > maxValueBytes) return this.#retry();
    const size = unitsOfBlock(words, place) * UNIT;
    if (this.#large !== undefined) this.context.client.putRdmaBuffer(this.#large);
    this.#large = this.context.client.getRdmaBuffer(size);
    this.phase = WHOLE;
    const pointer = slotPointer(words[slot]!, words[slot + 1]!);
    return this.readBlock(this.#large, size, pointer);
  }

  #checkWhole(): Step {
    const { words, bytes, size } = this.#large!;
    if (!this.holdsKey(words, 0) || !blockIntact(words, 0, size)) return this.#retry();
    return this.#hit(words, bytes, 0);
  }

  /** The entry is the key's; once it has expired it is as if it were not there. */
  #hit(words: Uint32Array, bytes: Uint8Array, place: number): Step {
    if (this.lacksDate(words, place)) return this.#retry();
    if (this.isExpired(words, place)) return FOUND_OR_NOT;
    this.found = true;
    this.#words = words;
    this.#bytes = bytes;
    this.#place = place;
    return FOUND_OR_NOT;
  }

  #retry(): Step {
    this.phase = BEGINNING;
    return this.again(RetCode.Retry);
  }
}
