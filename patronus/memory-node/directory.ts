import {
  Access,
  type Completion,
  type CompletionChannel,
  type CompletionQueue,
  type Connection,
  type Device,
  type HostMemory,
  type Listener,
  nowNs,
  SendFlag,
  WcStatus,
} from '../../native/index.js';
import { AcquireFlag, AcquireStatus, ModifyFlag } from '../api.js';
import { MOST_PUBLISH_NS } from '../wire/clock-page.js';
import {
  clearMessage,
  getNumber,
  head,
  MAX_REQUESTS,
  MESSAGE_BYTES,
  MESSAGE_WORDS,
  MessageType,
  putNumber,
  ReplyStatus,
  WIRE_VERSION,
  Word,
} from '../wire/messages.js';
import { Allocator } from './allocator.js';
import { BUFFER_BITS, ClientConnection, CONTROL_SEND_DEPTH } from './client-connection.js';
import { ClockPage } from './clock-page.js';
import { LeaseTable } from './lease-table.js';
import { StatIndex } from './stats.js';

export interface DirectoryOptions {
  readonly nodeId: number;
  /** Bytes of the lease buffer, and where the allocation buffer begins and its bytes. */
  readonly leaseBytes: number;
  readonly allocOffset: number;
  readonly allocBytes: number;
  readonly maxLeases: number;
  readonly maxLeasesPerClient: number;
  readonly maxClients: number;
  /** See PatronusNodeOptions. */
  readonly listen: string | undefined;
  readonly engineThreads: number;
}

/** Requests taken between two looks at the clock: what a revocation may have to wait for. */
const BATCH_REQUESTS = 32;
/** Expired leases ended in one turn. */
const BATCH_EXPIRIES = 64;
/** Turns without work before the thread sleeps: some 20 us, more than a client takes for its next request. */
const IDLE_TURNS = 200;
/** Turns between two looks for new and ended connections under load. */
const CONNECT_TURNS = 1000;
/** The longest sleep, ns: bounds how long the end of the process waits for this thread. */
const LONGEST_SLEEP_NS = 100e6;
const MAX_DATA_QPS = 8;
const READ_ACCESS = Access.REMOTE_READ;
const WRITE_ACCESS = Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC;

/**
 * The serving loop of a memory node: takes the requests of all clients in batches, grants and ends leases, ends what
 * has expired, sleeps until the next request or deadline. It owns its thread.
 *
 * All window work of a batch is chained before the answers in one post per client, and a queue pair executes in
 * order: an answer leaves after the binds and unbinds that it speaks of. A lease that ends and one that begins in the
 * same batch of one client share the window (handover): one rebind instead of an unbind and a bind.
 */
export class Directory {
  readonly channel: CompletionChannel;
  readonly listener: Listener;
  private readonly options: DirectoryOptions;
  private readonly device: Device;
  private readonly memory: HostMemory;
  private readonly sendCq: CompletionQueue;
  private readonly recvCq: CompletionQueue;
  private readonly leases: LeaseTable;
  private readonly allocator: Allocator;
  private readonly clockPage: ClockPage;
  private readonly counters: Float64Array;
  private readonly stopWord: Int32Array;
  private readonly connections: (ClientConnection | undefined)[];
  private readonly slotOfLink = new Map<number, number>();
  private readonly dirty: ClientConnection[] = [];
  private readonly condemned: ClientConnection[] = [];
  private turnsSinceConnect = 0;
  private readonly expiredDeadlines = new Float64Array(BATCH_EXPIRIES);
  private readonly completion: Completion = {
    wrId: 0,
    status: 0,
    opcode: 0,
    flags: 0,
    byteLen: 0,
    qpNum: 0,
    imm: 0,
  };

  /** `stopWord[0]` becomes 1 (and the channel is signalled) to end the loop; `counters` are those of StatIndex. */
  constructor(device: Device, options: DirectoryOptions, stopWord: Int32Array, counters: Float64Array) {
    this.device = device;
    this.options = options;
    this.stopWord = stopWord;
    this.counters = counters;
    this.memory = device.allocMemory(options.allocOffset + options.allocBytes);
    this.channel = device.createChannel();
    this.recvCq = device.createCq(
      powerOfTwo(options.maxClients * (MAX_REQUESTS + MAX_DATA_QPS)),
      this.channel,
    );
    this.sendCq = device.createCq(powerOfTwo(options.maxClients * (CONTROL_SEND_DEPTH + MAX_DATA_QPS)));
    this.leases = new LeaseTable(options.maxLeases);
    this.allocator = new Allocator(options.allocOffset, options.allocBytes);
    this.clockPage = new ClockPage(device);
    this.connections = new Array<ClientConnection | undefined>(options.maxClients).fill(undefined);
    this.listener = device.listen(
      this.channel,
      options.listen === undefined ? {} : { address: options.listen, engineThreads: options.engineThreads },
    );
  }

  /** Serve until stopped. */
  run(): void {
    let idleTurns = 0;
    while (Atomics.load(this.stopWord, 0) === 0) {
      if (this.turn()) {
        idleTurns = 0;
      } else if (++idleTurns >= IDLE_TURNS) {
        idleTurns = 0;
        this.sleep();
      }
    }
  }

  private turn(): boolean {
    if (++this.turnsSinceConnect >= CONNECT_TURNS) this.connectAndDisconnect();
    const now = nowNs();
    const watched = this.clockPage.tick(now);
    const expired = this.expire(now);
    const taken = this.takeRequests(now);
    if (expired === 0 && taken === 0) return watched;
    this.publishUse();
    this.post();
    this.takeSendErrors();
    this.dropCondemned();
    if (expired > 0) this.recordExpiries(expired);
    return true;
  }

  /** Before the answers go out: who has one sees the counters that belong to it. */
  private publishUse(): void {
    this.counters[StatIndex.liveLeases] = this.leases.live;
    this.counters[StatIndex.allocatedBytes] = this.allocator.allocatedBytes;
  }

  private sleep(): void {
    this.recvCq.arm();
    // What came before arming does not signal: look once more.
    if (!this.turn()) {
      const untilDeadline = this.leases.deadlines.earliestNs - nowNs();
      if (untilDeadline > 0) this.channel.wait(Math.min(untilDeadline, LONGEST_SLEEP_NS));
    }
    this.connectAndDisconnect();
  }

  private connectAndDisconnect(): void {
    this.turnsSinceConnect = 0;
    for (;;) {
      const link = this.listener.nextDisconnection();
      if (link === undefined) break;
      const slot = this.slotOfLink.get(link.id);
      if (slot !== undefined) this.drop(this.connections[slot]!);
    }
    for (;;) {
      const link = this.listener.nextConnection();
      if (link === undefined) break;
      this.connect(link);
    }
  }

  private connect(link: Connection): void {
    const slot = this.connections.indexOf(undefined);
    if (slot < 0 || link.qpCount < 2 || link.qpCount > 1 + MAX_DATA_QPS) {
      link.reject();
      return;
    }
    try {
      this.connections[slot] = new ClientConnection(
        slot,
        link,
        this.device,
        this.memory,
        this.clockPage,
        this.options.maxLeasesPerClient,
        this.sendCq,
        this.recvCq,
      );
    } catch {
      // The NIC is out of some object, or the client went away meanwhile.
      link.reject();
      return;
    }
    this.slotOfLink.set(link.id, slot);
    this.counters[StatIndex.connections]!++;
  }

  /** The client is gone or broke the protocol: end its leases and its connection. Its allocations stay. */
  private drop(connection: ClientConnection): void {
    this.leases.forEachOf(connection.slot, (lease) => this.leases.release(lease));
    this.connections[connection.slot] = undefined;
    this.slotOfLink.delete(connection.link.id);
    connection.close();
    this.publishUse();
    this.counters[StatIndex.connections]!--;
  }

  private touch(connection: ClientConnection): void {
    if (connection.dirty) return;
    connection.dirty = true;
    this.dirty.push(connection);
  }

  /** Begin the end of the leases whose term is over; returns how many. */
  private expire(now: number): number {
    const { deadlines } = this.leases;
    let count = 0;
    while (count < BATCH_EXPIRIES && deadlines.earliestNs <= now) {
      this.expiredDeadlines[count++] = deadlines.earliestNs;
      this.end(deadlines.earliestLease);
    }
    return count;
  }

  private end(lease: number): void {
    const connection = this.connections[this.leases.connection[lease]!]!;
    connection.unbinds[connection.unbindCount++] = this.leases.window[lease]!;
    connection.leases--;
    this.leases.release(lease);
    this.touch(connection);
  }

  /** After their windows are unbound. */
  private recordExpiries(count: number): void {
    this.counters[StatIndex.expired]! += count;
    const now = nowNs();
    for (let i = 0; i < count; i++) {
      const lateness = now - this.expiredDeadlines[i]!;
      this.counters[StatIndex.latenessSumNs]! += lateness;
      if (lateness > this.counters[StatIndex.latenessMaxNs]!)
        this.counters[StatIndex.latenessMaxNs] = lateness;
    }
  }

  private takeRequests(now: number): number {
    const { completion } = this;
    let count = 0;
    while (count < BATCH_REQUESTS && this.recvCq.poll(completion)) {
      count++;
      const connection = this.connections[completion.wrId >> BUFFER_BITS];
      // A completion of a connection that was dropped meanwhile has another pair's number.
      if (connection === undefined || connection.control.qpNum !== completion.qpNum) continue;
      if (completion.status !== WcStatus.SUCCESS) {
        if (completion.status !== WcStatus.WR_FLUSH_ERR) this.counters[StatIndex.malformed]!++;
        this.condemned.push(connection);
        continue;
      }
      this.handle(connection, completion.wrId & (MAX_REQUESTS - 1), completion.byteLen, now);
    }
    this.counters[StatIndex.requests]! += count;
    return count;
  }

  private handle(connection: ClientConnection, buffer: number, byteLen: number, now: number): void {
    const at = buffer * MESSAGE_WORDS;
    const request = connection.requests;
    const reply = connection.replies;
    const first = request[at]!;
    const type = (first >>> 8) & 0xff;
    const flags = first >>> 16;
    clearMessage(reply, at);
    reply[at + Word.REQUEST_ID] = request[at + Word.REQUEST_ID]!;
    let status: number;
    if (byteLen !== MESSAGE_BYTES || (first & 0xff) !== WIRE_VERSION) {
      status = this.malformed();
    } else if (type === MessageType.ACQUIRE_READ || type === MessageType.ACQUIRE_WRITE) {
      status = this.acquire(connection, at, type === MessageType.ACQUIRE_WRITE, flags, now);
      this.counters[status === AcquireStatus.Success ? StatIndex.acquired : StatIndex.refused]!++;
    } else if (type === MessageType.RELINQUISH) {
      status = this.relinquish(connection, at, flags);
      this.counters[status === ReplyStatus.OK ? StatIndex.relinquished : StatIndex.refused]!++;
    } else if (type === MessageType.RECYCLE_QP) {
      status = connection.recycle(request[at + Word.LEASE_INDEX]!) ? ReplyStatus.OK : ReplyStatus.INVALID;
    } else if (type === MessageType.CLOCK) {
      status = this.publishClock(connection, at, now);
    } else if (type === MessageType.HELLO) {
      status = this.hello(connection, at);
    } else {
      status = this.malformed();
    }
    reply[at] = head(type, status);
    connection.answered[connection.answeredCount++] = buffer;
    this.touch(connection);
  }

  private malformed(): number {
    this.counters[StatIndex.malformed]!++;
    return ReplyStatus.UNKNOWN_MESSAGE;
  }

  private hello(connection: ClientConnection, at: number): number {
    const reply = connection.replies;
    reply[at + Word.LEASE_INDEX] = this.options.nodeId;
    reply[at + Word.LEASE_GENERATION] = MAX_REQUESTS;
    putNumber(reply, at + Word.OFFSET, this.options.leaseBytes);
    putNumber(reply, at + Word.SIZE, this.options.allocOffset);
    putNumber(reply, at + Word.BEGIN, this.options.allocBytes);
    return ReplyStatus.OK;
  }

  private publishClock(connection: ClientConnection, at: number, now: number): number {
    const durationNs = getNumber(connection.requests, at + Word.TERM);
    if (!(durationNs >= 1 && durationNs <= MOST_PUBLISH_NS)) return ReplyStatus.INVALID;
    this.clockPage.publishUntil(now + durationNs);
    connection.replies[at + Word.RKEY] = connection.clockRegion.rkey;
    return ReplyStatus.OK;
  }

  private acquire(
    connection: ClientConnection,
    at: number,
    write: boolean,
    flags: number,
    now: number,
  ): number {
    const request = connection.requests;
    const reply = connection.replies;
    const size = getNumber(request, at + Word.SIZE);
    const expires = (flags & AcquireFlag.NoGc) === 0;
    const termNs = expires ? getNumber(request, at + Word.TERM) : 0;
    if ((flags & ~(AcquireFlag.NoGc | AcquireFlag.WithAllocation)) !== 0 || !(termNs >= (expires ? 1 : 0))) {
      return AcquireStatus.InvalidErr;
    }
    if (this.leases.full || connection.leases === this.options.maxLeasesPerClient) return AcquireStatus.NoMw;
    let offset = getNumber(request, at + Word.OFFSET);
    if ((flags & AcquireFlag.WithAllocation) !== 0) {
      if (!(size >= 1)) return AcquireStatus.AddressOutOfRangeErr;
      offset = this.allocator.allocate(size, connection.link.id);
      if (offset < 0) return AcquireStatus.NoMem;
    } else if (!this.leasable(offset, size)) {
      return AcquireStatus.AddressOutOfRangeErr;
    }
    const window = this.windowFor(connection);
    if (window < 0) {
      if ((flags & AcquireFlag.WithAllocation) !== 0) this.allocator.free(offset, connection.link.id);
      return AcquireStatus.NoMw;
    }
    const rkey = connection.windows.nextRkey(window);
    const access = write ? WRITE_ACCESS : READ_ACCESS;
    const wrId = connection.slot << BUFFER_BITS;
    connection.control.postBindMw(wrId, 0, rkey, connection.region.lkey, offset, size, access);

    const lease = this.leases.take();
    this.leases.connection[lease] = connection.slot;
    this.leases.window[lease] = window;
    this.leases.offset[lease] = offset;
    if (expires) this.leases.deadlines.push(lease, now + termNs);
    connection.leases++;

    reply[at + Word.LEASE_INDEX] = lease;
    reply[at + Word.LEASE_GENERATION] = this.leases.generation[lease]!;
    putNumber(reply, at + Word.OFFSET, offset);
    putNumber(reply, at + Word.SIZE, size);
    putNumber(reply, at + Word.BEGIN, now);
    putNumber(reply, at + Word.GRANTED_TERM, termNs);
    reply[at + Word.RKEY] = rkey;
    return AcquireStatus.Success;
  }

  private leasable(offset: number, size: number): boolean {
    const { leaseBytes, allocOffset, allocBytes } = this.options;
    const end = offset + size;
    // A range may span both buffers only where no gap lies between them.
    const inLeases = end <= (leaseBytes === allocOffset ? allocOffset + allocBytes : leaseBytes);
    return (
      size >= 1 && offset >= 0 && (inLeases || (offset >= allocOffset && end <= allocOffset + allocBytes))
    );
  }

  /** A window to bind: one that this batch would unbind otherwise, else one of the pool; -1 if there is none. */
  private windowFor(connection: ClientConnection): number {
    for (let i = connection.unbindCount - 1; i >= 0; i--) {
      const window = connection.unbinds[i]!;
      if (!connection.windows.canRebind(window)) continue;
      connection.unbinds[i] = connection.unbinds[--connection.unbindCount]!;
      this.counters[StatIndex.handovers]!++;
      return window;
    }
    return connection.windows.take();
  }

  private relinquish(connection: ClientConnection, at: number, flags: number): number {
    const request = connection.requests;
    const lease = request[at + Word.LEASE_INDEX]!;
    if ((flags & ~ModifyFlag.WithDeallocation) !== 0) return ReplyStatus.INVALID;
    if (!this.leases.owned(lease, request[at + Word.LEASE_GENERATION]!, connection.slot))
      return ReplyStatus.NOT_FOUND;
    const offset = this.leases.offset[lease]!;
    this.end(lease);
    // The memory may go to another client in this very batch, who hears of it after the unbind: see post().
    if ((flags & ModifyFlag.WithDeallocation) !== 0 && !this.allocator.free(offset, connection.link.id)) {
      return ReplyStatus.INVALID;
    }
    return ReplyStatus.OK;
  }

  /**
   * Send the batch: the rest of the unbinds, behind the binds that are in the rings already, then the answers. No
   * answer leaves before the window work of every client is done: memory that one client gave back and another got
   * in this batch must not be open to both when the second hears of it. On this side of a link the doorbell executes
   * at once, so the rings, deeper than a batch, are never full.
   */
  private post(): void {
    for (const connection of this.dirty) {
      for (let i = 0; i < connection.unbindCount; i++) {
        const rkey = connection.windows.rkey(connection.unbinds[i]!);
        connection.control.postLocalInv(connection.slot << BUFFER_BITS, SendFlag.FENCE, rkey);
      }
      if (this.dirty.length > 1) connection.control.doorbell();
    }
    for (const connection of this.dirty) {
      for (let i = 0; i < connection.answeredCount; i++) {
        connection.postReceive(connection.answered[i]!);
        connection.postReply(connection.answered[i]!);
      }
      connection.control.doorbell();
      for (let i = 0; i < connection.unbindCount; i++) connection.windows.give(connection.unbinds[i]!);
      connection.unbindCount = 0;
      connection.answeredCount = 0;
      connection.dirty = false;
    }
    this.dirty.length = 0;
  }

  /** Only failures complete here: a client that can't be answered is gone. */
  private takeSendErrors(): void {
    const { completion } = this;
    while (this.sendCq.poll(completion)) {
      const connection = this.connections[completion.wrId >> BUFFER_BITS];
      if (connection?.control.qpNum === completion.qpNum) this.condemned.push(connection);
    }
  }

  private dropCondemned(): void {
    for (const connection of this.condemned) {
      if (this.connections[connection.slot] === connection) this.drop(connection);
    }
    this.condemned.length = 0;
  }
}

function powerOfTwo(atLeast: number): number {
  return 2 ** Math.ceil(Math.log2(atLeast));
}
