/**
 * The public surface of the Patronus layer: flags, statuses and the shapes of its objects. `client/` and
 * `memory-node/` implement it.
 */

/** A value at once where the work is done already (loopback), else a promise of it. */
export type MaybePromise<T> = T | Promise<T>;

/** Status of an operation under a lease. */
export const RetCode = {
  Ok: 0,
  NotFound: 1,
  NoMem: 2,
  Retry: 3,
  CacheStale: 4,
  /** A malformed request: wrong lease, wrong owner, a batch that is full. */
  Invalid: 5,
  /** The NIC refused the access: outside the lease, wrong right, or the lease has ended. */
  RdmaProtectionErr: 6,
  /** The NIC could not execute the request: misaligned atomic, flushed with an earlier failure, peer gone. */
  RdmaExecutionErr: 7,
  /** The lease's term is over by this client's clock; nothing was sent. */
  LeaseLocalExpiredErr: 8,
  /** The connection ended while the request was under way: it may or may not have been executed. */
  OutcomeUnknown: 9,
} as const;
export type RetCode = (typeof RetCode)[keyof typeof RetCode];

/** Status of an acquire request. */
export const AcquireStatus = {
  Success: 0,
  /** The range is not within the memory node's leasable memory, or is empty. */
  AddressOutOfRangeErr: 1,
  /** No memory left to allocate. */
  NoMem: 2,
  /** No window or no place in the lease table left. */
  NoMw: 3,
  /** The NIC refused to bind the window. */
  BindErr: 4,
  /** A malformed request. */
  InvalidErr: 5,
  /** WithConflictDetect: another lease holds the lock with this key. */
  LockedErr: 6,
  /** UseMR: the NIC has no room for another memory region. */
  RegMrErr: 7,
  /** The memory node's policy does not allow it to this client. */
  DeniedErr: 8,
} as const;
export type AcquireStatus = (typeof AcquireStatus)[keyof typeof AcquireStatus];

/** How a lease is acquired. */
export const AcquireFlag = {
  /** No expiry: only relinquish, or the end of the connection, ends the lease. */
  NoGc: 1,
  /** Allocate `size` bytes, then grant the permission on them. */
  WithAllocation: 2,
  /**
   * Exclusive: take the lock with the key `lockKey`, or get LockedErr. It is free again when the lease ends, in whatever way:
   * so a lock does not outlive the client that holds it.
   */
  WithConflictDetect: 4,
  /** No header: the lease can't be extended one-sided, and takes one window less. */
  NoBindPR: 8,
  /** No permission: a lease that stands for its lock, or its term, alone. */
  NoBindAny: 16,
  /** Register a memory region for this lease instead of binding a window: slow, to compare. */
  UseMR: 32,
  /** What is allocated outlives this client, as after keepAllocation(). */
  KeepAllocation: 64,
  /**
   * A lease made up by this client: the memory node does not hear of it and grants nothing. For accesses with
   * RwFlag.UseUniversalRkey.
   */
  NoRpc: 128,
  /** Take the times of the acquire's steps: see {@link AcquireResult.trace}. */
  EnableTrace: 256,
} as const;

/** How a lease is relinquished; extensions and upgrades take EnableTrace only. */
export const ModifyFlag = {
  /**
   * Free the piece of memory that begins where this lease does. Invalid if there is no such piece or the client may not free
   * it; the lease has ended all the same.
   */
  WithDeallocation: 1,
  /** Only this client forgets the lease: it is over for it, and ends at the memory node by its term. */
  NoRpc: 2,
  /** Take the times of the call's steps: see {@link Lease.trace}. */
  EnableTrace: 4,
} as const;

/** How memory is accessed. */
export const RwFlag = {
  /** Leave it to the memory node and the NIC to refuse an access after the term. */
  NoLocalExpireCheck: 1,
  /**
   * Extend the lease by the way, one-sided, when its term is nearly over: when no more is left of it than two terms as first
   * asked for, or 100 us if that is more. Each extension is twice as long as the one before.
   */
  WithAutoExtend: 2,
  /**
   * Use the key of all memory instead of the lease's: no protection at all, to compare. Invalid unless the memory node
   * gives that key away (`bypass`).
   */
  UseUniversalRkey: 4,
  /**
   * A single read (not in a batch): from what was read under this lease before, if it is still remembered. The 16 ranges used last
   * are, each of at most 4 KiB; not what this client has written under the lease since. Others' writes are not noticed.
   */
  WithCache: 8,
  /** Take the times of the access's steps, in a batch those of the whole batch: see {@link Lease.trace}. */
  EnableTrace: 16,
} as const;

/** A step of a call that is traced. */
export interface TraceStep {
  /**
   * Of what is asked by message: `written`, the request is in its message buffer (until then it waited for one); `posted`, the NIC has it;
   * `granted`, of an acquire, the memory node began to carry it out, by its own clock and so good to within epsilonNs; `answered`, the reply has
   * come, before which what was asked for was done: windows are bound or unbound. A two-sided access is `checked` first, and has the
   * other steps for each of its messages.
   * Of a one-sided access, extension or batch: `checked`, the term was looked at by this client's clock; `posted`, the NIC has it, for a second time if a
   * queue pair broke before it was executed; `completed`, its completion was taken. An extension that one by message has overtaken tries again, from `checked`.
   */
  readonly name: 'written' | 'posted' | 'granted' | 'answered' | 'checked' | 'completed';
  /** After the begin of the call, ns. */
  readonly ns: number;
}

/** The steps of one call, made with EnableTrace, in the order of their times. */
export interface Trace {
  /** When the call was made, this client's clock, ns. */
  readonly beginNs: number;
  readonly steps: readonly TraceStep[];
}

/** Where memory is: a node and a byte offset below 2^48 in what that node exposes. */
export interface GlobalAddress {
  readonly nodeId: number;
  readonly offset: number;
}

/** The memory of a node as clients see it: the lease buffer begins at 0, the allocation buffer follows. Bytes. */
export interface NodeLayout {
  readonly nodeId: number;
  readonly leaseBytes: number;
  readonly allocOffset: number;
  readonly allocBytes: number;
  /** Another number for each start of a memory node: with it goes all that the node held. */
  readonly incarnation: number;
}

export interface AcquireRequest {
  /** Default: the first node of the client. */
  readonly nodeId?: number;
  /** Start of the range in the node's memory; left out with AcquireFlag.WithAllocation. */
  readonly offset?: number;
  /** Bytes, >= 1. */
  readonly size: number;
  /** The term in ns, >= 1; ignored with NoGc. It begins when the memory node grants. */
  readonly termNs: number;
  /** With WithAllocation: which allocator, of those that the node was started with. Default 0, the general one. */
  readonly hint?: number;
  /** With WithConflictDetect: key of the lock, an integer from 0 below 2^53. Default: `offset`. */
  readonly lockKey?: number;
  /** AcquireFlag bits. */
  readonly flags?: number;
}

/** Client memory that the NIC can move bytes to and from. 64-byte aligned, zero-filled when first handed out. */
export interface RdmaBuffer {
  readonly bytes: Uint8Array;
  /** The same memory as 32-bit words. */
  readonly words: Uint32Array;
  readonly size: number;
}

/**
 * A permission on a range of remote memory. Offsets are relative to the lease's start. The methods throw a
 * PatronusError when the operation fails; the status-returning forms are those of {@link PatronusClient}.
 */
export interface Lease extends AsyncDisposable {
  readonly nodeId: number;
  /** Start of the range in the node's memory. */
  readonly offset: number;
  readonly size: number;
  /** Changes with an upgrade. */
  readonly writable: boolean;
  /** On the memory node's clock, ns; Infinity with NoGc. Changes with an extension. */
  readonly deadlineNs: number;
  /**
   * Whether the term is still running by this client's clock, clock error included; false once this client knows that its
   * connection is lost, which ends its leases.
   */
  readonly live: boolean;
  /** Of the last call on this lease, its acquire included, that was made with EnableTrace and has ended; undefined without one. */
  readonly trace?: Trace | undefined;
  read(offset: number, size: number): Promise<Uint8Array>;
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /** Returns the old value; the swap happened if it equals `expected`. */
  cas(offset: number, expected: bigint, desired: bigint): Promise<bigint>;
  /** Returns the old value. */
  faa(offset: number, addend: bigint): Promise<bigint>;
  /** End the term at least `ns` later, by one CAS on the lease's header: the memory node's thread takes no part. */
  extend(ns: number, flags?: number): Promise<void>;
  /** A read lease becomes a write lease, or nothing changes. */
  upgrade(flags?: number): Promise<void>;
  /** Give the permission back. Also what `await using` does, where an ended lease is no error. */
  relinquish(flags?: number): Promise<void>;
}

export interface AllocateRequest {
  /** Default: the first node of the client. */
  readonly nodeId?: number;
  /** Bytes, >= 1. */
  readonly size: number;
  /** Which allocator, of those that the node was started with. Default 0, the general one. */
  readonly hint?: number;
  /** It outlives this client, as after keepAllocation(). Default false: it is freed when this client goes. */
  readonly keep?: boolean;
}

export interface AllocateResult {
  readonly status: AcquireStatus;
  readonly address: GlobalAddress | undefined;
}

export interface AcquireResult {
  readonly status: AcquireStatus;
  readonly lease: Lease | undefined;
  /** With AcquireFlag.EnableTrace: the steps that were taken. Not for a request that was answered by this client itself. */
  readonly trace?: Trace | undefined;
}

/**
 * Operations on one node, sent with one doorbell and executed in order. Fill, commit, read the buffers, fill again:
 * a batch is reused, and belongs to its caller. After a failure the ones behind the failed one were not executed.
 */
export interface Batch {
  /** Operations prepared so far. */
  readonly count: number;
  /** After a commit that failed: how many operations, from the first, took effect. */
  readonly executed: number;
  /**
   * Each returns Ok, or Invalid if the operation was not taken: the batch is full or under way, the lease is of another
   * node or has been relinquished, the buffer is too small. `offset` is in the lease, `bufferOffset` in the buffer, bytes.
   * Bounds of the lease are the NIC's to check.
   */
  prepareRead(
    lease: Lease,
    buffer: RdmaBuffer,
    bufferOffset: number,
    size: number,
    offset: number,
    flags?: number,
  ): RetCode;
  prepareWrite(
    lease: Lease,
    buffer: RdmaBuffer,
    bufferOffset: number,
    size: number,
    offset: number,
    flags?: number,
  ): RetCode;
  /** 8 bytes at an 8-byte aligned offset; the old value lands in the buffer. Values as 32-bit halves. */
  prepareCas(
    lease: Lease,
    buffer: RdmaBuffer,
    bufferOffset: number,
    offset: number,
    expectedLo: number,
    expectedHi: number,
    desiredLo: number,
    desiredHi: number,
    flags?: number,
  ): RetCode;
  prepareFaa(
    lease: Lease,
    buffer: RdmaBuffer,
    bufferOffset: number,
    offset: number,
    addLo: number,
    addHi: number,
    flags?: number,
  ): RetCode;
  /**
   * Send without waiting, so that other batches can be under way at the same time; commit() then only waits. Ok, or why
   * nothing was sent, as commit() says it. The batch and its buffers must be left alone until the commit. Batches that are under way
   * together are executed in the order of their posting, unless one of them fails.
   */
  post(nowNs?: number): RetCode;
  /**
   * Send, unless it was posted, and wait; the batch is empty again. Ok only if every operation succeeded. LeaseLocalExpiredErr, with nothing
   * sent, if the term of one of the leases is over by this client's clock. `nowNs`: what the client's now() has said since
   * the caller last waited for anything, which spares another reading of the clock; the NIC looks at the terms anyway.
   */
  commit(nowNs?: number): MaybePromise<RetCode>;
  /** Forget what was prepared. */
  reset(): void;
}

/** What a compute node holds: connections to memory nodes. */
export interface PatronusClient extends AsyncDisposable {
  readonly nodes: readonly NodeLayout[];
  /** Bound on the error between this client's clock and the memory nodes', ns. */
  readonly epsilonNs: number;
  /** This client's monotonic clock, ns. */
  now(): number;
  /** A read lease. Never rejects for what the memory node answers: see the status. */
  getRlease(request: AcquireRequest): Promise<AcquireResult>;
  /** A lease to read and write. */
  getWlease(request: AcquireRequest): Promise<AcquireResult>;
  /** As getRlease/getWlease, throwing a PatronusError where the status is not Success. */
  readLease(request: AcquireRequest): Promise<Lease>;
  writeLease(request: AcquireRequest): Promise<Lease>;
  relinquish(lease: Lease, flags?: number): Promise<RetCode>;
  /**
   * End the lease's term at least `ns` later, in whole units of the term that was first asked for; by one CAS on the
   * lease's header. Invalid without a header. LeaseLocalExpiredErr, with nothing sent, when it is too late for it;
   * NotFound if the memory node has ended the lease.
   */
  extend(lease: Lease, ns: number, flags?: number): MaybePromise<RetCode>;
  /** The same by a message, which also extends leases without a header. */
  rpcExtend(lease: Lease, ns: number, flags?: number): Promise<RetCode>;
  /**
   * A read lease becomes a write lease on the same range for the same term, or nothing changes. No access under the lease
   * may be under way: its old key ends by that.
   */
  upgrade(lease: Lease, flags?: number): Promise<AcquireStatus>;
  /** Allocate memory, 64-byte aligned, without a permission on it. Under the policy `owner` it is zero-filled. */
  alloc(request: AllocateRequest): Promise<AllocateResult>;
  /**
   * Free a piece of memory: its start and the size that it was allocated with. Invalid if there is no such piece or this client
   * may not free it. It is used again when the last lease that lies in it has ended.
   */
  dealloc(address: GlobalAddress, size: number): Promise<RetCode>;
  /** The piece that this client has allocated and that begins there outlives it. Invalid if there is none. */
  keepAllocation(address: GlobalAddress): Promise<RetCode>;
  /**
   * Let another client use the piece that this client has allocated and that begins there, by its identity at that node;
   * without one everybody. Of effect under the policy `owner`.
   */
  grant(address: GlobalAddress, identity?: number): Promise<RetCode>;
  /** Who this client is to a node (default: the first), as its link vouches. A new connection is somebody new. */
  identity(nodeId?: number): number;
  read(lease: Lease, buffer: RdmaBuffer, size: number, offset: number, flags?: number): MaybePromise<RetCode>;
  write(
    lease: Lease,
    buffer: RdmaBuffer,
    size: number,
    offset: number,
    flags?: number,
  ): MaybePromise<RetCode>;
  cas(
    lease: Lease,
    buffer: RdmaBuffer,
    offset: number,
    expectedLo: number,
    expectedHi: number,
    desiredLo: number,
    desiredHi: number,
    flags?: number,
  ): MaybePromise<RetCode>;
  faa(
    lease: Lease,
    buffer: RdmaBuffer,
    offset: number,
    addLo: number,
    addHi: number,
    flags?: number,
  ): MaybePromise<RetCode>;
  /**
   * The two-sided versions: the memory node's thread carries them out, checking the lease as strictly as the NIC does, with the
   * same statuses. What is longer than a message is split; each part of 32 bytes is carried out by itself. No access flags but
   * NoLocalExpireCheck and EnableTrace. They reject with TIMEOUT or DISCONNECTED where there is no answer.
   */
  rpcRead(lease: Lease, buffer: RdmaBuffer, size: number, offset: number, flags?: number): Promise<RetCode>;
  rpcWrite(lease: Lease, buffer: RdmaBuffer, size: number, offset: number, flags?: number): Promise<RetCode>;
  rpcCas(
    lease: Lease,
    buffer: RdmaBuffer,
    offset: number,
    expectedLo: number,
    expectedHi: number,
    desiredLo: number,
    desiredHi: number,
    flags?: number,
  ): Promise<RetCode>;
  rpcFaa(
    lease: Lease,
    buffer: RdmaBuffer,
    offset: number,
    addLo: number,
    addHi: number,
    flags?: number,
  ): Promise<RetCode>;
  /**
   * Have the memory node copy `size` bytes from the range of one lease to that of another, which may overlap. In parts of 16 KiB:
   * after a failure some may have been copied.
   */
  remoteMemcpy(from: Lease, fromOffset: number, to: Lease, toOffset: number, size: number): Promise<RetCode>;
  /**
   * Let the queue pairs to a node (default: the first) admit reads only, whatever the leases allow, or everything again. A
   * write or an atomic then gives RdmaExecutionErr. Operations under way are waited for.
   */
  setReadOnly(readOnly: boolean, nodeId?: number): Promise<void>;
  /** Bring the queue pair in service back to its first state, on both sides. A spare does its work meanwhile. */
  reinitialise(nodeId?: number): Promise<void>;
  /** A batch for operations on one node (default: the first). At most 16 operations. */
  createBatch(nodeId?: number): Batch;
  /** Registered memory of this client, at least `size` bytes; give it back with putRdmaBuffer. */
  getRdmaBuffer(size: number): RdmaBuffer;
  putRdmaBuffer(buffer: RdmaBuffer): void;
  /**
   * From now on do not connect again to the node (default: the first) if it has started anew meanwhile: whoever keeps data in
   * its memory must not take what is there then for it. Acquires reject with ERR_PATRONUS_DISCONNECTED.
   */
  requireMemory(nodeId?: number): void;
  close(): Promise<void>;
}
