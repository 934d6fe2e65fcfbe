import { AcquireStatus, type Lease, RetCode, type Trace } from '../api.js';
import { acquireError, PatronusError, PatronusErrorCode, retCodeError } from '../errors.js';
import type { OperationBatch } from './batch.js';
import type { NodeConnection } from './node-connection.js';
import type { ReadCache } from './read-cache.js';
import type { Tracer } from './tracer.js';

/** An automatic extension comes when no more than so many units are left, or so many ns. */
const NEAR_UNITS = 2;
const NEAR_NS = 100e3;
/** The longest step of automatic extensions, units. */
const MAX_STEP = 1 << 20;

/** What a grant says, as it came from the memory node. */
export interface Grant {
  readonly index: number;
  readonly generation: number;
  readonly offset: number;
  readonly size: number;
  /** 0 without a permission. */
  readonly rkey: number;
  /** 0 without a header. */
  readonly headerRkey: number;
  readonly headerAddress: number;
  readonly writable: boolean;
  /** Node clock, ns. */
  readonly beginNs: number;
  /** The term, ns, which is also the unit of extensions; 0 without expiry. */
  readonly unitNs: number;
  /** Made up by the client. */
  readonly local: boolean;
}

export class LeaseHandle implements Lease {
  readonly node: NodeConnection;
  readonly index: number;
  readonly generation: number;
  readonly offset: number;
  readonly size: number;
  readonly headerRkey: number;
  readonly headerAddress: number;
  readonly unitNs: number;
  readonly local: boolean;
  rkey: number;
  writable: boolean;
  deadlineNs = Number.POSITIVE_INFINITY;
  /** Relinquished by this client. */
  ended = false;
  /** What was read with RwFlag.WithCache. */
  cache: ReadCache | undefined;
  trace: Trace | undefined;
  /** The one-sided extension under way. */
  extending: Promise<RetCode> | undefined;
  private readonly beginNs: number;
  private unitsSoFar = 1;
  /** Units of the next automatic extension. */
  private step = 1;

  constructor(node: NodeConnection, grant: Grant) {
    this.node = node;
    this.index = grant.index;
    this.generation = grant.generation;
    this.offset = grant.offset;
    this.size = grant.size;
    this.rkey = grant.rkey;
    this.headerRkey = grant.headerRkey;
    this.headerAddress = grant.headerAddress;
    this.writable = grant.writable;
    this.beginNs = grant.beginNs;
    this.unitNs = grant.unitNs;
    this.local = grant.local;
    this.units = 1;
  }

  /** Units from the begin to the deadline. */
  get units(): number {
    return this.unitsSoFar;
  }

  set units(units: number) {
    this.unitsSoFar = units;
    if (this.unitNs > 0) this.deadlineNs = this.beginNs + units * this.unitNs;
  }

  upgraded(rkey: number): void {
    this.rkey = rkey;
    this.writable = true;
  }

  /** A call on this lease has ended, with these steps if it was traced. */
  traced(tracer: Tracer | undefined): void {
    if (tracer !== undefined) this.trace = tracer;
  }

  /** Extend by the current step if the term is nearly over; what comes of it shows in the deadline. */
  extendIfNear(): void {
    if (this.headerRkey === 0 || this.extending !== undefined) return;
    const left = this.deadlineNs - this.node.clock.latest();
    if (left > Math.max(NEAR_UNITS * this.unitNs, NEAR_NS)) return;
    const { step } = this;
    this.step = Math.min(2 * step, MAX_STEP);
    void this.node.requests.extendUnits(this, step);
  }

  get nodeId(): number {
    return this.node.layout.nodeId;
  }

  get live(): boolean {
    return !this.ended && this.node.failure === undefined && !this.node.pastDeadline(this.deadlineNs);
  }

  async read(offset: number, size: number): Promise<Uint8Array> {
    const buffer = this.node.buffers.get(Math.max(size, 1));
    try {
      const batch = this.node.takeBatch();
      await this.run('read', batch.prepareRead(this, buffer, 0, size, offset), batch);
      return buffer.bytes.slice(0, size);
    } finally {
      this.node.buffers.put(buffer);
    }
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    const buffer = this.node.buffers.get(Math.max(bytes.length, 1));
    try {
      buffer.bytes.set(bytes);
      const batch = this.node.takeBatch();
      await this.run('write', batch.prepareWrite(this, buffer, 0, bytes.length, offset), batch);
    } finally {
      this.node.buffers.put(buffer);
    }
  }

  async cas(offset: number, expected: bigint, desired: bigint): Promise<bigint> {
    const buffer = this.node.buffers.get(8);
    try {
      const batch = this.node.takeBatch();
      const status = batch.prepareCas(
        this,
        buffer,
        0,
        offset,
        low(expected),
        high(expected),
        low(desired),
        high(desired),
      );
      await this.run('cas', status, batch);
      return join(buffer.words);
    } finally {
      this.node.buffers.put(buffer);
    }
  }

  async faa(offset: number, addend: bigint): Promise<bigint> {
    const buffer = this.node.buffers.get(8);
    try {
      const batch = this.node.takeBatch();
      await this.run('faa', batch.prepareFaa(this, buffer, 0, offset, low(addend), high(addend)), batch);
      return join(buffer.words);
    } finally {
      this.node.buffers.put(buffer);
    }
  }

  async extend(ns: number, flags = 0): Promise<void> {
    const status = await this.node.requests.extend(this, ns, flags);
    if (status !== RetCode.Ok) throw retCodeError(status, 'extend');
  }

  async upgrade(flags = 0): Promise<void> {
    const status = await this.node.requests.upgrade(this, flags);
    if (status !== AcquireStatus.Success) throw acquireError(status, 'upgrade');
  }

  async relinquish(flags = 0): Promise<void> {
    const status = await this.node.requests.relinquish(this, flags);
    if (status !== RetCode.Ok) throw retCodeError(status, 'relinquish');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.ended) return;
    try {
      const status = await this.node.requests.relinquish(this, 0);
      if (status !== RetCode.Ok && status !== RetCode.NotFound) throw retCodeError(status, 'relinquish');
    } catch (error) {
      // The end of the connection has ended the lease too.
      const over: readonly unknown[] = [PatronusErrorCode.CLOSED, PatronusErrorCode.DISCONNECTED];
      if (!(error instanceof PatronusError) || !over.includes(error.code)) throw error;
    }
  }

  private async run(what: string, prepared: RetCode, batch: OperationBatch): Promise<void> {
    const status = prepared === RetCode.Ok ? await batch.commit() : prepared;
    this.node.giveBatch(batch);
    if (status !== RetCode.Ok) throw retCodeError(status, what);
  }
}

function low(value: bigint): number {
  return Number(BigInt.asUintN(32, value));
}

function high(value: bigint): number {
  return Number(BigInt.asUintN(32, value >> 32n));
}

function join(words: Uint32Array): bigint {
  return (BigInt(words[1]!) << 32n) | BigInt(words[0]!);
}
