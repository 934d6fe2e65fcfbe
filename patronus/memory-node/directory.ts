import {
  type Completion,
  type CompletionChannel,
  type CompletionQueue,
  type Device,
  type HostMemory,
  type Listener,
  nowNs,
  WcStatus,
} from '../../native/index.js';
import { MAX_REQUESTS } from '../wire/messages.js';
import { Accesses } from './accesses.js';
import { Allocations } from './allocations.js';
import { BUFFER_BITS, type ClientConnection, CONTROL_SEND_DEPTH } from './client-connection.js';
import { ClockPage } from './clock-page.js';
import { Connections, MAX_DATA_QPS } from './connections.js';
import { DirectoryLocks } from './directory-locks.js';
import { Headers } from './headers.js';
import { Introductions } from './introductions.js';
import { LeaseTable } from './lease-table.js';
import { Leasing } from './leasing.js';
import { LockTable } from './lock-table.js';
import { BATCH_REQUESTS, type DirectoryOptions, leaseIndices } from './options.js';
import { onlyPlace, type Place, partOf } from './place.js';
import { policies } from './policy.js';
import { RequestQueue } from './request-queue.js';
import { Requests } from './requests.js';
import { Sleeper } from './sleeper.js';
import { recordLateness, StatIndex } from './stats.js';
import { WindowWork } from './window-work.js';

/** Of them, those of one client while others wait. */
const CLIENT_REQUESTS = 4;
/** Leases whose deadline is looked at in one turn. */
const BATCH_EXPIRIES = 64;
/** Turns without work before the thread sleeps: some 20 us, more than a client takes for its next request. */
const IDLE_TURNS = 200;
/** Turns between two looks for new and ended connections under load. */
const CONNECT_TURNS = 1000;

/**
 * The serving loop of a memory node, or one of several: takes the requests of all clients in batches, grants and ends leases,
 * ends what has expired, sleeps until the next request or deadline. It owns its thread.
 */
export class Directory {
  readonly channel: CompletionChannel;
  readonly listener: Listener;
  /** The node's memory, which its directories have in common. */
  readonly memory: HostMemory;
  private readonly sleeper: Sleeper;
  private readonly sendCq: CompletionQueue;
  private readonly recvCq: CompletionQueue;
  private readonly leases: LeaseTable;
  private readonly allocations: Allocations;
  private readonly clockPage: ClockPage;
  private readonly locks: DirectoryLocks;
  /** Whether other directories share the locks. */
  private readonly shared: boolean;
  private readonly work: WindowWork;
  private readonly leasing: Leasing;
  private readonly queue: RequestQueue;
  private readonly requests: Requests;
  private readonly connections: Connections;
  private readonly counters: Float64Array;
  private readonly stopWord: Int32Array;
  private readonly slots: (ClientConnection | undefined)[];
  private readonly condemned: ClientConnection[] = [];
  private turnsSinceLook = 0;
  /**
   * When this turn began, then when its requests are carried out; node clock, ns. In an array, since a number passed on would
   * take an object.
   */
  private readonly time = new Float64Array(1);
  /** Of the leases that ended in this turn. */
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
  constructor(
    device: Device,
    options: DirectoryOptions,
    stopWord: Int32Array,
    counters: Float64Array,
    place: Place = onlyPlace(options),
  ) {
    const { maxClients, maxLeases, allocOffset, allocBytes } = options;
    const part = partOf(options, place);
    this.stopWord = stopWord;
    this.counters = counters;
    const memory =
      place.memory === undefined
        ? device.allocMemory(allocOffset + allocBytes, options)
        : device.openMemory(place.memory);
    this.memory = memory;
    this.channel = device.createChannel();
    this.sleeper = new Sleeper(this.channel);
    this.recvCq = device.createCq(powerOfTwo(maxClients * (MAX_REQUESTS + MAX_DATA_QPS)), this.channel);
    this.sendCq = device.createCq(powerOfTwo(maxClients * (CONTROL_SEND_DEPTH + MAX_DATA_QPS)));
    this.slots = new Array<ClientConnection | undefined>(maxClients).fill(undefined);
    this.leases = new LeaseTable(maxLeases, maxClients, BATCH_REQUESTS);
    const headers = new Headers(device, this.leases.indices);
    this.clockPage = new ClockPage(device);
    const policy = policies[options.policy];
    this.allocations = new Allocations(memory, allocOffset, part, policy);
    const indices = leaseIndices(options);
    const table = new LockTable(place.locks, place.directories * indices, place.secret);
    this.locks = new DirectoryLocks(table, place.directory * indices, indices);
    this.shared = place.directories > 1;
    const introductions = new Introductions(place.introductions);
    this.work = new WindowWork(options.handover && device.attr.rebindBoundWindow, counters);
    this.leasing = new Leasing(
      this.leases,
      this.locks,
      headers,
      this.allocations,
      this.work,
      options,
      this.slots,
      this.time,
    );
    this.queue = new RequestQueue(maxClients, CLIENT_REQUESTS);
    this.requests = new Requests(
      this.leasing,
      new Accesses(memory, this.leases, headers, this.time),
      this.clockPage,
      this.work,
      introductions,
      options,
      place,
      part,
      counters,
    );
    this.listener = device.listen(
      this.channel,
      options.listen === undefined ? {} : { address: options.listen, engineThreads: options.engineThreads },
    );
    this.connections = new Connections(
      this.slots,
      {
        device,
        memory,
        headers,
        clockPage: this.clockPage,
        sendCq: this.sendCq,
        recvCq: this.recvCq,
      },
      this.listener,
      this.leasing,
      this.queue,
      place.directory === 0 ? introductions : undefined,
      options,
      counters,
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
    if (++this.turnsSinceLook >= CONNECT_TURNS) this.look();
    const busy = this.connections.takeApart();
    const { time } = this;
    time[0] = nowNs();
    const watched = this.clockPage.tick(time);
    const expired = this.expire();
    // While it is behind with revocations the loop grants nothing: what it grants it has to be able to revoke in time.
    const carriedOut = this.leases.deadlines.isDue(time) ? 0 : this.carryOut();
    if (!busy && expired === 0 && carriedOut === 0 && this.condemned.length === 0) return watched;
    this.publishUse();
    // A lock must not be another directory's, and that told, before the window of the lease that held it is unbound.
    if (this.shared && this.locks.pending) this.work.finish();
    this.locks.settle();
    this.work.post();
    this.leases.settle();
    this.takeSendErrors();
    this.dropCondemned();
    if (expired > 0) this.recordExpiries(expired);
    return true;
  }

  /** Before the answers go out: who has one sees the counters that belong to it. */
  private publishUse(): void {
    this.counters[StatIndex.liveLeases] = this.leases.live;
    this.counters[StatIndex.allocatedBytes] = this.allocations.allocatedBytes;
    this.connections.publishCount();
  }

  private sleep(): void {
    this.recvCq.arm();
    // What came before arming does not signal: look once more.
    if (!this.turn()) this.sleeper.sleep(this.leases.deadlines.earliestNs);
    this.look();
  }

  private look(): void {
    this.turnsSinceLook = 0;
    this.connections.look();
  }

  /** End the leases whose term is over, up to a batch; returns how many. */
  private expire(): number {
    const { deadlines } = this.leases;
    let ended = 0;
    for (let looked = 0; looked < BATCH_EXPIRIES && deadlines.isDue(this.time); looked++) {
      deadlines.copyEarliest(this.expiredDeadlines, ended);
      if (this.leasing.expireNext()) ended++;
    }
    return ended;
  }

  /** After their windows are unbound. */
  private recordExpiries(count: number): void {
    this.counters[StatIndex.expired]! += count;
    this.time[0] = nowNs();
    for (let i = 0; i < count; i++) recordLateness(this.counters, this.time, this.expiredDeadlines, i);
  }

  private carryOut(): number {
    this.takeRequests();
    if (this.queue.empty) return 0;
    // Later than all of them were made: a term that begins now is as long as was asked for.
    this.time[0] = nowNs();
    let count = 0;
    while (count < BATCH_REQUESTS && this.queue.take()) {
      count++;
      const { slot, buffer, byteLen } = this.queue;
      this.requests.handle(this.slots[slot]!, buffer, byteLen);
    }
    this.counters[StatIndex.requests]! += count;
    return count;
  }

  /** Put what has arrived into the queue: as much as there is, so that every client's first request is seen. */
  private takeRequests(): void {
    const { completion } = this;
    while (this.recvCq.poll(completion)) {
      const connection = this.slots[completion.wrId >> BUFFER_BITS];
      // A completion of a connection that was dropped meanwhile has another pair's number.
      if (connection === undefined || connection.closing || connection.control.qpNum !== completion.qpNum)
        continue;
      if (completion.status !== WcStatus.SUCCESS) {
        if (completion.status !== WcStatus.WR_FLUSH_ERR) this.counters[StatIndex.malformed]!++;
        this.condemned.push(connection);
        continue;
      }
      this.queue.push(connection.slot, completion.wrId & (MAX_REQUESTS - 1), completion.byteLen);
    }
  }

  /** Only failures complete here: a client that can't be answered is gone. */
  private takeSendErrors(): void {
    const { completion } = this;
    while (this.sendCq.poll(completion)) {
      const connection = this.slots[completion.wrId >> BUFFER_BITS];
      if (connection?.control.qpNum === completion.qpNum) this.condemned.push(connection);
    }
  }

  private dropCondemned(): void {
    const { condemned } = this;
    for (let i = 0; i < condemned.length; i++) this.connections.drop(condemned[i]!);
    condemned.length = 0;
  }
}

function powerOfTwo(atLeast: number): number {
  return 2 ** Math.ceil(Math.log2(atLeast));
}
