import { RetCode } from '../patronus/index.js';
import { KvError, KvErrorCode } from './api.js';
import type { TableContext } from './context.js';
import { type DirectoryImage, unitsOfDirectory } from './directory.js';
import { cycleOf } from './epoch.js';
import { Fence } from './fence.js';
import {
  DIRECTORY_ENTRY_BYTES,
  pointerHi,
  SB_DIRECTORY_BYTES,
  SB_DIRECTORY_OFFSET,
  suffixMask,
  UNIT_BYTES,
} from './layout.js';

const MAX_BATCH = 16;
const ATTEMPTS = 200;
const LOCKED_PAUSE_MS = 2;

/**
 * Changes of the directory. They are made under a lock of their own, since splits of several subtables meet here; it ends
 * no later than the lock of the split that needs the change.
 */
async function change(
  context: TableContext,
  split: Fence,
  work: (lock: Fence, image: DirectoryImage) => Promise<RetCode>,
): Promise<void> {
  const { client, pacing, keeper } = context;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    await split.hold();
    const lock = await Fence.tryAcquire(
      client,
      keeper.epoch,
      SB_DIRECTORY_OFFSET,
      SB_DIRECTORY_BYTES,
      0,
      split,
    );
    if (lock !== undefined) {
      try {
        if ((await work(lock, await context.readDirectory())) === RetCode.Ok) return;
      } finally {
        await lock.release();
      }
    }
    await pacing.sleep(LOCKED_PAUSE_MS * (0.5 + pacing.random()));
  }
  throw new KvError(KvErrorCode.UNAVAILABLE, 'The directory could not be changed');
}

/** Gives the directory at least 2^depth entries. The subtables stay as they are. */
export async function doubleDirectory(context: TableContext, split: Fence, depth: number): Promise<void> {
  await change(context, split, async (lock, old) => {
    if (old.depth >= depth) return RetCode.Ok;
    const { client, allocator } = context;
    const epoch = context.keeper.epoch.value;
    const oldBytes = old.words.length * 4;
    const units = unitsOfDirectory(2 * oldBytes);
    const taken = allocator.take(units, client.now());
    const offset = taken >= 0 ? taken : (await allocator.wait(units)).offset;
    const buffer = client.getRdmaBuffer(2 * oldBytes);
    let published = false;
    let unknown = false;
    try {
      buffer.words.set(old.words);
      buffer.words.set(old.words, old.words.length);
      const batch = client.createBatch();
      const lease = await lock.inner(offset, 2 * oldBytes);
      let status = batch.prepareWrite(lease, buffer, 0, 2 * oldBytes, offset - lease.offset);
      if (status === RetCode.Ok) status = await batch.commit();
      if (status !== RetCode.Ok) return status;
      lock.check();
      // The one step that counts.
      const [fromLo, fromHi] = [old.offset >>> 0, pointerHi(old.offset, old.depth)];
      const [toLo, toHi] = [offset >>> 0, pointerHi(offset, old.depth + 1)];
      status = batch.prepareCas(lock.lease, buffer, 0, 0, fromLo, fromHi, toLo, toHi);
      unknown = true;
      if (status === RetCode.Ok) status = await batch.commit();
      if (status !== RetCode.Ok) return status;
      unknown = false;
      published = buffer.words[0] === fromLo && buffer.words[1] === fromHi;
    } finally {
      client.putRdmaBuffer(buffer);
      // A directory that may be in use or not is left alone: better lost than used twice.
      if (unknown) allocator.lose(units);
      else if (!published) allocator.discard(offset, units, cycleOf(epoch));
    }
    if (!published) return RetCode.Retry;
    allocator.retire(old.offset, unitsOfDirectory(oldBytes), epoch);
    return old.depth + 1 >= depth ? RetCode.Ok : RetCode.Retry;
  });
}

/** Lets the entries of a subtable that has been split lead to both halves. */
export async function publish(
  context: TableContext,
  split: Fence,
  oldOffset: number,
  newOffset: number,
  depth: number,
  suffix: number,
): Promise<void> {
  await change(context, split, async (lock, image) => {
    const { client } = context;
    const { words } = image;
    const buffer = client.getRdmaBuffer(2 * UNIT_BYTES);
    try {
      const batch = client.createBatch();
      const lease = await lock.inner(image.offset, words.length * 4);
      for (const [place, target] of [oldOffset, newOffset].entries()) {
        buffer.words[2 * place] = target >>> 0;
        buffer.words[2 * place + 1] = pointerHi(target, depth);
      }
      const first = suffix & suffixMask(depth - 1);
      const step = 2 ** (depth - 1);
      const entries = words.length / 2;
      for (let entry = first; entry < entries; ) {
        lock.check();
        let status: RetCode = RetCode.Ok;
        for (; entry < entries && batch.count < MAX_BATCH && status === RetCode.Ok; entry += step) {
          // Done before, and perhaps split again since.
          if (((words[2 * entry + 1]! >>> 16) & 0xff) >= depth) continue;
          const isNew = (Math.floor(entry / step) & 1) === 1;
          const at = entry * DIRECTORY_ENTRY_BYTES;
          status = batch.prepareWrite(lease, buffer, isNew ? 8 : 0, 8, image.offset - lease.offset + at);
        }
        if (status === RetCode.Ok) status = await batch.commit();
        if (status !== RetCode.Ok) {
          batch.reset();
          return status;
        }
      }
      return RetCode.Ok;
    } finally {
      client.putRdmaBuffer(buffer);
    }
  });
}
