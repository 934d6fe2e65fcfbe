import { RetCode } from '../api.js';
import type { LeaseHandle } from './lease.js';

const PART_BYTES = 65536;

/**
 * Copy from the range of one lease to that of another of a different directory of the node, of which neither knows both: this
 * client reads and writes. What the node would refuse is refused here, where it does not cost a queue pair.
 */
export async function copyByHand(
  from: LeaseHandle,
  fromOffset: number,
  to: LeaseHandle,
  toOffset: number,
  size: number,
): Promise<RetCode> {
  if (from.ended || to.ended || !Number.isSafeInteger(size) || size < 0) return RetCode.Invalid;
  if (!Number.isSafeInteger(fromOffset) || !Number.isSafeInteger(toOffset)) return RetCode.Invalid;
  if (!permits(from, fromOffset, size) || !permits(to, toOffset, size) || !to.writable) {
    return RetCode.RdmaProtectionErr;
  }
  const { buffers } = from.node;
  const buffer = buffers.get(Math.min(Math.max(size, 1), PART_BYTES));
  const reading = from.node.takeBatch();
  const writing = to.node.takeBatch();
  try {
    let status: RetCode = RetCode.Ok;
    for (let at = 0; at < size && status === RetCode.Ok; at += PART_BYTES) {
      const length = Math.min(PART_BYTES, size - at);
      status = reading.prepareRead(from, buffer, 0, length, fromOffset + at);
      if (status === RetCode.Ok) status = await reading.commit();
      if (status === RetCode.Ok) status = writing.prepareWrite(to, buffer, 0, length, toOffset + at);
      if (status === RetCode.Ok) status = await writing.commit();
    }
    return status;
  } finally {
    from.node.giveBatch(reading);
    to.node.giveBatch(writing);
    buffers.put(buffer);
  }
}

function permits(lease: LeaseHandle, offset: number, size: number): boolean {
  return lease.rkey !== 0 && offset >= 0 && offset + size <= lease.size;
}
