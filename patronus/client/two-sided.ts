import { type RdmaBuffer, RetCode, RwFlag } from '../api.js';
import { MAX_COPY, MAX_PAYLOAD, MessageType, putNumber, Word } from '../wire/messages.js';
import { RegisteredBuffer } from './buffers.js';
import type { LeaseHandle } from './lease.js';
import { nameLease, retCodeOf, statusOf } from './lease-requests.js';
import type { NodeConnection } from './node-connection.js';
import { Tracer } from './tracer.js';

const FLAGS = RwFlag.NoLocalExpireCheck | RwFlag.EnableTrace;

/**
 * Accesses that the memory node's thread carries out: the same checks as the NIC's, the same statuses, but no fault of a
 * queue pair. What is longer than a message takes several: whole only as far as each message goes.
 */
export class TwoSided {
  private readonly node: NodeConnection;

  constructor(node: NodeConnection) {
    this.node = node;
  }

  read(
    lease: LeaseHandle,
    buffer: RdmaBuffer,
    size: number,
    offset: number,
    flags: number,
  ): Promise<RetCode> {
    return this.inParts(lease, buffer, size, offset, flags, MAX_PAYLOAD, (at, length, tracer) =>
      this.node.call(
        MessageType.READ,
        0,
        (words, to) => nameRange(words, to, lease, offset + at, length),
        (words, from) => {
          const status = retCodeOf(statusOf(words, from));
          if (status === RetCode.Ok) buffer.bytes.set(payload(words, from, length), at);
          return status;
        },
        undefined,
        tracer,
      ),
    );
  }

  write(
    lease: LeaseHandle,
    buffer: RdmaBuffer,
    size: number,
    offset: number,
    flags: number,
  ): Promise<RetCode> {
    lease.cache?.forget(offset, size);
    return this.inParts(lease, buffer, size, offset, flags, MAX_PAYLOAD, (at, length, tracer) =>
      this.node.call(
        MessageType.WRITE,
        0,
        (words, to) => {
          nameRange(words, to, lease, offset + at, length);
          payload(words, to, length).set(buffer.bytes.subarray(at, at + length));
        },
        (words, from) => retCodeOf(statusOf(words, from)),
        undefined,
        tracer,
      ),
    );
  }

  /** `operands`: expected and desired value of a CAS, the addend of a FAA, as 32-bit halves. The old value lands in the buffer. */
  atomic(
    type: number,
    lease: LeaseHandle,
    buffer: RdmaBuffer,
    offset: number,
    operands: readonly number[],
    flags: number,
  ): Promise<RetCode> {
    lease.cache?.forget(offset, 8);
    return this.inParts(lease, buffer, 8, offset, flags, 8, (_at, _length, tracer) =>
      this.node.call(
        type,
        0,
        (words, to) => {
          nameRange(words, to, lease, offset, 0);
          words.set(operands, to + Word.PAYLOAD);
        },
        (words, from) => {
          const status = retCodeOf(statusOf(words, from));
          if (status === RetCode.Ok) buffer.bytes.set(payload(words, from, 8));
          return status;
        },
        undefined,
        tracer,
      ),
    );
  }

  /** From the range of one lease to that of another of this node. */
  async copy(
    from: LeaseHandle,
    fromOffset: number,
    to: LeaseHandle,
    toOffset: number,
    size: number,
  ): Promise<RetCode> {
    const own = from.node === this.node && to.node === this.node;
    if (!own || from.ended || to.ended || !Number.isSafeInteger(size) || size < 0) return RetCode.Invalid;
    for (const offset of [fromOffset, toOffset]) {
      if (!Number.isSafeInteger(offset)) return RetCode.Invalid;
      if (offset < 0 || !Number.isSafeInteger(offset + size)) return RetCode.RdmaProtectionErr;
    }
    to.cache?.forget(toOffset, size);
    // Overlapping ranges: the parts in the order that leaves none overwritten before it is read.
    const upwards = from.offset + fromOffset >= to.offset + toOffset;
    const parts = Math.max(1, Math.ceil(size / MAX_COPY));
    for (let i = 0; i < parts; i++) {
      const at = (upwards ? i : parts - 1 - i) * MAX_COPY;
      const status = await this.node.call(
        MessageType.COPY,
        0,
        (words, place) => {
          nameRange(words, place, from, fromOffset + at, Math.min(MAX_COPY, size - at));
          words[place + Word.TO_INDEX] = to.index;
          words[place + Word.TO_GENERATION] = to.generation;
          putNumber(words, place + Word.TO_OFFSET, toOffset + at);
        },
        (words, place) => retCodeOf(statusOf(words, place)),
      );
      if (status !== RetCode.Ok) return status;
    }
    return RetCode.Ok;
  }

  /** Ok, or the status of the first part that failed; the others may have been carried out. */
  private async inParts(
    lease: LeaseHandle,
    buffer: RdmaBuffer,
    size: number,
    offset: number,
    flags: number,
    partBytes: number,
    send: (at: number, length: number, tracer: Tracer | undefined) => Promise<RetCode>,
  ): Promise<RetCode> {
    if (lease.local || (flags & FLAGS) !== flags) return RetCode.Invalid;
    const checks = (flags & RwFlag.NoLocalExpireCheck) === 0;
    if (checks && lease.ended) return RetCode.Invalid;
    if (!(buffer instanceof RegisteredBuffer) || buffer.pool !== this.node.buffers) return RetCode.Invalid;
    if (size >>> 0 !== size || size > buffer.size || !Number.isSafeInteger(offset)) return RetCode.Invalid;
    const tracer = Tracer.ifAsked(flags, RwFlag.EnableTrace);
    const late = checks && this.node.pastDeadline(lease.deadlineNs);
    tracer?.mark('checked');
    if (late) {
      lease.traced(tracer);
      return RetCode.LeaseLocalExpiredErr;
    }
    if (size === 0) return RetCode.Ok;
    // No offset that a message could name: outside of every lease.
    if (offset < 0 || !Number.isSafeInteger(offset + size)) return RetCode.RdmaProtectionErr;
    const parts: Promise<RetCode>[] = [];
    let at = 0;
    do {
      parts.push(send(at, Math.min(partBytes, size - at), tracer));
      at += partBytes;
    } while (at < size);
    const outcomes = await Promise.all(parts);
    lease.traced(tracer);
    return outcomes.find((outcome) => outcome !== RetCode.Ok) ?? RetCode.Ok;
  }
}

function nameRange(words: Uint32Array, at: number, lease: LeaseHandle, offset: number, size: number): void {
  nameLease(words, at, lease);
  putNumber(words, at + Word.OFFSET, offset);
  words[at + Word.SIZE] = size;
}

function payload(words: Uint32Array, at: number, length: number): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset + 4 * (at + Word.PAYLOAD), length);
}
