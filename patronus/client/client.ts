import { Access, type Device, nowNs, openDeviceTo, type ProtectionDomain } from '../../native/index.js';
import {
  type AcquireRequest,
  type AcquireResult,
  AcquireStatus,
  type AllocateRequest,
  type AllocateResult,
  type Batch,
  type GlobalAddress,
  type Lease,
  type MaybePromise,
  type NodeLayout,
  type PatronusClient,
  type RdmaBuffer,
  RetCode,
  RwFlag,
} from '../api.js';
import { acquireError, PatronusError, PatronusErrorCode } from '../errors.js';
import type { Keeper } from '../keeper/api.js';
import { EVERYBODY } from '../memory-node/allocations.js';
import type { NodeEndpoint } from '../memory-node/node.js';
import type { TimeOptions } from '../time/options.js';
import { MessageType } from '../wire/messages.js';
import type { OperationBatch } from './batch.js';
import { BufferPool, RegisteredBuffer } from './buffers.js';
import { ConnectedNode } from './connected-node.js';
import { copyByHand } from './copy.js';
import { LeaseHandle } from './lease.js';
import type { NodeConnection } from './node-connection.js';
import { ReadCache } from './read-cache.js';
import { targetsOf, whereNow } from './targets.js';

/** Which memory nodes to connect to: one of the three ways. The first node is the default of every call. */
export interface ConnectOptions {
  /** Memory nodes whose ids are known. At least one. */
  readonly nodes?: readonly NodeEndpoint[];
  /** Addresses of memory nodes, such as `unix:PATH`. At least one. */
  readonly endpoints?: readonly string[];
  /** All memory nodes that are alive in this cluster. The client joins it unless the keeper is a member already. */
  readonly keeper?: Keeper;
  /**
   * Spare queue pairs per node, 0..7. A refused access breaks the pair in service; a spare takes its place at once while
   * it is rebuilt. Without one operations wait for that. Default 1.
   */
  readonly spares?: number;
  /** A request without an answer for so long fails with ERR_PATRONUS_TIMEOUT, ms, >= 10. Default 5000. */
  readonly requestTimeoutMs?: number;
  /** How the nodes' clocks are known. */
  readonly time?: TimeOptions;
}

const MAX_SPARES = 7;
const MAX_TIMEOUT_MS = 3_600_000;

/** A client of memory nodes. Belongs to the thread that made it. */
export class Patronus implements PatronusClient {
  private readonly device: Device;
  private readonly options: ConnectOptions;
  private readonly pd: ProtectionDomain;
  private readonly buffers: BufferPool;
  private readonly connected: ConnectedNode[];
  /** All that there have been: a lease stays this client's when its connection is over. */
  private readonly own = new WeakSet<NodeConnection>();
  /** Nodes that are of no use without the memory that they had. */
  private readonly needed = new Set<number>();
  private readonly reconnections = new Map<ConnectedNode, Promise<ConnectedNode>>();
  private closed = false;

  /**
   * Connect to memory nodes. Rejects with ERR_PATRONUS_CONNECT if one is not there or refuses. When a connection is lost,
   * its leases are over; the next acquire connects again, to the same address, or where the keeper says the node is now.
   */
  static async connect(options: ConnectOptions): Promise<Patronus> {
    const { spares = 1, requestTimeoutMs = 5000 } = options;
    if (!(requestTimeoutMs >= 10 && requestTimeoutMs <= MAX_TIMEOUT_MS)) {
      throw new RangeError(`requestTimeoutMs must be 10 to ${MAX_TIMEOUT_MS}, not ${requestTimeoutMs}`);
    }
    if (!Number.isInteger(spares) || spares < 0 || spares > MAX_SPARES) {
      throw new RangeError(`spares must be an integer from 0 to ${MAX_SPARES}, not ${spares}`);
    }
    const targets = await targetsOf(options);
    const device = openDeviceTo(targets.map((target) => target.address));
    const connected: ConnectedNode[] = [];
    try {
      const pd = device.allocPd();
      const buffers = new BufferPool(device, pd);
      for (const target of targets) {
        connected.push(await ConnectedNode.open(device, pd, buffers, target, options));
      }
      return new Patronus(options, device, pd, buffers, connected);
    } catch (error) {
      for (const node of connected) node.close();
      device.close();
      throw error;
    }
  }

  private constructor(
    options: ConnectOptions,
    device: Device,
    pd: ProtectionDomain,
    buffers: BufferPool,
    connected: ConnectedNode[],
  ) {
    this.options = options;
    this.device = device;
    this.pd = pd;
    this.buffers = buffers;
    this.connected = connected;
    for (const node of connected) this.adopt(node);
  }

  get nodes(): readonly NodeLayout[] {
    return this.connected.map((node) => node.layout);
  }

  get epsilonNs(): number {
    return Math.max(...this.connected.map((node) => node.epsilonNs));
  }

  now(): number {
    return nowNs();
  }

  getRlease(request: AcquireRequest): Promise<AcquireResult> {
    return this.acquire(request, false);
  }

  getWlease(request: AcquireRequest): Promise<AcquireResult> {
    return this.acquire(request, true);
  }

  async readLease(request: AcquireRequest): Promise<Lease> {
    return granted(await this.acquire(request, false));
  }

  async writeLease(request: AcquireRequest): Promise<Lease> {
    return granted(await this.acquire(request, true));
  }

  async relinquish(lease: Lease, flags = 0): Promise<RetCode> {
    return this.owns(lease) ? lease.node.requests.relinquish(lease, flags) : RetCode.Invalid;
  }

  extend(lease: Lease, ns: number, flags = 0): MaybePromise<RetCode> {
    return this.owns(lease) ? lease.node.requests.extend(lease, ns, flags) : RetCode.Invalid;
  }

  async rpcExtend(lease: Lease, ns: number, flags = 0): Promise<RetCode> {
    return this.owns(lease) ? lease.node.requests.rpcExtend(lease, ns, flags) : RetCode.Invalid;
  }

  async upgrade(lease: Lease, flags = 0): Promise<AcquireStatus> {
    return this.owns(lease) ? lease.node.requests.upgrade(lease, flags) : AcquireStatus.InvalidErr;
  }

  async alloc(request: AllocateRequest): Promise<AllocateResult> {
    return this.node(request.nodeId).allocate(request);
  }

  async dealloc(address: GlobalAddress, size: number): Promise<RetCode> {
    if (!Number.isSafeInteger(size) || size < 1) return RetCode.Invalid;
    return this.directoryOf(address).requests.deallocate(address.offset, size);
  }

  async keepAllocation(address: GlobalAddress): Promise<RetCode> {
    return this.directoryOf(address).requests.keep(address.offset);
  }

  async grant(address: GlobalAddress, identity = EVERYBODY): Promise<RetCode> {
    if (!Number.isSafeInteger(identity) || identity < 0) return RetCode.Invalid;
    return this.directoryOf(address).requests.grant(address.offset, identity);
  }

  identity(nodeId?: number): number {
    return this.node(nodeId).identity;
  }

  async rpcRead(lease: Lease, buffer: RdmaBuffer, size: number, offset: number, flags = 0): Promise<RetCode> {
    return this.owns(lease) ? lease.node.twoSided.read(lease, buffer, size, offset, flags) : RetCode.Invalid;
  }

  async rpcWrite(
    lease: Lease,
    buffer: RdmaBuffer,
    size: number,
    offset: number,
    flags = 0,
  ): Promise<RetCode> {
    return this.owns(lease) ? lease.node.twoSided.write(lease, buffer, size, offset, flags) : RetCode.Invalid;
  }

  async rpcCas(
    lease: Lease,
    buffer: RdmaBuffer,
    offset: number,
    expectedLo: number,
    expectedHi: number,
    desiredLo: number,
    desiredHi: number,
    flags = 0,
  ): Promise<RetCode> {
    if (!this.owns(lease)) return RetCode.Invalid;
    const operands = [expectedLo, expectedHi, desiredLo, desiredHi];
    return lease.node.twoSided.atomic(MessageType.CAS, lease, buffer, offset, operands, flags);
  }

  async rpcFaa(
    lease: Lease,
    buffer: RdmaBuffer,
    offset: number,
    addLo: number,
    addHi: number,
    flags = 0,
  ): Promise<RetCode> {
    if (!this.owns(lease)) return RetCode.Invalid;
    return lease.node.twoSided.atomic(MessageType.FAA, lease, buffer, offset, [addLo, addHi], flags);
  }

  async remoteMemcpy(
    from: Lease,
    fromOffset: number,
    to: Lease,
    toOffset: number,
    size: number,
  ): Promise<RetCode> {
    if (!this.owns(from) || !this.owns(to)) return RetCode.Invalid;
    if (from.node !== to.node && from.node.isOfNodeOf(to.node)) {
      return copyByHand(from, fromOffset, to, toOffset, size);
    }
    return from.node.twoSided.copy(from, fromOffset, to, toOffset, size);
  }

  async setReadOnly(readOnly: boolean, nodeId?: number): Promise<void> {
    const access = readOnly ? Access.REMOTE_READ : 0;
    await Promise.all(this.node(nodeId).directories.map(({ data }) => data.restrict(access)));
  }

  async reinitialise(nodeId?: number): Promise<void> {
    await Promise.all(this.node(nodeId).directories.map(({ data }) => data.reinitialise()));
  }

  read(lease: Lease, buffer: RdmaBuffer, size: number, offset: number, flags = 0): MaybePromise<RetCode> {
    const node = this.nodeOf(lease);
    if ((flags & RwFlag.WithCache) !== 0 && this.owns(lease)) {
      return cachedRead(lease, buffer, size, offset, flags);
    }
    const batch = node.takeBatch();
    return single(node, batch, batch.prepareRead(lease, buffer, 0, size, offset, flags));
  }

  write(lease: Lease, buffer: RdmaBuffer, size: number, offset: number, flags = 0): MaybePromise<RetCode> {
    const node = this.nodeOf(lease);
    const batch = node.takeBatch();
    return single(node, batch, batch.prepareWrite(lease, buffer, 0, size, offset, flags));
  }

  cas(
    lease: Lease,
    buffer: RdmaBuffer,
    offset: number,
    expectedLo: number,
    expectedHi: number,
    desiredLo: number,
    desiredHi: number,
    flags = 0,
  ): MaybePromise<RetCode> {
    const node = this.nodeOf(lease);
    const batch = node.takeBatch();
    return single(
      node,
      batch,
      batch.prepareCas(lease, buffer, 0, offset, expectedLo, expectedHi, desiredLo, desiredHi, flags),
    );
  }

  faa(
    lease: Lease,
    buffer: RdmaBuffer,
    offset: number,
    addLo: number,
    addHi: number,
    flags = 0,
  ): MaybePromise<RetCode> {
    const node = this.nodeOf(lease);
    const batch = node.takeBatch();
    return single(node, batch, batch.prepareFaa(lease, buffer, 0, offset, addLo, addHi, flags));
  }

  createBatch(nodeId?: number): Batch {
    return this.node(nodeId).newBatch();
  }

  getRdmaBuffer(size: number): RdmaBuffer {
    this.checkOpen();
    return this.buffers.get(size);
  }

  putRdmaBuffer(buffer: RdmaBuffer): void {
    if (!(buffer instanceof RegisteredBuffer) || buffer.pool !== this.buffers) {
      throw new TypeError('not a buffer of this client');
    }
    this.buffers.put(buffer);
  }

  /** End all leases and connections of this client. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    for (const node of this.connected) node.close();
    this.buffers.close();
    this.pd.close();
    this.device.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async acquire(request: AcquireRequest, write: boolean): Promise<AcquireResult> {
    const node = this.node(request.nodeId);
    if (node.failure === undefined) return node.acquire(request, write);
    return (await this.reconnection(node)).acquire(request, write);
  }

  /** Of all that ask at once, one connects again. */
  private reconnection(lost: ConnectedNode): Promise<ConnectedNode> {
    let reconnection = this.reconnections.get(lost);
    if (reconnection === undefined) {
      reconnection = this.reconnect(lost).finally(() => this.reconnections.delete(lost));
      this.reconnections.set(lost, reconnection);
    }
    return reconnection;
  }

  private async reconnect(lost: ConnectedNode): Promise<ConnectedNode> {
    const node = await this.connectAgain(lost).catch((cause) => {
      this.checkOpen();
      const why = cause instanceof Error ? cause.message : String(cause);
      const message = `${lost.failure!.message}; connecting again failed: ${why}`;
      throw new PatronusError(PatronusErrorCode.DISCONNECTED, message, { cause });
    });
    if (this.closed) node.close();
    this.checkOpen();
    this.adopt(node);
    this.connected[this.connected.indexOf(lost)] = node;
    lost.close();
    return node;
  }

  private async connectAgain(lost: ConnectedNode): Promise<ConnectedNode> {
    const { keeper } = this.options;
    const target = await whereNow(lost.target, keeper);
    this.checkOpen();
    const node = await ConnectedNode.open(this.device, this.pd, this.buffers, target, this.options);
    const { nodeId, incarnation } = lost.layout;
    if (this.needed.has(nodeId) && node.layout.incarnation !== incarnation) {
      node.close();
      throw new PatronusError(
        PatronusErrorCode.CONNECT,
        `memory node ${nodeId} has started anew, and what it held is gone`,
      );
    }
    return node;
  }

  requireMemory(nodeId?: number): void {
    this.needed.add(this.node(nodeId).layout.nodeId);
  }

  private adopt(node: ConnectedNode): void {
    for (const connection of node.directories) this.own.add(connection);
  }

  private node(nodeId: number | undefined): ConnectedNode {
    this.checkOpen();
    if (nodeId === undefined) return this.connected[0]!;
    const node = this.connected.find((candidate) => candidate.layout.nodeId === nodeId);
    if (node === undefined) throw new RangeError(`not connected to a node ${nodeId}`);
    return node;
  }

  /** The directory that a piece of memory which begins there belongs to. */
  private directoryOf({ nodeId, offset }: GlobalAddress): NodeConnection {
    return this.node(nodeId).directoryOf(offset, 1);
  }

  /** Any node for what is no lease of this client: there the operation is refused. */
  private nodeOf(lease: Lease): NodeConnection {
    return this.owns(lease) ? lease.node : this.connected[0]!.directories[0]!;
  }

  private owns(lease: Lease): lease is LeaseHandle {
    return lease instanceof LeaseHandle && this.own.has(lease.node);
  }

  private checkOpen(): void {
    if (this.closed) throw new PatronusError(PatronusErrorCode.CLOSED, 'the client is closed');
  }
}

/** A read that looks into the lease's cache first, and remembers what it brings. */
function cachedRead(
  lease: LeaseHandle,
  buffer: RdmaBuffer,
  size: number,
  offset: number,
  flags: number,
): MaybePromise<RetCode> {
  lease.cache ??= new ReadCache();
  const { cache, node } = lease;
  if (!(buffer instanceof RegisteredBuffer) || buffer.pool !== node.buffers || size > buffer.size) {
    return RetCode.Invalid;
  }
  // What is remembered ends with the lease too.
  if (lease.live && cache.get(offset, size, buffer.bytes)) return RetCode.Ok;
  return readToRemember(lease, cache, buffer, size, offset, flags);
}

function readToRemember(
  lease: LeaseHandle,
  cache: ReadCache,
  buffer: RegisteredBuffer,
  size: number,
  offset: number,
  flags: number,
): MaybePromise<RetCode> {
  const { node } = lease;
  const { version } = cache;
  const batch = node.takeBatch();
  const outcome = single(node, batch, batch.prepareRead(lease, buffer, 0, size, offset, flags));
  const remember = (status: RetCode): RetCode => {
    if (status === RetCode.Ok) cache.put(offset, buffer.bytes.subarray(0, size), version);
    return status;
  };
  return typeof outcome === 'number' ? remember(outcome) : outcome.then(remember);
}

/** Send a batch of one operation, if it was taken, and give the batch back when it is done. */
function single(node: NodeConnection, batch: OperationBatch, prepared: RetCode): MaybePromise<RetCode> {
  const outcome = prepared === RetCode.Ok ? batch.commit() : prepared;
  if (typeof outcome === 'number') {
    node.giveBatch(batch);
    return outcome;
  }
  return givenBack(node, batch, outcome);
}

/** By itself, since a closure takes its memory when the function begins that it is in, whether it is made or not. */
function givenBack(node: NodeConnection, batch: OperationBatch, outcome: Promise<RetCode>): Promise<RetCode> {
  return outcome.then((status) => {
    node.giveBatch(batch);
    return status;
  });
}

function granted(result: AcquireResult): Lease {
  if (result.lease === undefined) throw acquireError(result.status);
  return result.lease;
}
