import { type Batch, type Lease, type MaybePromise, type RdmaBuffer, RetCode } from '../api.js';
import { MAX_BATCH, type OperationBatch } from './batch.js';
import { LeaseHandle } from './lease.js';
import type { NodeConnection } from './node-connection.js';

/**
 * A batch for a node with several directories. What follows each other under leases of one directory is sent with one doorbell,
 * after the answer to what came before: so the order of all of it holds.
 */
export class SplitBatch implements Batch {
  count = 0;
  executed = 0;
  private readonly directories: readonly NodeConnection[];
  /** In the order of their operations, none empty; each with its directory. */
  private readonly parts: OperationBatch[] = [];
  private readonly partsOf: NodeConnection[] = [];
  private submitted = false;
  /** Submitted, and its outcome is waited for. */
  private committed = false;

  constructor(directories: readonly NodeConnection[]) {
    this.directories = directories;
  }

  prepareRead(
    lease: Lease,
    buffer: RdmaBuffer,
    bufferOffset: number,
    size: number,
    offset: number,
    flags = 0,
  ): RetCode {
    const part = this.partFor(lease);
    return this.taken(part?.prepareRead(lease, buffer, bufferOffset, size, offset, flags));
  }

  prepareWrite(
    lease: Lease,
    buffer: RdmaBuffer,
    bufferOffset: number,
    size: number,
    offset: number,
    flags = 0,
  ): RetCode {
    const part = this.partFor(lease);
    return this.taken(part?.prepareWrite(lease, buffer, bufferOffset, size, offset, flags));
  }

  prepareCas(
    lease: Lease,
    buffer: RdmaBuffer,
    bufferOffset: number,
    offset: number,
    expectedLo: number,
    expectedHi: number,
    desiredLo: number,
    desiredHi: number,
    flags = 0,
  ): RetCode {
    return this.taken(
      this.partFor(lease)?.prepareCas(
        lease,
        buffer,
        bufferOffset,
        offset,
        expectedLo,
        expectedHi,
        desiredLo,
        desiredHi,
        flags,
      ),
    );
  }

  prepareFaa(
    lease: Lease,
    buffer: RdmaBuffer,
    bufferOffset: number,
    offset: number,
    addLo: number,
    addHi: number,
    flags = 0,
  ): RetCode {
    const part = this.partFor(lease);
    return this.taken(part?.prepareFaa(lease, buffer, bufferOffset, offset, addLo, addHi, flags));
  }

  /** Sent by commit() only: a part can't be sent before the one before it was answered. */
  post(nowNs?: number): RetCode {
    if (this.submitted) return RetCode.Invalid;
    this.executed = 0;
    // With nothing sent, as the first part of it would be.
    if (this.parts.some((part) => part.pastDeadline(nowNs))) {
      this.reset();
      return RetCode.LeaseLocalExpiredErr;
    }
    this.submitted = true;
    return RetCode.Ok;
  }

  commit(nowNs?: number): MaybePromise<RetCode> {
    if (!this.submitted) {
      const status = this.post(nowNs);
      if (status !== RetCode.Ok) return status;
    } else if (this.committed) return RetCode.Invalid;
    this.committed = true;
    return this.from(0);
  }

  reset(): void {
    if (this.submitted) throw new TypeError('the batch is under way');
    for (let i = 0; i < this.parts.length; i++) {
      this.parts[i]!.reset();
      this.partsOf[i]!.giveBatch(this.parts[i]!);
    }
    this.parts.length = 0;
    this.partsOf.length = 0;
    this.count = 0;
  }

  private from(first: number): MaybePromise<RetCode> {
    for (let i = first; i < this.parts.length; i++) {
      const part = this.parts[i]!;
      const { count } = part;
      const outcome = part.commit();
      if (typeof outcome !== 'number') {
        return outcome.then((status) => {
          const end = this.after(part, count, status);
          return end ?? this.from(i + 1);
        });
      }
      const end = this.after(part, count, outcome);
      if (end !== undefined) return end;
    }
    return this.finish(RetCode.Ok);
  }

  /** A part with so many operations is done; the status of the whole if it is over by that. */
  private after(part: OperationBatch, count: number, status: RetCode): RetCode | undefined {
    this.executed += status === RetCode.Ok ? count : part.executed;
    return status === RetCode.Ok ? undefined : this.finish(status);
  }

  private finish(status: RetCode): RetCode {
    this.submitted = false;
    this.committed = false;
    this.reset();
    return status;
  }

  /** The part that takes an operation under this lease next; undefined if none may. */
  private partFor(lease: Lease): OperationBatch | undefined {
    if (this.submitted || this.count === MAX_BATCH || !(lease instanceof LeaseHandle)) return undefined;
    const { node } = lease;
    if (this.partsOf.at(-1) === node) return this.parts.at(-1);
    if (!this.directories.includes(node)) return undefined;
    const part = node.takeBatch();
    this.parts.push(part);
    this.partsOf.push(node);
    return part;
  }

  private taken(status: RetCode | undefined): RetCode {
    if (status === RetCode.Ok) this.count++;
    else this.dropEmpty();
    return status ?? RetCode.Invalid;
  }

  private dropEmpty(): void {
    const part = this.parts.at(-1);
    if (part === undefined || part.count > 0) return;
    this.partsOf.pop()!.giveBatch(part);
    this.parts.pop();
  }
}
