import type { Pacing } from '../../kv/pacing.js';
import {
  AcquireFlag,
  type AcquireRequest,
  type AcquireResult,
  AcquireStatus,
  type AllocateRequest,
  type AllocateResult,
  type Batch,
  type GlobalAddress,
  type Lease,
  type MaybePromise,
  ModifyFlag,
  type NodeLayout,
  type PatronusClient,
  type RdmaBuffer,
  RetCode,
} from '../../patronus/index.js';
import { seeded } from './random.js';
import type { Scheduler } from './scheduler.js';

/** The superblock and a gap: a range that spans it is refused. */
const LEASE_BYTES = 4096;
const ALLOC_OFFSET = 65536;

export interface FakeOperation {
  readonly kind: 'read' | 'write' | 'cas' | 'faa';
  readonly lease: FakeLease;
  readonly buffer: RdmaBuffer;
  readonly bufferOffset: number;
  readonly size: number;
  /** In the node's memory. */
  readonly address: number;
  readonly words: readonly [number, number, number, number];
}

/**
 * What a fault hook can make of an operation: refuse it as the NIC does; lose the connection before or after its
 * execution, so that the client sees the same in both cases.
 */
export type Fault = 'refuse' | 'lose-before' | 'lose-after' | undefined;

/** A memory node in plain memory with a virtual clock, that refuses what a NIC with ended leases would refuse. */
export class FakeNode {
  readonly layout: NodeLayout;
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  readonly allocated = new Map<number, number>();
  /** Of those, what belongs to a client that has not told to keep it. */
  readonly unkept = new Set<number>();
  clockNs = 1e9;
  grants = 0;
  commits = 0;
  liveLeases = new Set<FakeLease>();
  /** Asked before each operation. */
  fault: (operation: FakeOperation) => Fault = () => undefined;

  readonly #locks = new Map<number, FakeLease>();

  constructor(allocBytes: number) {
    this.layout = {
      nodeId: 0,
      leaseBytes: LEASE_BYTES,
      allocOffset: ALLOC_OFFSET,
      allocBytes,
      incarnation: 1,
    };
    const memory = new ArrayBuffer(ALLOC_OFFSET + allocBytes);
    this.bytes = new Uint8Array(memory);
    this.words = new Uint32Array(memory);
  }

  connect(scheduler?: Scheduler): FakeClient {
    return new FakeClient(this, scheduler);
  }

  get allocatedBytes(): number {
    let sum = 0;
    for (const size of this.allocated.values()) sum += size;
    return sum;
  }

  acquire(request: AcquireRequest, writable: boolean, owner?: FakeClient): AcquireResult {
    this.grants++;
    const flags = request.flags ?? 0;
    let offset = request.offset ?? 0;
    if (flags & AcquireFlag.WithAllocation) {
      offset = this.allocate(request.size);
      if (offset < 0) return { status: AcquireStatus.NoMem, lease: undefined };
    } else if (
      request.size < 1 ||
      offset + request.size > (offset < ALLOC_OFFSET ? LEASE_BYTES : this.bytes.length)
    ) {
      return { status: AcquireStatus.AddressOutOfRangeErr, lease: undefined };
    }
    if (flags & AcquireFlag.WithConflictDetect) {
      const holder = this.#locks.get(offset);
      if (holder?.live) return { status: AcquireStatus.LockedErr, lease: undefined };
    }
    const deadline =
      flags & AcquireFlag.NoGc ? Number.POSITIVE_INFINITY : this.clockNs + Math.max(1, request.termNs);
    const lease = new FakeLease(this, offset, request.size, writable, deadline, owner);
    this.liveLeases.add(lease);
    if (flags & AcquireFlag.WithConflictDetect) this.#locks.set(offset, lease);
    return { status: AcquireStatus.Success, lease };
  }

  /** First fit in address order. */
  allocate(size: number): number {
    const rounded = Math.ceil(size / 64) * 64;
    let at = this.layout.allocOffset;
    for (const [offset, length] of [...this.allocated].sort((a, b) => a[0] - b[0])) {
      if (offset - at >= rounded) break;
      at = offset + length;
    }
    if (at + rounded > this.bytes.length) return -1;
    this.allocated.set(at, rounded);
    return at;
  }

  /** Whether the NIC lets it through. */
  permits(operation: FakeOperation): boolean {
    const { lease, address, size, kind } = operation;
    if (lease.ended || this.clockNs >= lease.deadlineNs) return false;
    if (kind !== 'read' && !lease.writable) return false;
    return address >= lease.offset && address + size <= lease.offset + lease.size;
  }

  execute(operation: FakeOperation, from: number, to: number): void {
    const { kind, buffer, bufferOffset, address, words } = operation;
    if (kind === 'read') {
      buffer.bytes.set(this.bytes.subarray(address + from, address + to), bufferOffset + from);
    } else if (kind === 'write') {
      this.bytes.set(buffer.bytes.subarray(bufferOffset + from, bufferOffset + to), address + from);
    } else {
      if (address % 8 !== 0) throw new Error('misaligned atomic');
      const at = address / 4;
      const lo = this.words[at]!;
      const hi = this.words[at + 1]!;
      buffer.words[bufferOffset / 4] = lo;
      buffer.words[bufferOffset / 4 + 1] = hi;
      if (kind === 'faa') {
        const sum = (BigInt(hi) << 32n) + BigInt(lo) + (BigInt(words[1]) << 32n) + BigInt(words[0]);
        this.words[at] = Number(sum & 0xffff_ffffn);
        this.words[at + 1] = Number((sum >> 32n) & 0xffff_ffffn);
      } else if (lo === words[0] && hi === words[1]) {
        this.words[at] = words[2];
        this.words[at + 1] = words[3];
      }
    }
  }
}

export class FakeLease implements Lease {
  readonly node: FakeNode;
  readonly nodeId = 0;
  readonly offset: number;
  readonly size: number;
  readonly writable: boolean;
  readonly owner: FakeClient | undefined;
  deadlineNs: number;
  ended = false;

  constructor(
    node: FakeNode,
    offset: number,
    size: number,
    writable: boolean,
    deadlineNs: number,
    owner?: FakeClient,
  ) {
    this.owner = owner;
    this.node = node;
    this.offset = offset;
    this.size = size;
    this.writable = writable;
    this.deadlineNs = deadlineNs;
  }

  get live(): boolean {
    return !this.ended && this.node.clockNs < this.deadlineNs;
  }

  read(): never {
    throw new Error('not part of the double');
  }
  write(): never {
    throw new Error('not part of the double');
  }
  cas(): never {
    throw new Error('not part of the double');
  }
  faa(): never {
    throw new Error('not part of the double');
  }
  relinquish(): never {
    throw new Error('not part of the double');
  }
  extend(): never {
    throw new Error('not part of the double');
  }
  upgrade(): never {
    throw new Error('not part of the double');
  }
  [Symbol.asyncDispose](): never {
    throw new Error('not part of the double');
  }
}

class FakeBuffer implements RdmaBuffer {
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  readonly size: number;

  constructor(size: number) {
    this.size = Math.ceil(size / 64) * 64;
    const memory = new ArrayBuffer(this.size);
    this.bytes = new Uint8Array(memory);
    this.words = new Uint32Array(memory);
  }
}

class FakeBatch implements Batch {
  readonly #client: FakeClient;
  executed = 0;
  #operations: FakeOperation[] = [];
  /** What becomes of what was sent, until the commit tells of it. */
  #posted: MaybePromise<RetCode> | undefined;

  constructor(client: FakeClient) {
    this.#client = client;
  }

  get count(): number {
    return this.#operations.length;
  }

  prepareRead(lease: Lease, buffer: RdmaBuffer, bufferOffset: number, size: number, offset: number): RetCode {
    return this.#add('read', lease, buffer, bufferOffset, size, offset, [0, 0, 0, 0]);
  }

  prepareWrite(
    lease: Lease,
    buffer: RdmaBuffer,
    bufferOffset: number,
    size: number,
    offset: number,
  ): RetCode {
    return this.#add('write', lease, buffer, bufferOffset, size, offset, [0, 0, 0, 0]);
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
  ): RetCode {
    const words = [expectedLo, expectedHi, desiredLo, desiredHi] as const;
    return this.#add('cas', lease, buffer, bufferOffset, 8, offset, words);
  }

  prepareFaa(
    lease: Lease,
    buffer: RdmaBuffer,
    bufferOffset: number,
    offset: number,
    addLo: number,
    addHi: number,
  ): RetCode {
    return this.#add('faa', lease, buffer, bufferOffset, 8, offset, [addLo, addHi, 0, 0]);
  }

  post(): RetCode {
    return this.#send();
  }

  #send(): RetCode {
    if (this.#posted !== undefined) throw new Error('the batch is under way');
    const operations = this.#operations;
    if (operations.length === 0) return RetCode.Ok;
    this.#operations = [];
    const { node, scheduler } = this.#client;
    this.executed = 0;
    if (this.#client.dead) this.#posted = new Promise<RetCode>(() => {});
    else if (operations.some(({ lease }) => !lease.live)) return RetCode.LeaseLocalExpiredErr;
    else {
      node.commits++;
      this.#posted =
        scheduler === undefined
          ? this.#perform(operations)
          : scheduler.perform(this.#client, this.#steps(operations, scheduler));
    }
    return RetCode.Ok;
  }

  commit(): MaybePromise<RetCode> {
    if (this.#posted === undefined) {
      const status = this.#send();
      if (status !== RetCode.Ok) return status;
    }
    const answer = this.#posted;
    if (answer === undefined) return RetCode.Ok;
    if (typeof answer === 'number') {
      this.#posted = undefined;
      return answer;
    }
    return answer.then((status) => {
      if (this.#client.dead) return new Promise<RetCode>(() => {});
      this.#posted = undefined;
      return status;
    });
  }

  #perform(operations: readonly FakeOperation[]): RetCode {
    for (const operation of operations) {
      const status = run(this.#client.node, operation, 0, operation.size);
      if (status !== RetCode.Ok) return status;
      this.executed++;
    }
    return RetCode.Ok;
  }

  reset(): void {
    if (this.#posted !== undefined) throw new Error('the batch is under way');
    this.#operations = [];
  }

  /** An operation of several words can be cut in two by operations of others, at a word's edge. */
  *#steps(operations: readonly FakeOperation[], scheduler: Scheduler): Generator<undefined, RetCode> {
    for (const operation of operations) {
      const cut = Math.floor((scheduler.random() * operation.size) / 8) * 8;
      for (const [from, to] of [
        [0, cut],
        [cut, operation.size],
      ] as const) {
        if (from === to) continue;
        yield;
        this.#client.accesses++;
        if (this.#client.accesses === this.#client.diesAt) this.#client.die();
        if (this.#client.dead) return RetCode.Ok;
        if (this.#client.pausesNow) yield;
        const status = run(this.#client.node, operation, from, to);
        if (status !== RetCode.Ok) return status;
      }
      this.executed++;
    }
    // The answer takes its time too.
    yield;
    return RetCode.Ok;
  }

  #add(
    kind: FakeOperation['kind'],
    lease: Lease,
    buffer: RdmaBuffer,
    bufferOffset: number,
    size: number,
    offset: number,
    words: FakeOperation['words'],
  ): RetCode {
    if (!(lease instanceof FakeLease)) throw new Error('a lease of something else');
    if (this.#posted !== undefined || this.#operations.length === 16 || lease.ended) return RetCode.Invalid;
    if (bufferOffset < 0 || bufferOffset + size > buffer.size) return RetCode.Invalid;
    for (const word of words) if (word >>> 0 !== word) throw new Error(`not a 32-bit word: ${word}`);
    const address = lease.offset + offset;
    this.#operations.push({ kind, lease, buffer, bufferOffset, size, address, words });
    return RetCode.Ok;
  }
}

function run(node: FakeNode, operation: FakeOperation, from: number, to: number): RetCode {
  const fault = node.fault(operation);
  if (fault === 'refuse' || !node.permits(operation)) return RetCode.RdmaProtectionErr;
  if (fault === 'lose-before') return RetCode.RdmaExecutionErr;
  if (fault === 'lose-after') {
    // Executed, but its result never arrives.
    const unseen = new FakeBuffer(operation.size);
    const source = operation.buffer.bytes.subarray(
      operation.bufferOffset,
      operation.bufferOffset + operation.size,
    );
    if (operation.kind === 'write') unseen.bytes.set(source);
    node.execute({ ...operation, buffer: unseen, bufferOffset: 0 }, from, to);
    return RetCode.RdmaExecutionErr;
  }
  node.execute(operation, from, to);
  return RetCode.Ok;
}

let nextIdentity = 1;

/** A client of one FakeNode. Without a scheduler a commit is done at once, as over the loopback link. */
export class FakeClient implements PatronusClient {
  readonly node: FakeNode;
  readonly scheduler: Scheduler | undefined;
  readonly nodes: readonly NodeLayout[];
  readonly epsilonNs = 0;
  buffersOut = 0;
  /** The process is gone: nothing that it sends arrives, and it never hears anything again. */
  dead = false;
  readonly death: Promise<void>;
  die!: () => void;
  /** Pieces of accesses so far, and the one that it dies before. */
  accesses = 0;
  diesAt = 0;
  /** The process stands still until then. */
  pausedUntilNs = 0;
  readonly #unkept = new Set<number>();
  #identity = nextIdentity++;
  #pauseAt = 0;
  #pauseNs = 0;
  readonly #free = new Map<number, FakeBuffer[]>();

  constructor(node: FakeNode, scheduler: Scheduler | undefined) {
    this.node = node;
    this.scheduler = scheduler;
    this.nodes = [node.layout];
    this.death = new Promise((resolve) => {
      this.die = () => {
        this.dead = true;
        this.reconnect();
        resolve();
      };
    });
  }

  now(): number {
    return this.node.clockNs;
  }

  /** The connection was lost, with what belongs to it, and is there again. */
  reconnect(): void {
    for (const offset of this.#unkept) this.node.allocated.delete(offset);
    for (const offset of this.#unkept) this.node.unkept.delete(offset);
    this.#unkept.clear();
    this.#identity = nextIdentity++;
    for (const lease of this.node.liveLeases) {
      if (lease.owner === this && lease.deadlineNs === Number.POSITIVE_INFINITY) lease.ended = true;
    }
  }

  /** At this piece of an access the process stands still for so long, between its check of the leases and the access. */
  pauseAt(access: number, ns: number): void {
    this.#pauseAt = access;
    this.#pauseNs = ns;
  }

  get pausesNow(): boolean {
    if (this.accesses !== this.#pauseAt) return false;
    this.pausedUntilNs = this.node.clockNs + this.#pauseNs;
    return true;
  }

  async getRlease(request: AcquireRequest): Promise<AcquireResult> {
    if (this.scheduler !== undefined || this.dead) await this.#message();
    return this.node.acquire(request, false);
  }

  async getWlease(request: AcquireRequest): Promise<AcquireResult> {
    if (this.scheduler !== undefined || this.dead) await this.#message();
    const result = this.node.acquire(request, true, this);
    const { flags = 0 } = request;
    const isMine = flags & AcquireFlag.WithAllocation && !(flags & AcquireFlag.KeepAllocation);
    if (isMine && result.lease !== undefined) this.#own(result.lease.offset);
    return result;
  }

  async readLease(request: AcquireRequest): Promise<Lease> {
    return this.node.acquire(request, false).lease!;
  }

  async writeLease(request: AcquireRequest): Promise<Lease> {
    return this.node.acquire(request, true).lease!;
  }

  async relinquish(lease: Lease, flags = 0): Promise<RetCode> {
    if (this.scheduler !== undefined || this.dead) await this.#message();
    const held = lease as FakeLease;
    if (!held.live) return RetCode.NotFound;
    held.ended = true;
    this.node.liveLeases.delete(held);
    if (flags & ModifyFlag.WithDeallocation) {
      this.#disown(held.offset);
      if (!this.node.allocated.delete(held.offset)) return RetCode.Invalid;
    }
    return RetCode.Ok;
  }

  async extend(lease: Lease, ns: number): Promise<RetCode> {
    if (this.scheduler !== undefined || this.dead) await this.#message();
    const held = lease as FakeLease;
    if (!held.live) return RetCode.LeaseLocalExpiredErr;
    held.deadlineNs += ns;
    return RetCode.Ok;
  }

  read(lease: Lease, buffer: RdmaBuffer, size: number, offset: number): MaybePromise<RetCode> {
    return this.#one((batch) => batch.prepareRead(lease, buffer, 0, size, offset));
  }

  write(lease: Lease, buffer: RdmaBuffer, size: number, offset: number): MaybePromise<RetCode> {
    return this.#one((batch) => batch.prepareWrite(lease, buffer, 0, size, offset));
  }

  cas(
    lease: Lease,
    buffer: RdmaBuffer,
    offset: number,
    expectedLo: number,
    expectedHi: number,
    desiredLo: number,
    desiredHi: number,
  ): MaybePromise<RetCode> {
    return this.#one((batch) =>
      batch.prepareCas(lease, buffer, 0, offset, expectedLo, expectedHi, desiredLo, desiredHi),
    );
  }

  faa(lease: Lease, buffer: RdmaBuffer, offset: number, addLo: number, addHi: number): MaybePromise<RetCode> {
    return this.#one((batch) => batch.prepareFaa(lease, buffer, 0, offset, addLo, addHi));
  }

  createBatch(): Batch {
    return new FakeBatch(this);
  }

  rpcExtend(): never {
    throw new Error('not part of the double');
  }
  upgrade(): never {
    throw new Error('not part of the double');
  }
  async alloc({ size, keep = false }: AllocateRequest): Promise<AllocateResult> {
    if (this.scheduler !== undefined || this.dead) await this.#message();
    const offset = this.node.allocate(size);
    if (offset < 0) return { status: AcquireStatus.NoMem, address: undefined };
    if (!keep) this.#own(offset);
    return { status: AcquireStatus.Success, address: { nodeId: 0, offset } };
  }

  async dealloc({ offset }: GlobalAddress, size: number): Promise<RetCode> {
    if (this.scheduler !== undefined || this.dead) await this.#message();
    if (this.node.allocated.get(offset) !== Math.ceil(size / 64) * 64) return RetCode.Invalid;
    if (this.node.unkept.has(offset) && !this.#unkept.has(offset)) return RetCode.Invalid;
    this.#disown(offset);
    this.node.allocated.delete(offset);
    return RetCode.Ok;
  }

  requireMemory(): void {}

  async keepAllocation({ offset }: GlobalAddress): Promise<RetCode> {
    if (this.scheduler !== undefined || this.dead) await this.#message();
    return this.#disown(offset) ? RetCode.Ok : RetCode.Invalid;
  }

  #own(offset: number): void {
    this.#unkept.add(offset);
    this.node.unkept.add(offset);
  }

  #disown(offset: number): boolean {
    this.node.unkept.delete(offset);
    return this.#unkept.delete(offset);
  }

  grant(): never {
    throw new Error('not part of the double');
  }
  identity(): number {
    return this.#identity;
  }
  rpcRead(): never {
    throw new Error('not part of the double');
  }
  rpcWrite(): never {
    throw new Error('not part of the double');
  }
  rpcCas(): never {
    throw new Error('not part of the double');
  }
  rpcFaa(): never {
    throw new Error('not part of the double');
  }
  remoteMemcpy(): never {
    throw new Error('not part of the double');
  }
  setReadOnly(): never {
    throw new Error('not part of the double');
  }
  reinitialise(): never {
    throw new Error('not part of the double');
  }

  /** Filled with rubbish when used again: nobody may count on what was there. */
  getRdmaBuffer(size: number): RdmaBuffer {
    this.buffersOut++;
    const rounded = Math.max(64, 2 ** Math.ceil(Math.log2(size)));
    const buffer = this.#free.get(rounded)?.pop();
    buffer?.bytes.fill(0xa5);
    return buffer ?? new FakeBuffer(rounded);
  }

  putRdmaBuffer(buffer: RdmaBuffer): void {
    this.buffersOut--;
    const list = this.#free.get(buffer.size) ?? [];
    list.push(buffer as FakeBuffer);
    this.#free.set(buffer.size, list);
  }

  async close(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}

  /** A message to the node takes a turn, as an access does. */
  async #message(): Promise<void> {
    if (this.dead) await new Promise(() => {});
    await this.scheduler?.perform(this, turn());
    if (this.dead) await new Promise(() => {});
  }

  #one(prepare: (batch: Batch) => RetCode): MaybePromise<RetCode> {
    const batch = this.createBatch();
    const status = prepare(batch);
    return status === RetCode.Ok ? batch.commit() : status;
  }
}

function* turn(): Generator<undefined, RetCode> {
  yield;
  return RetCode.Ok;
}

/** A node with room for a small table. */
export function fakeNode(allocBytes = 4 * 1024 * 1024): FakeNode {
  return new FakeNode(allocBytes);
}

/** Pacing without a scheduler: waiting lets the virtual clock jump. */
export function jumping(node: FakeNode): Pacing {
  const sleep = async (ms: number) => {
    node.clockNs += ms * 1e6;
  };
  return {
    sleep,
    idle: sleep,
    random: seeded(7),
    wallMs: () => Math.floor(node.clockNs / 1e6),
  };
}

/** As jumping(), for several clients: when all of them wait the clock jumps to where the first one wakes. */
export function jumpingTogether(node: FakeNode): Pacing {
  const sleepers: { readonly untilNs: number; readonly wake: () => void }[] = [];
  const jump = () => {
    const first = sleepers.reduce((a, b) => (b.untilNs < a.untilNs ? b : a));
    sleepers.splice(sleepers.indexOf(first), 1);
    node.clockNs = Math.max(node.clockNs, first.untilNs);
    first.wake();
  };
  const sleep = (ms: number) =>
    new Promise<void>((wake) => {
      sleepers.push({ untilNs: node.clockNs + ms * 1e6, wake });
      setImmediate(jump);
    });
  return { ...jumping(node), sleep, idle: sleep };
}
