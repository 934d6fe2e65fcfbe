import { type Lease, RetCode } from '../api.js';
import { PatronusError, PatronusErrorCode, retCodeError } from '../errors.js';
import type { NodeConnection } from './node-connection.js';

/** What a grant says, as it came from the memory node. */
export interface Grant {
  readonly index: number;
  readonly generation: number;
  readonly offset: number;
  readonly size: number;
  readonly rkey: number;
  readonly writable: boolean;
  /** Node clock, ns; Infinity without expiry. */
  readonly deadlineNs: number;
}

export class LeaseHandle implements Lease {
  readonly node: NodeConnection;
  readonly index: number;
  readonly generation: number;
  readonly offset: number;
  readonly size: number;
  readonly rkey: number;
  readonly writable: boolean;
  readonly deadlineNs: number;
  /** Relinquished by this client. */
  ended = false;

  constructor(node: NodeConnection, grant: Grant) {
    this.node = node;
    this.index = grant.index;
    this.generation = grant.generation;
    this.offset = grant.offset;
    this.size = grant.size;
    this.rkey = grant.rkey;
    this.writable = grant.writable;
    this.deadlineNs = grant.deadlineNs;
  }

  get nodeId(): number {
    return this.node.layout.nodeId;
  }

  get live(): boolean {
    return !this.ended && !this.node.pastDeadline(this.deadlineNs);
  }

  async read(offset: number, size: number): Promise<Uint8Array> {
    const buffer = this.node.buffers.get(Math.max(size, 1));
    try {
      const batch = this.node.newBatch();
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
      const batch = this.node.newBatch();
      await this.run('write', batch.prepareWrite(this, buffer, 0, bytes.length, offset), batch);
    } finally {
      this.node.buffers.put(buffer);
    }
  }

  async cas(offset: number, expected: bigint, desired: bigint): Promise<bigint> {
    const buffer = this.node.buffers.get(8);
    try {
      const batch = this.node.newBatch();
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
      const batch = this.node.newBatch();
      await this.run('faa', batch.prepareFaa(this, buffer, 0, offset, low(addend), high(addend)), batch);
      return join(buffer.words);
    } finally {
      this.node.buffers.put(buffer);
    }
  }

  async relinquish(flags = 0): Promise<void> {
    const status = await this.node.relinquish(this, flags);
    if (status !== RetCode.Ok) throw retCodeError(status, 'relinquish');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.ended) return;
    try {
      const status = await this.node.relinquish(this, 0);
      if (status !== RetCode.Ok && status !== RetCode.NotFound) throw retCodeError(status, 'relinquish');
    } catch (error) {
      // The end of the connection has ended the lease too.
      const over: readonly unknown[] = [PatronusErrorCode.CLOSED, PatronusErrorCode.DISCONNECTED];
      if (!(error instanceof PatronusError) || !over.includes(error.code)) throw error;
    }
  }

  private async run(
    what: string,
    prepared: RetCode,
    batch: { commit(): RetCode | Promise<RetCode> },
  ): Promise<void> {
    const status = prepared === RetCode.Ok ? await batch.commit() : prepared;
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
