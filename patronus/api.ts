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
} as const;
export type AcquireStatus = (typeof AcquireStatus)[keyof typeof AcquireStatus];

export const AcquireFlag = {
  /** No expiry: only relinquish, or the end of the connection, ends the lease. */
  NoGc: 1,
  /** Allocate `size` bytes, then grant the permission on them. */
  WithAllocation: 2,
} as const;

export const ModifyFlag = {
  /**
   * Free the piece of memory that this client allocated and that begins where this lease does. Invalid if there is no
   * such piece; the lease has ended all the same.
   */
  WithDeallocation: 1,
} as const;

export const RwFlag = {
  /** Leave it to the memory node and the NIC to refuse an access after the term. */
  NoLocalExpireCheck: 1,
} as const;

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
  readonly writable: boolean;
  /** On the memory node's clock, ns; Infinity with NoGc. */
  readonly deadlineNs: number;
  /** Whether the term is still running by this client's clock, clock error included. */
  readonly live: boolean;
  read(offset: number, size: number): Promise<Uint8Array>;
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /** Returns the old value; the swap happened if it equals `expected`. */
  cas(offset: number, expected: bigint, desired: bigint): Promise<bigint>;
  /** Returns the old value. */
  faa(offset: number, addend: bigint): Promise<bigint>;
  /** Give the permission back. Also what `await using` does, where an ended lease is no error. */
  relinquish(flags?: number): Promise<void>;
}

export interface AcquireResult {
  readonly status: AcquireStatus;
  readonly lease: Lease | undefined;
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
   * Send and wait; the batch is empty again. Ok only if every operation succeeded. LeaseLocalExpiredErr, with nothing
   * sent, if the term of one of the leases is over by this client's clock.
   */
  commit(): MaybePromise<RetCode>;
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
  /** A batch for operations on one node (default: the first). At most 16 operations. */
  createBatch(nodeId?: number): Batch;
  /** Registered memory of this client, at least `size` bytes; give it back with putRdmaBuffer. */
  getRdmaBuffer(size: number): RdmaBuffer;
  putRdmaBuffer(buffer: RdmaBuffer): void;
  close(): Promise<void>;
}
