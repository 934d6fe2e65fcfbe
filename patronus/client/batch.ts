import { Opcode, type QueuePair, SendFlag } from '../../native/index.js';
import { type Batch, type Lease, type MaybePromise, type RdmaBuffer, RetCode, RwFlag } from '../api.js';
import { RegisteredBuffer } from './buffers.js';
import { LeaseHandle } from './lease.js';
import type { NodeConnection } from './node-connection.js';
import { Tracer } from './tracer.js';

export const MAX_BATCH = 16;

// A module's own constants are part of its compiled code; imported and exported ones are loaded and checked at each use.
const MOST = MAX_BATCH;
const { RDMA_READ, RDMA_WRITE, CMP_AND_SWP, FETCH_AND_ADD } = Opcode;
const { SIGNALED } = SendFlag;
const { Ok, Invalid, LeaseLocalExpiredErr } = RetCode;
const { NoLocalExpireCheck, WithAutoExtend, UseUniversalRkey, EnableTrace } = RwFlag;

/** What an operation is made of: 32-bit words, and addresses, which have 48 bits. */
const WORDS = 8;
const OPCODE = 0;
const LKEY = 1;
const LENGTH = 2;
const RKEY = 3;
const COMPARE_ADD = 4;
const SWAP = 6;
const ADDRESSES = 2;
const LOCAL = 0;
const REMOTE = 1;

/** Operations recorded until commit; only then do they go into the ring of whichever pair is in service. */
export class OperationBatch implements Batch {
  count = 0;
  executed = 0;
  /** Outcome of the commit under way; undefined until it is known. */
  outcome: RetCode | undefined;
  /** Told when the outcome is known, if the commit had to wait for it. */
  resolve: ((status: RetCode) => void) | undefined;
  /** If one of the operations is traced. */
  tracer: Tracer | undefined;
  private readonly traced: LeaseHandle[] = [];
  private readonly node: NodeConnection;
  /** The first deadline that the operations depend on by this client's own check. */
  private deadlineNs = Number.POSITIVE_INFINITY;
  /** Posted, and its outcome not told yet. */
  private submitted = false;
  private readonly words = new Uint32Array(MOST * WORDS);
  private readonly addresses = new Float64Array(MOST * ADDRESSES);

  constructor(node: NodeConnection) {
    this.node = node;
  }

  prepareRead(
    lease: Lease,
    buffer: RdmaBuffer,
    bufferOffset: number,
    size: number,
    offset: number,
    flags = 0,
  ): RetCode {
    return this.prepare(RDMA_READ, lease, buffer, bufferOffset, size, offset, flags);
  }

  prepareWrite(
    lease: Lease,
    buffer: RdmaBuffer,
    bufferOffset: number,
    size: number,
    offset: number,
    flags = 0,
  ): RetCode {
    return this.prepare(RDMA_WRITE, lease, buffer, bufferOffset, size, offset, flags);
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
    const status = this.prepare(CMP_AND_SWP, lease, buffer, bufferOffset, 8, offset, flags);
    if (status !== Ok) return status;
    this.setOperands(expectedLo, expectedHi, desiredLo, desiredHi);
    return Ok;
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
    const status = this.prepare(FETCH_AND_ADD, lease, buffer, bufferOffset, 8, offset, flags);
    if (status !== Ok) return status;
    this.setOperands(addLo, addHi, 0, 0);
    return Ok;
  }

  /** A CAS on the header of a lease of this node: the only operation of its batch. Its term has been looked at already. */
  prepareHeaderCas(
    lease: LeaseHandle,
    buffer: RegisteredBuffer,
    units: number,
    newUnits: number,
    tracer: Tracer | undefined,
  ): void {
    this.add(CMP_AND_SWP, buffer.lkey, buffer.address, 8, lease.headerRkey, lease.headerAddress);
    this.setOperands(units, lease.generation, newUnits, lease.generation);
    if (tracer === undefined) return;
    this.tracer = tracer;
    this.traced.push(lease);
  }

  /** Whether the term of one of the leases that it looks at may be over. `nowNs`: see {@link Batch.commit}. */
  pastDeadline(nowNs?: number): boolean {
    return this.deadlineNs !== Number.POSITIVE_INFINITY && this.node.pastDeadline(this.deadlineNs, nowNs);
  }

  post(nowNs?: number): RetCode {
    if (this.submitted) return Invalid;
    this.executed = 0;
    if (this.count === 0) return Ok;
    if (this.pastDeadline(nowNs)) {
      this.tracer?.mark('checked');
      if (this.tracer !== undefined) this.handOver();
      this.reset();
      return LeaseLocalExpiredErr;
    }
    this.tracer?.mark('checked');
    this.submitted = true;
    this.outcome = undefined;
    this.node.submit(this);
    return Ok;
  }

  commit(nowNs?: number): MaybePromise<RetCode> {
    if (!this.submitted) {
      const status = this.post(nowNs);
      if (status !== Ok || this.count === 0) return status;
    } else if (this.resolve !== undefined) return Invalid;
    if (this.outcome === undefined) this.node.await(this);
    return this.outcome !== undefined ? this.finish() : this.later();
  }

  reset(): void {
    if (this.submitted) throw new TypeError('the batch is under way');
    this.count = 0;
    this.deadlineNs = Number.POSITIVE_INFINITY;
    if (this.tracer === undefined) return;
    this.tracer = undefined;
    this.traced.length = 0;
  }

  /** The NIC or the connection has spoken: the first `executed` operations took effect. */
  complete(outcome: RetCode, executed: number): void {
    this.outcome = outcome;
    this.executed = executed;
    this.tracer?.mark('completed');
    const { resolve } = this;
    if (resolve === undefined) return;
    this.resolve = undefined;
    resolve(this.finish());
  }

  /** Write the work requests into a ring with room for them; the last one is signalled. */
  writeTo(qp: QueuePair, wrIdBase: number): void {
    const { words, addresses } = this;
    const last = this.count - 1;
    for (let i = 0; i <= last; i++) {
      const wrId = wrIdBase | i;
      const flags = i === last ? SIGNALED : 0;
      const at = i * WORDS;
      const local = addresses[i * ADDRESSES + LOCAL]!;
      const remote = addresses[i * ADDRESSES + REMOTE]!;
      const lkey = words[at + LKEY]!;
      const rkey = words[at + RKEY]!;
      const opcode = words[at + OPCODE]!;
      if (opcode === RDMA_READ) {
        qp.postRead(wrId, flags, local, lkey, words[at + LENGTH]!, remote, rkey);
      } else if (opcode === RDMA_WRITE) {
        qp.postWrite(wrId, flags, local, lkey, words[at + LENGTH]!, remote, rkey);
      } else {
        const lo = words[at + COMPARE_ADD]!;
        const hi = words[at + COMPARE_ADD + 1]!;
        if (opcode === FETCH_AND_ADD) qp.postFaa(wrId, flags, local, lkey, remote, rkey, lo, hi);
        else
          qp.postCas(
            wrId,
            flags,
            local,
            lkey,
            remote,
            rkey,
            lo,
            hi,
            words[at + SWAP]!,
            words[at + SWAP + 1]!,
          );
      }
    }
  }

  /** By itself: see givenBack() in client.ts. */
  private later(): Promise<RetCode> {
    return new Promise<RetCode>((resolve) => {
      this.resolve = resolve;
    });
  }

  private finish(): RetCode {
    this.submitted = false;
    if (this.tracer !== undefined) this.handOver();
    this.reset();
    return this.outcome!;
  }

  private record(lease: LeaseHandle): void {
    this.tracer ??= new Tracer();
    this.traced.push(lease);
  }

  private handOver(): void {
    for (let i = 0; i < this.traced.length; i++) this.traced[i]!.trace = this.tracer;
  }

  private prepare(
    opcode: number,
    lease: Lease,
    buffer: RdmaBuffer,
    bufferOffset: number,
    size: number,
    offset: number,
    flags: number,
  ): RetCode {
    if (this.count === MOST || this.submitted) return Invalid;
    if (!(lease instanceof LeaseHandle) || lease.node !== this.node) return Invalid;
    if (!(buffer instanceof RegisteredBuffer) || buffer.pool !== this.node.buffers) return Invalid;
    // A neighbour in the slab must not be read or overwritten by mistake: the NIC sees only the slab.
    if (bufferOffset >>> 0 !== bufferOffset || size >>> 0 !== size || bufferOffset + size > buffer.size) {
      return Invalid;
    }
    // Before the start of the node's memory there is no address; such an access is out of every lease's bounds.
    const remote = lease.offset + offset;
    if (!Number.isSafeInteger(remote)) return Invalid;
    let { rkey } = lease;
    if ((flags & UseUniversalRkey) !== 0) {
      rkey = this.node.universalRkey;
      if (rkey === 0) return Invalid;
    }
    if (opcode !== RDMA_READ) lease.cache?.forget(offset, size);
    if ((flags & WithAutoExtend) !== 0) lease.extendIfNear();
    if ((flags & NoLocalExpireCheck) === 0) {
      if (lease.ended) return Invalid;
      if (lease.deadlineNs < this.deadlineNs) this.deadlineNs = lease.deadlineNs;
    }
    this.add(opcode, buffer.lkey, buffer.address + bufferOffset, size, rkey, remote);
    if ((flags & EnableTrace) !== 0) this.record(lease);
    return Ok;
  }

  private add(
    opcode: number,
    lkey: number,
    local: number,
    length: number,
    rkey: number,
    remote: number,
  ): void {
    const { words, addresses } = this;
    const i = this.count++;
    const at = i * WORDS;
    words[at + OPCODE] = opcode;
    words[at + LKEY] = lkey;
    words[at + LENGTH] = length;
    words[at + RKEY] = rkey;
    addresses[i * ADDRESSES + LOCAL] = local;
    addresses[i * ADDRESSES + REMOTE] = remote;
  }

  /** Of the atomic that was added last. */
  private setOperands(lo: number, hi: number, swapLo: number, swapHi: number): void {
    const { words } = this;
    const at = (this.count - 1) * WORDS;
    words[at + COMPARE_ADD] = lo;
    words[at + COMPARE_ADD + 1] = hi;
    words[at + SWAP] = swapLo;
    words[at + SWAP + 1] = swapHi;
  }
}
