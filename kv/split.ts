import { type Batch, type Lease, type RdmaBuffer, RetCode } from '../patronus/index.js';
import { KvError, KvErrorCode } from './api.js';
import { BLOCK_HEADER_BYTES, blockHashLo } from './block.js';
import type { TableContext } from './context.js';
import { emptySubtable } from './create.js';
import type { Subtable } from './directory.js';
import { doubleDirectory, publish } from './directory-change.js';
import type { Fence } from './fence.js';
import { classUnits } from './free-lists.js';
import {
  BUCKET_BYTES,
  BUCKET_HEADER,
  bucketHeaderLo,
  FILLING,
  FROZEN,
  GROUP_BYTES,
  MAX_DEPTH,
  PENDING,
  pointerHi,
  pointerOf,
  SPLITTING,
  SplitPhase,
  slotPointer,
  splitRecordOffset,
  subtableBytes,
  UNIT_BYTES,
} from './layout.js';

const MAX_BATCH = 16;
/** Groups that a step works on: the headers of their buckets fit in one batch. */
const STEP_GROUPS = 5;
const BUCKET_WORDS = BUCKET_BYTES / 4;
/** In the scratch buffer: the groups, then a place for each operation of a batch. */
const PLACES_AT = STEP_GROUPS * GROUP_BYTES;
const SCRATCH_BYTES = PLACES_AT + MAX_BATCH * UNIT_BYTES;
const ATTEMPTS = 40;
const PAUSE_MS = 2;

/**
 * One split, or what is left of one: of the old subtable's entries those whose hash has bit L (the old local depth) move to a
 * new subtable, each to the slot with the same index, so that there is always room. docs/kv.md has the protocol and
 * why it is linearizable; in short:
 *
 * 1. (Copy) Each bucket of the old subtable is marked SPLITTING, which stops inserts of moving keys; its moving entries are
 *    then marked FROZEN, which stops updates and deletes. Their image is written into the new subtable, marked FILLING.
 * 2. (Switch) The directory is changed: readers find the frozen entries in both. Then the old headers get depth
 *    L + 1 and the frozen slots are emptied; then, when nobody reads the old place any more, the new one is opened to writers.
 *
 * Every step can be done twice. The split record says which half has begun, so another client can go on at its start.
 */
export class Split {
  readonly #context: TableContext;
  readonly #offset: number;
  readonly #cachedDepth: number;
  readonly #cell: Subtable['lease'];
  readonly #fence: Fence;
  readonly #groups: number;
  readonly #batch: Batch;
  readonly #scratch: RdmaBuffer;
  #depth = 0;
  #target = 0;
  #suffix = 0;

  constructor(context: TableContext, subtable: Subtable, fence: Fence) {
    this.#context = context;
    this.#offset = subtable.offset;
    this.#cachedDepth = subtable.localDepth;
    this.#cell = subtable.lease;
    this.#fence = fence;
    this.#groups = context.superblock.groups;
    this.#batch = context.client.createBatch();
    this.#scratch = context.client.getRdmaBuffer(SCRATCH_BYTES);
  }

  dispose(): void {
    this.#context.client.putRdmaBuffer(this.#scratch);
  }

  /** True if a split was finished; `grow`: begin one if none is under way. Throws FenceLost if the lock ended. */
  async run(grow: boolean): Promise<boolean> {
    let phase = await this.#readRecord();
    if (phase === SplitPhase.None) {
      // Somebody else has split it meanwhile: there is room again.
      if (!grow || this.#depth !== this.#cachedDepth) return false;
      await this.#prepare();
      phase = SplitPhase.Copy;
    }
    if (phase === SplitPhase.Copy) {
      await this.#writeTarget(await this.#freeze());
      await this.#writeRecord(this.#target, this.#depth, SplitPhase.Switch);
    }
    await publish(this.#context, this.#fence, this.#offset, this.#target, this.#depth + 1, this.#suffix);
    await this.clearOld();
    await this.openNew();
    await this.#writeRecord(0, this.#depth + 1, SplitPhase.None);
    return true;
  }

  /** Takes all memory that the split needs before anything stops for it. */
  async #prepare(): Promise<void> {
    if (this.#depth === MAX_DEPTH) throw new KvError(KvErrorCode.TABLE_FULL, 'The index can grow no further');
    await doubleDirectory(this.#context, this.#fence, this.#depth + 1);
    const { allocator } = this.#context;
    const units = classUnits(subtableBytes(this.#groups) / UNIT_BYTES);
    const taken = allocator.take(units, this.#context.client.now());
    this.#target = taken >= 0 ? taken : await allocator.wait(units);
    // From here on the subtable knows of it: if this client dies, the next one uses it.
    await this.#writeRecord(this.#target, this.#depth, SplitPhase.Copy);
  }

  /** Marks what moves, and returns the new subtable's image. */
  async #freeze(): Promise<Uint32Array> {
    const image = emptySubtable(
      this.#groups,
      this.#depth + 1,
      (this.#suffix | (1 << this.#depth)) >>> 0,
      FILLING,
    );
    for (let group = 0; group < this.#groups; group += STEP_GROUPS) {
      const groups = Math.min(STEP_GROUPS, this.#groups - group);
      await this.writeHeaders(group, groups, this.#depth, SPLITTING);
      await this.#freezeGroups(group, groups);
      const { words } = this.#scratch;
      const at = group * (GROUP_BYTES / 4);
      for (let word = 0; word < groups * (GROUP_BYTES / 4); word += 2) {
        if (word % BUCKET_WORDS === BUCKET_HEADER || (words[word]! & FROZEN) === 0) continue;
        image[at + word] = (words[word]! & ~FROZEN) >>> 0;
        image[at + word + 1] = words[word + 1]!;
      }
    }
    return image;
  }

  /**
   * Marks the moving entries of some groups, takes away pending ones, and leaves the groups as they are then in the scratch
   * buffer. What it reads and changes meets the rule of all operations: under leases of the table's term, taken before.
   */
  async #freezeGroups(group: number, groups: number): Promise<void> {
    const { region, pacing, client } = this.#context;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      await this.#fence.hold();
      const now = client.now();
      const regionHeld = region.take(now);
      if (regionHeld === undefined) {
        await region.acquire();
        continue;
      }
      const slotsHeld = this.#cell.take(now);
      if (slotsHeld === undefined) {
        region.release(regionHeld);
        await this.#cell.acquire();
        continue;
      }
      let status: RetCode;
      try {
        status = await this.#readGroups(regionHeld.lease, group, groups);
        if (status === RetCode.Ok) {
          status = await this.freezeRead(regionHeld.lease, slotsHeld.lease, group, groups);
        }
        if (status !== RetCode.Ok) {
          region.drop(regionHeld);
          this.#cell.drop(slotsHeld);
        }
      } finally {
        region.release(regionHeld);
        this.#cell.release(slotsHeld);
      }
      if (status === RetCode.Ok) return;
      await pacing.sleep(PAUSE_MS * pacing.random());
    }
    throw unavailable();
  }

  protected async freezeRead(region: Lease, slots: Lease, group: number, groups: number): Promise<RetCode> {
    const { words } = this.#scratch;
    let open: number[] = [];
    for (let word = 0; word < groups * (GROUP_BYTES / 4); word += 2) {
      if (word % BUCKET_WORDS !== BUCKET_HEADER && this.#isOpen(word)) open.push(word);
    }
    const base = this.#offset + group * GROUP_BYTES;
    while (open.length > 0) {
      const some = open.slice(0, MAX_BATCH);
      open = open.slice(MAX_BATCH);
      let status = await this.#readHashes(region, some);
      if (status !== RetCode.Ok) return status;
      const moving = some.filter((_, i) => {
        const hash = blockHashLo(words, (PLACES_AT + i * UNIT_BYTES) / 4);
        return ((hash >>> this.#depth) & 1) === 1;
      });
      if (moving.length === 0) continue;
      moving.forEach((word, i) => {
        const lo = words[word]!;
        const hi = words[word + 1]!;
        const gone = (lo & PENDING) !== 0;
        if (status !== RetCode.Ok) return;
        status = this.#batch.prepareCas(
          slots,
          this.#scratch,
          PLACES_AT + i * UNIT_BYTES,
          base + word * 4 - slots.offset,
          lo,
          hi,
          gone ? 0 : (lo | FROZEN) >>> 0,
          gone ? 0 : hi,
          this.#context.keeper.rwFlags,
        );
      });
      status = await this.#send(status);
      if (status !== RetCode.Ok) return status;
      moving.forEach((word, i) => {
        const at = (PLACES_AT + i * UNIT_BYTES) / 4;
        if (words[at] === words[word] && words[at + 1] === words[word + 1]) {
          const gone = (words[word]! & PENDING) !== 0;
          words[word] = gone ? 0 : (words[word]! | FROZEN) >>> 0;
          if (gone) words[word + 1] = 0;
          return;
        }
        // Changed in between, or committed: look at what is there now.
        words[word] = words[at]!;
        words[word + 1] = words[at + 1]!;
        if (this.#isOpen(word)) open.push(word);
      });
    }
    return RetCode.Ok;
  }

  #isOpen(word: number): boolean {
    const { words } = this.#scratch;
    return words[word + 1] !== 0 && (words[word]! & FROZEN) === 0;
  }

  #readHashes(region: Lease, slots: readonly number[]): Promise<RetCode> {
    const { words } = this.#scratch;
    let status: RetCode = RetCode.Ok;
    slots.forEach((word, i) => {
      const at = slotPointer(words[word]!, words[word + 1]!) - region.offset;
      if (status !== RetCode.Ok) return;
      status = this.#batch.prepareRead(
        region,
        this.#scratch,
        PLACES_AT + i * UNIT_BYTES,
        BLOCK_HEADER_BYTES,
        at,
        this.#context.keeper.rwFlags,
      );
    });
    return this.#send(status);
  }

  async #writeTarget(image: Uint32Array): Promise<void> {
    const { client } = this.#context;
    const size = image.length * 4;
    const buffer = client.getRdmaBuffer(size);
    try {
      buffer.words.set(image);
      await this.#repeat(async () => {
        const lease = await this.#fence.inner(this.#target, size);
        return this.#send(this.#batch.prepareWrite(lease, buffer, 0, size, this.#target - lease.offset));
      });
    } finally {
      client.putRdmaBuffer(buffer);
    }
  }

  /** Leads readers of the moved keys away, and then makes room. */
  protected async clearOld(): Promise<void> {
    const { words } = this.#scratch;
    const { lease } = this.#fence;
    for (let group = 0; group < this.#groups; group += STEP_GROUPS) {
      const groups = Math.min(STEP_GROUPS, this.#groups - group);
      await this.writeHeaders(group, groups, this.#depth + 1, 0);
      await this.#repeat(() => this.#readGroups(lease, group, groups));
      const frozen: number[] = [];
      for (let word = 0; word < groups * (GROUP_BYTES / 4); word += 2) {
        if (word % BUCKET_WORDS !== BUCKET_HEADER && (words[word]! & FROZEN) !== 0) frozen.push(word);
      }
      for (let i = 0; i < frozen.length; i += MAX_BATCH) {
        const some = frozen.slice(i, i + MAX_BATCH);
        // Not a write: if its answer is lost, it is made again, and the slot may have been taken meanwhile.
        await this.#repeat(() => {
          let status: RetCode = RetCode.Ok;
          some.forEach((word, place) => {
            if (status !== RetCode.Ok) return;
            status = this.#batch.prepareCas(
              lease,
              this.#scratch,
              PLACES_AT + place * UNIT_BYTES,
              group * GROUP_BYTES + word * 4,
              words[word]!,
              words[word + 1]!,
              0,
              0,
            );
          });
          return this.#send(status);
        });
      }
    }
  }

  /** Opens the new subtable to writers. By CAS: if that was done before, it may have been split itself since. */
  protected async openNew(): Promise<void> {
    const depth = this.#depth + 1;
    const suffix = (this.#suffix | (1 << this.#depth)) >>> 0;
    const buckets = this.#groups * 3;
    const size = subtableBytes(this.#groups);
    for (let bucket = 0; bucket < buckets; bucket += MAX_BATCH) {
      await this.#repeat(async () => {
        const lease = await this.#fence.inner(this.#target, size);
        let status: RetCode = RetCode.Ok;
        for (let i = 0; i < MAX_BATCH && bucket + i < buckets && status === RetCode.Ok; i++) {
          const at = this.#target + (bucket + i) * BUCKET_BYTES + BUCKET_HEADER * 4 - lease.offset;
          const place = PLACES_AT + i * UNIT_BYTES;
          const [from, to] = [bucketHeaderLo(depth, FILLING), bucketHeaderLo(depth)];
          status = this.#batch.prepareCas(lease, this.#scratch, place, at, from, suffix, to, suffix);
        }
        return this.#send(status);
      });
    }
  }

  protected async writeHeaders(group: number, groups: number, depth: number, flags: number): Promise<void> {
    const { words } = this.#scratch;
    const { lease } = this.#fence;
    await this.#repeat(() => {
      words[PLACES_AT / 4] = bucketHeaderLo(depth, flags);
      words[PLACES_AT / 4 + 1] = this.#suffix;
      let status: RetCode = RetCode.Ok;
      for (let bucket = group * 3; bucket < (group + groups) * 3 && status === RetCode.Ok; bucket++) {
        const at = bucket * BUCKET_BYTES + BUCKET_HEADER * 4;
        status = this.#batch.prepareWrite(lease, this.#scratch, PLACES_AT, 8, at);
      }
      return this.#send(status);
    });
  }

  /** Group by group: so each word arrives whole. */
  #readGroups(lease: Lease, group: number, groups: number): Promise<RetCode> {
    let status: RetCode = RetCode.Ok;
    for (let i = 0; i < groups && status === RetCode.Ok; i++) {
      const at = this.#offset + (group + i) * GROUP_BYTES - lease.offset;
      status = this.#batch.prepareRead(
        lease,
        this.#scratch,
        i * GROUP_BYTES,
        GROUP_BYTES,
        at,
        this.#context.keeper.rwFlags,
      );
    }
    return this.#send(status);
  }

  async #readRecord(): Promise<number> {
    const { words } = this.#scratch;
    const { lease } = this.#fence;
    const at = splitRecordOffset(this.#groups);
    await this.#repeat(() => {
      let status = this.#batch.prepareRead(lease, this.#scratch, 0, 8, at);
      if (status === RetCode.Ok)
        status = this.#batch.prepareRead(lease, this.#scratch, 8, 8, BUCKET_HEADER * 4);
      return this.#send(status);
    });
    this.#target = pointerOf(words[0]!, words[1]!);
    this.#depth = (words[1]! >>> 16) & 0xff;
    this.#suffix = words[3]!;
    return words[1]! >>> 24;
  }

  async #writeRecord(target: number, depth: number, phase: number): Promise<void> {
    const { words } = this.#scratch;
    const { lease } = this.#fence;
    await this.#repeat(() => {
      words[0] = target >>> 0;
      words[1] = pointerHi(target, depth, phase);
      return this.#send(
        this.#batch.prepareWrite(lease, this.#scratch, 0, 8, splitRecordOffset(this.#groups)),
      );
    });
  }

  /** Makes something that can be done twice until it works; throws FenceLost if the lock ends before. */
  async #repeat(work: () => Promise<RetCode>): Promise<void> {
    const { pacing } = this.#context;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      await this.#fence.hold();
      if ((await work()) === RetCode.Ok) return;
      await pacing.sleep(PAUSE_MS * pacing.random());
    }
    throw unavailable();
  }

  async #send(status: RetCode): Promise<RetCode> {
    if (status === RetCode.Ok) return this.#batch.commit();
    this.#batch.reset();
    return status;
  }
}

function unavailable(): KvError {
  return new KvError(KvErrorCode.UNAVAILABLE, 'The memory node does not execute requests');
}
