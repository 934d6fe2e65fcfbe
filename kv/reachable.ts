import { type Batch, type Lease, type RdmaBuffer, RetCode } from '../patronus/index.js';
import { BLOCK_HEADER_BYTES, unitsOfBlock } from './block.js';
import type { TableContext } from './context.js';
import { unitsOfDirectory, unitsOfSubtable } from './directory.js';
import { unavailable } from './errors.js';
import { classUnits } from './free-lists.js';
import {
  BUCKET_BYTES,
  BUCKET_HEADER,
  GROUP_BYTES,
  LARGE_UNITS,
  pointerOf,
  slotPointer,
  slotUnits,
  splitRecordOffset,
} from './layout.js';

const STEP_GROUPS = 16;
const BUCKET_WORDS = BUCKET_BYTES / 4;
const HEADER_AT = STEP_GROUPS * GROUP_BYTES;
const ATTEMPTS = 40;
const PAUSE_MS = 2;

/**
 * Tells `mark` of all memory that the index leads to while this runs: directory, subtables, those that splits are filling, and
 * the blocks of all entries, pending ones too. What is reachable from before this begins until after it ends is
 * told: an entry stays in its slot or moves to a subtable that has been in the directory before the entry leaves its old place, so
 * who finds it gone finds the new subtable in the directory afterwards.
 */
export class Reachable {
  readonly #context: TableContext;
  readonly #mark: (offset: number, units: number) => void;
  /** Called now and then: to keep a lock. Rejects to end the walk. */
  readonly #hold: () => Promise<void>;
  readonly #batch: Batch;
  readonly #scratch: RdmaBuffer;
  readonly #flags: number;

  constructor(
    context: TableContext,
    hold: () => Promise<void>,
    mark: (offset: number, units: number) => void,
  ) {
    this.#context = context;
    this.#hold = hold;
    this.#mark = mark;
    this.#batch = context.client.createBatch();
    this.#scratch = context.client.getRdmaBuffer(HEADER_AT + BLOCK_HEADER_BYTES);
    this.#flags = context.keeper.rwFlags;
  }

  async run(): Promise<void> {
    const known = new Set<number>();
    try {
      for (let before = -1; known.size > before; ) {
        before = known.size;
        const { offset, words } = await this.#context.readDirectory();
        this.#mark(offset, unitsOfDirectory(words.length * 4));
        for (let i = 0; i < words.length; i += 2) {
          const subtable = pointerOf(words[i]!, words[i + 1]!);
          if (known.has(subtable)) continue;
          known.add(subtable);
          await this.#readSubtable(subtable);
        }
      }
    } finally {
      this.#context.client.putRdmaBuffer(this.#scratch);
    }
  }

  async #readSubtable(subtable: number): Promise<void> {
    const { groups } = this.#context.superblock;
    const units = unitsOfSubtable(groups);
    this.#mark(subtable, units);
    for (let group = 0; group < groups; group += STEP_GROUPS) {
      const count = Math.min(STEP_GROUPS, groups - group);
      await this.#repeat((lease) => this.#readGroups(lease, subtable + group * GROUP_BYTES, count));
    }
    await this.#repeat(async (lease) => {
      const at = subtable + splitRecordOffset(groups) - lease.offset;
      const status = await this.#send(this.#batch.prepareRead(lease, this.#scratch, 0, 8, at, this.#flags));
      const { words } = this.#scratch;
      const target = pointerOf(words[0]!, words[1]!);
      if (status === RetCode.Ok && target !== 0) this.#mark(target, units);
      return status;
    });
  }

  async #readGroups(lease: Lease, offset: number, count: number): Promise<RetCode> {
    const scratch = this.#scratch;
    const { words } = scratch;
    let status: RetCode = RetCode.Ok;
    for (let i = 0; i < count && status === RetCode.Ok; i++) {
      const at = i * GROUP_BYTES;
      status = this.#batch.prepareRead(
        lease,
        scratch,
        at,
        GROUP_BYTES,
        offset + at - lease.offset,
        this.#flags,
      );
    }
    status = await this.#send(status);
    if (status !== RetCode.Ok) return status;
    for (let at = 0; at < count * 3 * BUCKET_WORDS; at += 2) {
      const hi = words[at + 1]!;
      if (at % BUCKET_WORDS === BUCKET_HEADER || hi === 0) continue;
      const block = slotPointer(words[at]!, hi);
      let units = slotUnits(hi);
      if (units === LARGE_UNITS) {
        // Its block is not used again before this lease ends.
        const place = block - lease.offset;
        status = await this.#send(
          this.#batch.prepareRead(lease, scratch, HEADER_AT, BLOCK_HEADER_BYTES, place, this.#flags),
        );
        if (status !== RetCode.Ok) return status;
        units = classUnits(unitsOfBlock(words, HEADER_AT / 4));
      }
      this.#mark(block, units);
    }
    return RetCode.Ok;
  }

  async #repeat(work: (lease: Lease) => Promise<RetCode>): Promise<void> {
    const { region, client, pacing } = this.#context;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      await this.#hold();
      const held = region.take(client.now());
      if (held === undefined) {
        await region.acquire();
        continue;
      }
      try {
        if ((await work(held.lease)) === RetCode.Ok) return;
        region.drop(held);
      } finally {
        region.release(held);
      }
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
