import { type Lease, type RdmaBuffer, RetCode } from '../patronus/index.js';
import { KvError, KvErrorCode } from './api.js';
import type { TableContext } from './context.js';
import { emptySubtable } from './create.js';
import { type Subtable, unitsOfSubtable } from './directory.js';
import { doubleDirectory, publish } from './directory-change.js';
import { unavailable } from './errors.js';
import type { Fence } from './fence.js';
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
} from './layout.js';
import { Pipeline } from './pipeline.js';

/** Groups that a step works on; fewer after a failure, so that short terms are long enough for a step. */
const STEP_GROUPS = 128;
const BUCKET_WORDS = BUCKET_BYTES / 4;
const GROUP_WORDS = GROUP_BYTES / 4;
/** Of a block, the 8 bytes with the hash's low half behind. */
const HASH_AT = 8;
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
  readonly #size: number;
  readonly #pipeline: Pipeline;
  /** The old subtable, as it was read or has been changed since. */
  readonly #image: RdmaBuffer;
  /** Beside each slot the word that its hash in #answers was read for, 0 for none; later the new subtable's image. */
  readonly #known: RdmaBuffer;
  /** What operations on a slot or header bring: its hash (in the high half), the word that a CAS has found. */
  readonly #answers: RdmaBuffer;
  #depth = 0;
  #target = 0;
  #suffix = 0;

  constructor(context: TableContext, subtable: Subtable, fence: Fence) {
    const { client, pacing, superblock } = context;
    this.#context = context;
    this.#offset = subtable.offset;
    this.#cachedDepth = subtable.localDepth;
    this.#cell = subtable.lease;
    this.#fence = fence;
    this.#groups = superblock.groups;
    this.#size = subtableBytes(superblock.groups);
    this.#pipeline = new Pipeline(client, pacing);
    this.#image = client.getRdmaBuffer(this.#size);
    this.#known = client.getRdmaBuffer(this.#size);
    this.#answers = client.getRdmaBuffer(this.#size);
  }

  dispose(): void {
    for (const buffer of [this.#image, this.#known, this.#answers])
      this.#context.client.putRdmaBuffer(buffer);
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
      await this.#freeze();
      await this.#writeTarget();
      await this.#writeRecord(this.#target, this.#depth, SplitPhase.Switch);
    } else
      await this.#inSteps((group, groups) => this.#readGroups(this.#fence.lease, this.#image, group, groups));
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
    const units = unitsOfSubtable(this.#groups);
    const taken = allocator.take(units, this.#context.client.now());
    this.#target = taken >= 0 ? taken : (await allocator.wait(units)).offset;
    try {
      // From here on the subtable knows of it: if this client dies, the next one uses it.
      await this.#writeRecord(this.#target, this.#depth, SplitPhase.Copy);
    } catch (error) {
      allocator.lose(units);
      throw error;
    }
  }

  /**
   * Marks what moves, and takes away what is pending. What it reads and changes meets the rule of all operations: under leases of
   * the table's term, taken before. Most hashes are read before anything is marked, so that nobody waits for them; they are
   * good for as long as the leases, for a slot that has the same word then has the same block.
   */
  async #freeze(): Promise<void> {
    const { region, pacing } = this.#context;
    await Promise.all([region.acquire(), this.#cell.acquire()]);
    let group = 0;
    let step = STEP_GROUPS;
    for (let failures = 0; failures < ATTEMPTS; failures++) {
      this.#known.words.fill(0);
      const begun = group;
      const status = await this.#underLeases(async (regionLease, slotsLease) => {
        if (failures === 0) await this.#lookUp(regionLease);
        for (; group < this.#groups; group += step) {
          const groups = Math.min(step, this.#groups - group);
          await this.writeHeaders(group, groups, this.#depth, SPLITTING);
          let frozen = await this.#readGroups(regionLease, this.#image, group, groups);
          if (frozen === RetCode.Ok) frozen = await this.freezeRead(regionLease, slotsLease, group, groups);
          if (frozen !== RetCode.Ok) return frozen;
        }
        return RetCode.Ok;
      });
      if (status === RetCode.Ok) return;
      if (group > begun) failures = 0;
      step = Math.ceil(step / 2);
      await pacing.sleep(PAUSE_MS * pacing.random());
    }
    throw unavailable();
  }

  /** Ok only from `work`; the leases are not used again after anything else. */
  async #underLeases(work: (region: Lease, slots: Lease) => Promise<RetCode>): Promise<RetCode> {
    const { region, client } = this.#context;
    const now = client.now();
    const regionHeld = region.take(now);
    if (regionHeld === undefined) {
      await region.acquire();
      return RetCode.Retry;
    }
    const slotsHeld = this.#cell.take(now);
    if (slotsHeld === undefined) {
      region.release(regionHeld);
      await this.#cell.acquire();
      return RetCode.Retry;
    }
    try {
      const status = await work(regionHeld.lease, slotsHeld.lease);
      if (status !== RetCode.Ok) {
        this.#context.countRetry(status);
        region.drop(regionHeld);
        this.#cell.drop(slotsHeld);
      }
      return status;
    } finally {
      region.release(regionHeld);
      this.#cell.release(slotsHeld);
    }
  }

  /** Reads the hashes of all entries. That they can't be read shows again when they are needed. */
  async #lookUp(region: Lease): Promise<void> {
    const { words } = this.#known;
    for (let group = 0; group < this.#groups; group += STEP_GROUPS) {
      const groups = Math.min(STEP_GROUPS, this.#groups - group);
      await this.#fence.hold();
      let status = await this.#readGroups(region, this.#known, group, groups);
      if (status === RetCode.Ok)
        status = await this.#readHashes(
          region,
          slotsIn(group, groups, (word) => words[word + 1] !== 0),
        );
      if (status === RetCode.Ok) continue;
      words.fill(0);
      return;
    }
  }

  /** Marks the moving entries of some groups that were just read. */
  protected async freezeRead(region: Lease, slots: Lease, group: number, groups: number): Promise<RetCode> {
    const [image, known, answers] = [this.#image.words, this.#known.words, this.#answers.words];
    let open = slotsIn(group, groups, (word) => this.#isOpen(word));
    while (open.length > 0) {
      const unknown = open.filter((word) => !this.isKnown(word));
      for (const word of unknown) {
        known[word] = image[word]!;
        known[word + 1] = image[word + 1]!;
      }
      let status = await this.#readHashes(region, unknown);
      if (status !== RetCode.Ok) return status;
      const moving = open.filter((word) => ((answers[word + 1]! >>> this.#depth) & 1) === 1);
      status = await this.#pipeline.send(moving.length, (batch, i) => {
        const word = moving[i]!;
        const lo = image[word]!;
        const hi = image[word + 1]!;
        const gone = (lo & PENDING) !== 0;
        return batch.prepareCas(
          slots,
          this.#answers,
          word * 4,
          this.#offset + word * 4 - slots.offset,
          lo,
          hi,
          gone ? 0 : (lo | FROZEN) >>> 0,
          gone ? 0 : hi,
          this.#context.keeper.rwFlags,
        );
      });
      if (status !== RetCode.Ok) return status;
      open = moving.filter((word) => {
        if (answers[word] === image[word] && answers[word + 1] === image[word + 1]) {
          const gone = (image[word]! & PENDING) !== 0;
          image[word] = gone ? 0 : (image[word]! | FROZEN) >>> 0;
          if (gone) image[word + 1] = 0;
          return false;
        }
        // Changed in between, or committed: look at what is there now.
        image[word] = answers[word]!;
        image[word + 1] = answers[word + 1]!;
        known[word + 1] = 0;
        return this.#isOpen(word);
      });
    }
    return RetCode.Ok;
  }

  /** Whether the slot has the word that its hash was read for. */
  protected isKnown(word: number): boolean {
    const [image, known] = [this.#image.words, this.#known.words];
    return image[word] === known[word] && image[word + 1] === known[word + 1];
  }

  #isOpen(word: number): boolean {
    const { words } = this.#image;
    return words[word + 1] !== 0 && (words[word]! & FROZEN) === 0;
  }

  /** Of the slots' entries in #known. */
  #readHashes(region: Lease, slots: readonly number[]): Promise<RetCode> {
    const { words } = this.#known;
    return this.#pipeline.send(slots.length, (batch, i) => {
      const word = slots[i]!;
      const at = slotPointer(words[word]!, words[word + 1]!) + HASH_AT - region.offset;
      return batch.prepareRead(region, this.#answers, word * 4, 8, at, this.#context.keeper.rwFlags);
    });
  }

  async #writeTarget(): Promise<void> {
    const [image, target] = [this.#image.words, this.#known.words];
    const suffix = (this.#suffix | (1 << this.#depth)) >>> 0;
    target.set(emptySubtable(this.#groups, this.#depth + 1, suffix, FILLING));
    for (const word of this.#frozenIn(0, this.#groups)) {
      target[word] = (image[word]! & ~FROZEN) >>> 0;
      target[word + 1] = image[word + 1]!;
    }
    await this.#repeat(async () => {
      const lease = await this.#fence.inner(this.#target, this.#size);
      return this.#pipeline.send(1, (batch) =>
        batch.prepareWrite(lease, this.#known, 0, this.#size, this.#target - lease.offset),
      );
    });
  }

  /** Leads readers of the moved keys away, and then makes room. */
  protected async clearOld(): Promise<void> {
    const { words } = this.#image;
    const { lease } = this.#fence;
    for (let group = 0; group < this.#groups; group += STEP_GROUPS) {
      const groups = Math.min(STEP_GROUPS, this.#groups - group);
      await this.writeHeaders(group, groups, this.#depth + 1, 0);
      const frozen = this.#frozenIn(group, groups);
      // Not a write: if its answer is lost, it is made again, and the slot may have been taken meanwhile.
      await this.#repeat(() =>
        this.#pipeline.send(frozen.length, (batch, i) => {
          const word = frozen[i]!;
          return batch.prepareCas(
            lease,
            this.#answers,
            word * 4,
            word * 4,
            words[word]!,
            words[word + 1]!,
            0,
            0,
          );
        }),
      );
    }
  }

  /** Opens the new subtable to writers. By CAS: if that was done before, it may have been split itself since. */
  protected async openNew(): Promise<void> {
    const depth = this.#depth + 1;
    const suffix = (this.#suffix | (1 << this.#depth)) >>> 0;
    const [from, to] = [bucketHeaderLo(depth, FILLING), bucketHeaderLo(depth)];
    await this.#inSteps(async (group, groups) => {
      const lease = await this.#fence.inner(this.#target, this.#size);
      return this.#pipeline.send(groups * 3, (batch, i) => {
        const header = (group * 3 + i) * BUCKET_BYTES + BUCKET_HEADER * 4;
        const at = this.#target + header - lease.offset;
        return batch.prepareCas(lease, this.#answers, header, at, from, suffix, to, suffix);
      });
    });
  }

  protected async writeHeaders(group: number, groups: number, depth: number, flags: number): Promise<void> {
    const { lease } = this.#fence;
    const at = splitRecordOffset(this.#groups);
    const { words } = this.#answers;
    words[at / 4] = bucketHeaderLo(depth, flags);
    words[at / 4 + 1] = this.#suffix;
    await this.#repeat(() =>
      this.#pipeline.send(groups * 3, (batch, i) =>
        batch.prepareWrite(lease, this.#answers, at, 8, (group * 3 + i) * BUCKET_BYTES + BUCKET_HEADER * 4),
      ),
    );
  }

  /** Group by group: so each word arrives whole. */
  #readGroups(lease: Lease, buffer: RdmaBuffer, group: number, groups: number): Promise<RetCode> {
    return this.#pipeline.send(groups, (batch, i) => {
      const at = (group + i) * GROUP_BYTES;
      const offset = this.#offset + at - lease.offset;
      return batch.prepareRead(lease, buffer, at, GROUP_BYTES, offset, this.#context.keeper.rwFlags);
    });
  }

  #frozenIn(group: number, groups: number): number[] {
    const { words } = this.#image;
    return slotsIn(group, groups, (word) => (words[word]! & FROZEN) !== 0);
  }

  async #readRecord(): Promise<number> {
    const { words } = this.#answers;
    const { lease } = this.#fence;
    const at = [splitRecordOffset(this.#groups), BUCKET_HEADER * 4];
    await this.#repeat(() =>
      this.#pipeline.send(2, (batch, i) => batch.prepareRead(lease, this.#answers, i * 8, 8, at[i]!)),
    );
    this.#target = pointerOf(words[0]!, words[1]!);
    this.#depth = (words[1]! >>> 16) & 0xff;
    this.#suffix = words[3]!;
    return words[1]! >>> 24;
  }

  async #writeRecord(target: number, depth: number, phase: number): Promise<void> {
    const { words } = this.#answers;
    const { lease } = this.#fence;
    const at = splitRecordOffset(this.#groups);
    await this.#repeat(() => {
      words[at / 4] = target >>> 0;
      words[at / 4 + 1] = pointerHi(target, depth, phase);
      return this.#pipeline.send(1, (batch) => batch.prepareWrite(lease, this.#answers, at, 8, at));
    });
  }

  /** Makes something for all groups that can be done twice. */
  async #inSteps(work: (group: number, groups: number) => Promise<RetCode>): Promise<void> {
    for (let group = 0; group < this.#groups; group += STEP_GROUPS) {
      await this.#repeat(() => work(group, Math.min(STEP_GROUPS, this.#groups - group)));
    }
  }

  /** Makes something that can be done twice until it works; throws FenceLost if the lock ends before. */
  async #repeat(work: () => Promise<RetCode>): Promise<void> {
    const { pacing } = this.#context;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      await this.#fence.hold();
      const status = await work();
      if (status === RetCode.Ok) return;
      this.#context.countRetry(status);
      await pacing.sleep(PAUSE_MS * pacing.random());
    }
    throw unavailable();
  }
}

/** Those slots of some groups that are `wanted`, each as the index of its first word in the subtable. */
function slotsIn(group: number, groups: number, wanted: (word: number) => boolean): number[] {
  const slots: number[] = [];
  for (let word = group * GROUP_WORDS; word < (group + groups) * GROUP_WORDS; word += 2) {
    if (word % BUCKET_WORDS !== BUCKET_HEADER && wanted(word)) slots.push(word);
  }
  return slots;
}
