import {
  AcquireFlag,
  type AcquireRequest,
  type AcquireResult,
  AcquireStatus,
  type AllocateRequest,
  type AllocateResult,
  type MaybePromise,
  ModifyFlag,
  RetCode,
} from '../api.js';
import { getNumber, MAX_REQUESTS, MessageType, putNumber, ReplyStatus, Word } from '../wire/messages.js';
import { LeaseHandle } from './lease.js';
import type { NodeConnection } from './node-connection.js';
import { Tracer } from './tracer.js';

/** What a one-sided extension may take: one that begins later than this before the deadline is not attempted. */
const EXTENSION_NS = 2000;
const MAX_UNITS = 0xffffffff;
const ACQUIRE_FLAGS =
  AcquireFlag.NoGc |
  AcquireFlag.WithAllocation |
  AcquireFlag.WithConflictDetect |
  AcquireFlag.NoBindPR |
  AcquireFlag.NoBindAny |
  AcquireFlag.UseMR |
  AcquireFlag.KeepAllocation |
  AcquireFlag.NoRpc |
  AcquireFlag.EnableTrace;

/** What a client asks of a memory node about leases and memory. */
export class LeaseRequests {
  private readonly node: NodeConnection;

  constructor(node: NodeConnection) {
    this.node = node;
  }

  acquire(request: AcquireRequest, write: boolean): Promise<AcquireResult> {
    const { offset = 0, size, termNs, hint = 0 } = request;
    // The message has room for 16 flags; one above must not get lost on the way.
    if (((request.flags ?? 0) & ACQUIRE_FLAGS) !== (request.flags ?? 0) || hint > 0xffff) {
      return Promise.resolve({ status: AcquireStatus.InvalidErr, lease: undefined });
    }
    const trace = Tracer.ifAsked(request.flags ?? 0, AcquireFlag.EnableTrace);
    // The memory node has no part in that.
    const flags = (request.flags ?? 0) & ~AcquireFlag.EnableTrace;
    const exclusive = (flags & AcquireFlag.WithConflictDetect) !== 0;
    if (exclusive && (flags & AcquireFlag.WithAllocation) !== 0 && request.lockKey === undefined) {
      return Promise.reject(new TypeError('a lock for memory that is yet to be allocated needs a lockKey'));
    }
    const lockKey = exclusive ? (request.lockKey ?? offset) : 0;
    const wrong =
      notNatural('offset', offset) ??
      notNatural('size', size) ??
      notNatural('termNs', termNs) ??
      notNatural('hint', hint) ??
      notNatural('lockKey', lockKey);
    if (wrong !== undefined) return Promise.reject(wrong);
    if ((flags & AcquireFlag.NoRpc) !== 0) return Promise.resolve(this.madeUp(request, write));
    return this.node.call(
      write ? MessageType.ACQUIRE_WRITE : MessageType.ACQUIRE_READ,
      flags,
      (words, at) => {
        putNumber(words, at + Word.OFFSET, offset);
        putNumber(words, at + Word.SIZE, size);
        putNumber(words, at + Word.TERM, termNs);
        words[at + Word.HINT] = hint;
        putNumber(words, at + Word.LOCK_KEY, lockKey);
      },
      (words, at) => {
        const status = statusOf(words, at) as AcquireStatus;
        if (status !== AcquireStatus.Success) return { status, lease: undefined, trace };
        const beginNs = getNumber(words, at + Word.BEGIN);
        trace?.markGrant(this.node.clock.latest() - beginNs);
        const lease = new LeaseHandle(this.node, {
          index: words[at + Word.LEASE_INDEX]!,
          generation: words[at + Word.LEASE_GENERATION]!,
          offset: getNumber(words, at + Word.OFFSET),
          size: getNumber(words, at + Word.SIZE),
          rkey: words[at + Word.RKEY]!,
          headerRkey: words[at + Word.HEADER_RKEY]!,
          headerAddress: words[at + Word.HEADER_ADDRESS]!,
          writable: write,
          beginNs,
          unitNs: (flags & AcquireFlag.NoGc) === 0 ? getNumber(words, at + Word.GRANTED_TERM) : 0,
          local: false,
        });
        lease.trace = trace;
        return { status, lease, trace };
      },
      // Nobody has heard of this lease: it must not stay until its term, nor what was allocated for it for ever.
      (words, at) => {
        if (statusOf(words, at) !== AcquireStatus.Success) return;
        const index = words[at + Word.LEASE_INDEX]!;
        const generation = words[at + Word.LEASE_GENERATION]!;
        const allocated = (flags & AcquireFlag.WithAllocation) !== 0;
        this.end(index, generation, allocated ? ModifyFlag.WithDeallocation : 0).catch(() => {});
      },
      trace,
    );
  }

  async relinquish(lease: LeaseHandle, flags: number): Promise<RetCode> {
    if (lease.ended) return RetCode.NotFound;
    const how = flags & ~ModifyFlag.EnableTrace;
    if (how + (flags & ModifyFlag.EnableTrace) !== flags) return RetCode.Invalid;
    if (how !== 0 && how !== ModifyFlag.WithDeallocation && how !== ModifyFlag.NoRpc) return RetCode.Invalid;
    if (lease.local && how === ModifyFlag.WithDeallocation) return RetCode.Invalid;
    const tracer = Tracer.ifAsked(flags, ModifyFlag.EnableTrace);
    lease.ended = true;
    if (lease.local || how === ModifyFlag.NoRpc) return RetCode.Ok;
    const status = await this.end(lease.index, lease.generation, how, tracer);
    lease.traced(tracer);
    return retCodeOf(status);
  }

  extend(lease: LeaseHandle, ns: number, flags: number): MaybePromise<RetCode> {
    const units = unitsFor(lease, ns);
    if (units === 0 || (flags & ModifyFlag.EnableTrace) !== flags) return RetCode.Invalid;
    return this.extendAgain(lease, units, MAX_REQUESTS + 1, Tracer.ifAsked(flags, ModifyFlag.EnableTrace));
  }

  /** Each attempt that fails has met a message that extended the lease meanwhile, of which no more can be under way. */
  private extendAgain(
    lease: LeaseHandle,
    units: number,
    attempts: number,
    tracer: Tracer | undefined,
  ): MaybePromise<RetCode> {
    const outcome = this.extendUnits(lease, units, tracer);
    const next = (status: RetCode) =>
      status === RetCode.Retry && attempts > 1
        ? this.extendAgain(lease, units, attempts - 1, tracer)
        : status;
    return typeof outcome === 'number' ? next(outcome) : outcome.then(next);
  }

  /** Extend one-sided. One extension of a lease after the other: each swaps what the one before has left. */
  extendUnits(lease: LeaseHandle, units: number, tracer?: Tracer): MaybePromise<RetCode> {
    if (lease.extending !== undefined) {
      return lease.extending.then(() => this.extendUnits(lease, units, tracer));
    }
    const { node } = this;
    if (lease.ended) return RetCode.NotFound;
    if (lease.headerRkey === 0 || lease.units + units > MAX_UNITS) return RetCode.Invalid;
    if (node.pastDeadline(lease.deadlineNs - EXTENSION_NS)) {
      tracer?.mark('checked');
      lease.traced(tracer);
      return RetCode.LeaseLocalExpiredErr;
    }
    const buffer = node.buffers.get(8);
    const batch = node.takeBatch();
    const expected = lease.units;
    batch.prepareHeaderCas(lease, buffer, expected, expected + units, tracer);
    const outcome = batch.commit();
    const finish = (status: RetCode): MaybePromise<RetCode> => {
      const [foundUnits, foundAba] = buffer.words as unknown as [number, number];
      node.giveBatch(batch);
      node.buffers.put(buffer);
      lease.extending = undefined;
      // Its window is gone: so is the lease.
      if (status === RetCode.RdmaProtectionErr) return RetCode.NotFound;
      if (status !== RetCode.Ok) return status;
      if (foundAba !== lease.generation) return RetCode.NotFound;
      if (foundUnits === expected) {
        lease.units = expected + units;
        return RetCode.Ok;
      }
      // Extended by message meanwhile.
      lease.units = foundUnits;
      return RetCode.Retry;
    };
    if (typeof outcome === 'number') return finish(outcome);
    const extending = outcome.then(finish);
    lease.extending = extending;
    return extending;
  }

  async rpcExtend(lease: LeaseHandle, ns: number, flags: number): Promise<RetCode> {
    const more = unitsFor(lease, ns);
    if (lease.ended) return RetCode.NotFound;
    if (lease.local || more === 0 || (flags & ModifyFlag.EnableTrace) !== flags) return RetCode.Invalid;
    const tracer = Tracer.ifAsked(flags, ModifyFlag.EnableTrace);
    const { node } = this;
    if (node.pastDeadline(lease.deadlineNs)) return RetCode.LeaseLocalExpiredErr;
    const status = await node.call(
      MessageType.EXTEND,
      0,
      (words, at) => {
        nameLease(words, at, lease);
        words[at + Word.UNITS] = more;
      },
      (words, at) => {
        if (statusOf(words, at) === ReplyStatus.OK) lease.units = words[at + Word.UNITS]!;
        return statusOf(words, at);
      },
      undefined,
      tracer,
    );
    lease.traced(tracer);
    return retCodeOf(status);
  }

  async upgrade(lease: LeaseHandle, flags: number): Promise<AcquireStatus> {
    if ((flags & ModifyFlag.EnableTrace) !== flags) return AcquireStatus.InvalidErr;
    const tracer = Tracer.ifAsked(flags, ModifyFlag.EnableTrace);
    if (lease.ended || lease.local || lease.writable) return AcquireStatus.InvalidErr;
    const outcome = await this.node.call(
      MessageType.UPGRADE,
      0,
      (words, at) => nameLease(words, at, lease),
      (words, at) => {
        const status = statusOf(words, at) as AcquireStatus;
        if (status === AcquireStatus.Success) lease.upgraded(words[at + Word.RKEY]!);
        return status;
      },
      // Its old key is dead all the same.
      (words, at) => {
        if (statusOf(words, at) === AcquireStatus.Success) lease.upgraded(words[at + Word.RKEY]!);
      },
      tracer,
    );
    lease.traced(tracer);
    return outcome;
  }

  async allocate(request: AllocateRequest): Promise<AllocateResult> {
    const { size, hint = 0, keep = false } = request;
    const wrong = notNatural('size', size) ?? notNatural('hint', hint);
    if (wrong !== undefined) throw wrong;
    if (hint > 0xffff) return { status: AcquireStatus.InvalidErr, address: undefined };
    const { nodeId } = this.node.layout;
    return this.node.call(
      MessageType.ALLOCATE,
      keep ? AcquireFlag.KeepAllocation : 0,
      (words, at) => {
        putNumber(words, at + Word.SIZE, size);
        words[at + Word.HINT] = hint;
      },
      (words, at) => {
        const status = statusOf(words, at) as AcquireStatus;
        if (status !== AcquireStatus.Success) return { status, address: undefined };
        return { status, address: { nodeId, offset: getNumber(words, at + Word.OFFSET) } };
      },
      (words, at) => {
        if (statusOf(words, at) !== AcquireStatus.Success) return;
        this.deallocate(getNumber(words, at + Word.OFFSET), size).catch(() => {});
      },
    );
  }

  deallocate(offset: number, size: number): Promise<RetCode> {
    return this.aboutPiece(MessageType.DEALLOCATE, offset, (words, at) =>
      putNumber(words, at + Word.SIZE, size),
    );
  }

  keep(offset: number): Promise<RetCode> {
    return this.aboutPiece(MessageType.KEEP, offset, () => {});
  }

  grant(offset: number, identity: number): Promise<RetCode> {
    return this.aboutPiece(MessageType.GRANT, offset, (words, at) =>
      putNumber(words, at + Word.GRANTEE, identity),
    );
  }

  private async aboutPiece(
    type: number,
    offset: number,
    fill: (words: Uint32Array, at: number) => void,
  ): Promise<RetCode> {
    if (!Number.isSafeInteger(offset) || offset < 0) return RetCode.Invalid;
    const status = await this.node.call(
      type,
      0,
      (words, at) => {
        putNumber(words, at + Word.OFFSET, offset);
        fill(words, at);
      },
      statusOf,
    );
    return retCodeOf(status);
  }

  private end(index: number, generation: number, flags: number, tracer?: Tracer): Promise<number> {
    return this.node.call(
      MessageType.RELINQUISH,
      flags,
      (words, at) => {
        words[at + Word.LEASE_INDEX] = index;
        words[at + Word.LEASE_GENERATION] = generation;
      },
      statusOf,
      undefined,
      tracer,
    );
  }

  /** A lease that the memory node does not know of. */
  private madeUp(request: AcquireRequest, write: boolean): AcquireResult {
    const { offset = 0, size, termNs, flags = 0 } = request;
    const expires = (flags & AcquireFlag.NoGc) === 0;
    if ((flags & ~(AcquireFlag.NoRpc | AcquireFlag.NoGc)) !== 0 || (expires && termNs === 0)) {
      return { status: AcquireStatus.InvalidErr, lease: undefined };
    }
    const lease = new LeaseHandle(this.node, {
      index: 0,
      generation: 0,
      offset,
      size,
      rkey: 0,
      headerRkey: 0,
      headerAddress: 0,
      writable: write,
      beginNs: this.node.clock.latest(),
      unitNs: expires ? termNs : 0,
      local: true,
    });
    return { status: AcquireStatus.Success, lease };
  }
}

function notNatural(name: string, value: number): RangeError | undefined {
  if (Number.isSafeInteger(value) && value >= 0) return undefined;
  return new RangeError(`${name} must be an integer from 0, not ${value}`);
}

export function statusOf(words: Uint32Array, at: number): number {
  return words[at]! >>> 16;
}

export function nameLease(words: Uint32Array, at: number, lease: LeaseHandle): void {
  words[at + Word.LEASE_INDEX] = lease.index;
  words[at + Word.LEASE_GENERATION] = lease.generation;
}

/** Units that `ns` takes; 0 if the lease can't be extended by that. */
function unitsFor(lease: LeaseHandle, ns: number): number {
  if (!Number.isSafeInteger(ns) || ns < 1 || lease.unitNs === 0) return 0;
  const units = Math.ceil(ns / lease.unitNs);
  return units <= MAX_UNITS ? units : 0;
}

export function retCodeOf(status: number): RetCode {
  switch (status) {
    case ReplyStatus.OK:
      return RetCode.Ok;
    case ReplyStatus.NOT_FOUND:
      return RetCode.NotFound;
    case ReplyStatus.PROTECTION:
      return RetCode.RdmaProtectionErr;
    case ReplyStatus.EXECUTION:
      return RetCode.RdmaExecutionErr;
    default:
      return RetCode.Invalid;
  }
}
