import {
  Access,
  type Completion,
  type CompletionChannel,
  type CompletionQueue,
  type Connection,
  type Device,
  type HostMemory,
  type MemoryRegion,
  nowNs,
  type ProtectionDomain,
  QpState,
  type QueuePair,
  WcStatus,
} from '../../native/index.js';
import {
  AcquireFlag,
  type AcquireRequest,
  type AcquireResult,
  AcquireStatus,
  ModifyFlag,
  type NodeLayout,
  RetCode,
} from '../api.js';
import { PatronusError, PatronusErrorCode } from '../errors.js';
import { ofThisHost, type TimeOptions } from '../time/options.js';
import { HostClock, type NodeClock, RemoteClock } from '../time/remote-clock.js';
import { Synchronisation } from '../time/synchronisation.js';
import {
  getNumber,
  head,
  MESSAGE_BYTES,
  MessageType,
  putNumber,
  ReplyStatus,
  Word,
} from '../wire/messages.js';
import { MAX_BATCH, OperationBatch } from './batch.js';
import type { BufferPool } from './buffers.js';
import { Calls, MAX_CALLS } from './calls.js';
import { NodeClockSource } from './clock-source.js';
import { LeaseHandle } from './lease.js';

/** One in service and a spare, so that an access fault costs a switch and not the building of a pair. */
const DATA_QPS = 2;
const DATA_SEND_DEPTH = 256;
const BATCH_SLOTS = DATA_SEND_DEPTH;
const OPERATION_BITS = 4;
/** Turns of the event loop that poll for an answer before the connection's channel is armed. */
const POLL_TURNS = 64;
/**
 * Looks at the completion queue before a batch is left to the event loop. A round trip to an engine that polls takes some
 * dozens of them, which is less than a promise and a turn of the loop cost.
 */
const SPIN_POLLS = 1000;
const CALL_TIMEOUT_MS = 5000;
const CONNECT_TIMEOUT_MS = 5000;
/** Crystals are good for 100 millionths and are corrected by up to 500 more: two clocks, both at once, would be 1200. */
const DRIFT_PPM = 1200;
const CLOCK_INTERVAL_MS = 100;

/** A memory node to connect to; without an id it is whichever is there. */
export interface Target {
  readonly nodeId: number | undefined;
  readonly address: string;
}

interface DataPair {
  readonly qp: QueuePair;
  /** Work requests posted whose completion, or that of a later one, has not come. */
  underWay: number;
  broken: boolean;
}

/** A client's connection to a memory node: requests over the control pair, one-sided operations over a data pair. */
export class NodeConnection {
  readonly buffers: BufferPool;
  /** Where it is, and, once connected, which node. */
  target: Target;
  layout: NodeLayout;
  /** The node's clock as this client knows it. */
  readonly clock: NodeClock;
  private readonly synchronisation: Synchronisation | undefined;
  private readonly link: Connection;
  private readonly channel: CompletionChannel;
  private readonly calls: Calls;
  private readonly recvCq: CompletionQueue;
  /** Only failures complete here. */
  private readonly sendCq: CompletionQueue;
  private readonly dataCq: CompletionQueue;
  private readonly pairs: readonly DataPair[];
  private inService = 0;
  private readonly batches: (OperationBatch | undefined)[] = new Array<OperationBatch | undefined>(
    BATCH_SLOTS,
  ).fill(undefined);
  private readonly batchPair = new Uint8Array(BATCH_SLOTS);
  private readonly freeBatches: number[] = [];
  /** Of failed batches: their other work requests still complete under these numbers until the pair is reset. */
  private readonly failedBatches: number[] = [];
  /** Batches that wait for a pair in service, or for room. */
  private readonly waiting: OperationBatch[] = [];
  private readonly flushed: OperationBatch[] = [];
  private readonly owned: { close(): void }[];
  private polling = false;
  private timer: NodeJS.Timeout | undefined;
  private lost: PatronusError | undefined;
  private readonly completion: Completion = {
    wrId: 0,
    status: 0,
    opcode: 0,
    flags: 0,
    byteLen: 0,
    qpNum: 0,
    imm: 0,
  };

  static async open(
    device: Device,
    pd: ProtectionDomain,
    buffers: BufferPool,
    endpoint: Target,
    time: TimeOptions = {},
  ): Promise<NodeConnection> {
    const connection = new NodeConnection(device, pd, buffers, endpoint, time);
    try {
      await connection.established(endpoint);
      await connection.hello(endpoint);
      await connection.synchronise();
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  private constructor(
    device: Device,
    pd: ProtectionDomain,
    buffers: BufferPool,
    endpoint: Target,
    time: TimeOptions,
  ) {
    this.buffers = buffers;
    this.target = endpoint;
    this.layout = { nodeId: endpoint.nodeId ?? 0, leaseBytes: 0, allocOffset: 0, allocBytes: 0 };
    this.channel = device.createChannel();
    const messages: HostMemory = device.allocMemory(2 * MAX_CALLS * MESSAGE_BYTES);
    const region: MemoryRegion = pd.regMr(messages, 0, messages.byteLength, Access.LOCAL_WRITE);
    const sendCq = device.createCq(4 * MAX_CALLS);
    const recvCq = device.createCq(2 * MAX_CALLS, this.channel);
    this.dataCq = device.createCq(DATA_QPS * DATA_SEND_DEPTH, this.channel);
    const control = pd.createQp({ sendCq, recvCq, maxSendWr: 2 * MAX_CALLS, maxRecvWr: MAX_CALLS });
    this.pairs = Array.from({ length: DATA_QPS }, () => ({
      qp: pd.createQp({ sendCq: this.dataCq, recvCq: sendCq, maxSendWr: DATA_SEND_DEPTH, maxRecvWr: 1 }),
      underWay: 0,
      broken: false,
    }));
    const qps = [control, ...this.pairs.map((pair) => pair.qp)];
    this.owned = [...qps, recvCq, sendCq, this.dataCq, region, messages, this.channel];
    try {
      this.link = device.connect(endpoint.address, qps, this.channel);
    } catch (error) {
      for (const object of this.owned) object.close();
      throw new PatronusError(PatronusErrorCode.CONNECT, `no memory node at ${endpoint.address}`, {
        cause: error,
      });
    }
    for (let slot = 0; slot < BATCH_SLOTS; slot++) this.freeBatches.push(slot);
    this.recvCq = recvCq;
    this.sendCq = sendCq;
    this.calls = new Calls(control, recvCq, new Uint32Array(messages.buffer), region.lkey);
    const { synchronise = !ofThisHost(endpoint.address), epsilonNs = 0, now = nowNs } = time;
    if (synchronise) {
      const { driftPpm = DRIFT_PPM, intervalMs = CLOCK_INTERVAL_MS } = time;
      const clock = new RemoteClock(now, driftPpm);
      this.clock = clock;
      this.synchronisation = new Synchronisation(clock, new NodeClockSource(this), now, {
        driftPpm,
        intervalMs,
      });
    } else {
      this.clock = new HostClock(now, epsilonNs);
    }
  }

  private async established(endpoint: Target): Promise<void> {
    const deadline = performance.now() + CONNECT_TIMEOUT_MS;
    while (this.link.state === 'connecting' && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    if (this.link.state !== 'established') {
      const why = this.link.state === 'connecting' ? 'did not answer in time' : 'refused the connection';
      throw new PatronusError(PatronusErrorCode.CONNECT, `the memory node at ${endpoint.address} ${why}`);
    }
  }

  private async hello(endpoint: Target): Promise<void> {
    const layout = await this.call(
      MessageType.HELLO,
      0,
      () => {},
      (reply, at) => ({
        nodeId: reply[at + Word.LEASE_INDEX]!,
        leaseBytes: getNumber(reply, at + Word.OFFSET),
        allocOffset: getNumber(reply, at + Word.SIZE),
        allocBytes: getNumber(reply, at + Word.BEGIN),
      }),
    );
    if (layout.nodeId !== (endpoint.nodeId ?? layout.nodeId)) {
      throw new PatronusError(
        PatronusErrorCode.CONNECT,
        `the memory node at ${endpoint.address} is node ${layout.nodeId}, not ${endpoint.nodeId}`,
      );
    }
    this.layout = layout;
    this.target = { nodeId: layout.nodeId, address: endpoint.address };
  }

  /** Why the connection has ended; undefined while it has not. */
  get failure(): PatronusError | undefined {
    return this.lost;
  }

  /** Learn the node's clock, then keep to it. */
  private async synchronise(): Promise<void> {
    const { synchronisation } = this;
    if (synchronisation === undefined) return;
    if (!(await synchronisation.settle())) {
      throw new PatronusError(PatronusErrorCode.CLOCK, 'the clock of the memory node could not be read');
    }
    synchronisation.run();
  }

  /** Let the node write its clock page for so long; resolves to the key of the page. */
  async requestClock(durationNs: number): Promise<number> {
    const rkey = await this.call(
      MessageType.CLOCK,
      0,
      (words, at) => putNumber(words, at + Word.TERM, durationNs),
      (words, at) => (words[at]! >>> 16 === ReplyStatus.OK ? words[at + Word.RKEY]! : undefined),
    );
    if (rkey === undefined)
      throw new PatronusError(PatronusErrorCode.CLOCK, 'the memory node refused its clock');
    return rkey;
  }

  /** Whether the term may be over on the node: true whenever it is. */
  pastDeadline(deadlineNs: number): boolean {
    return this.clock.latest() >= deadlineNs;
  }

  newBatch(): OperationBatch {
    return new OperationBatch(this);
  }

  acquire(request: AcquireRequest, write: boolean): Promise<AcquireResult> {
    const { offset = 0, size, termNs, flags = 0 } = request;
    for (const [name, value] of Object.entries({ offset, size, termNs })) {
      if (!Number.isSafeInteger(value) || value < 0) {
        return Promise.reject(new RangeError(`${name} must be an integer from 0, not ${value}`));
      }
    }
    // The message has room for 16 flags; one above must not get lost on the way.
    if ((flags & 0xffff) !== flags) {
      return Promise.resolve({ status: AcquireStatus.InvalidErr, lease: undefined });
    }
    const type = write ? MessageType.ACQUIRE_WRITE : MessageType.ACQUIRE_READ;
    return this.call(
      type,
      flags,
      (words, at) => {
        putNumber(words, at + Word.OFFSET, offset);
        putNumber(words, at + Word.SIZE, size);
        putNumber(words, at + Word.TERM, termNs);
      },
      (words, at) => {
        const status = (words[at]! >>> 16) as AcquireStatus;
        if (status !== AcquireStatus.Success) return { status, lease: undefined };
        const expires = (flags & AcquireFlag.NoGc) === 0;
        const begin = getNumber(words, at + Word.BEGIN);
        const lease = new LeaseHandle(this, {
          index: words[at + Word.LEASE_INDEX]!,
          generation: words[at + Word.LEASE_GENERATION]!,
          offset: getNumber(words, at + Word.OFFSET),
          size: getNumber(words, at + Word.SIZE),
          rkey: words[at + Word.RKEY]!,
          writable: write,
          deadlineNs: expires ? begin + getNumber(words, at + Word.GRANTED_TERM) : Number.POSITIVE_INFINITY,
        });
        return { status, lease };
      },
    );
  }

  async relinquish(lease: LeaseHandle, flags: number): Promise<RetCode> {
    if (lease.ended) return RetCode.NotFound;
    if (flags !== 0 && flags !== ModifyFlag.WithDeallocation) return RetCode.Invalid;
    lease.ended = true;
    const status = await this.call(
      MessageType.RELINQUISH,
      flags,
      (words, at) => {
        words[at + Word.LEASE_INDEX] = lease.index;
        words[at + Word.LEASE_GENERATION] = lease.generation;
      },
      (words, at) => words[at]! >>> 16,
    );
    if (status === ReplyStatus.OK) return RetCode.Ok;
    return status === ReplyStatus.NOT_FOUND ? RetCode.NotFound : RetCode.Invalid;
  }

  private call<T>(
    type: number,
    flags: number,
    fill: (words: Uint32Array, at: number) => void,
    take: (words: Uint32Array, at: number) => T,
  ): Promise<T> {
    if (this.lost !== undefined) return Promise.reject(this.lost);
    const answer = this.calls.call((words, at) => {
      words[at] = head(type, flags);
      fill(words, at);
    }, take);
    this.watch();
    return answer;
  }

  /** Send a batch, now or when it can be; its complete() is called, perhaps before this returns. */
  submit(batch: OperationBatch): void {
    if (this.lost !== undefined) {
      batch.complete(RetCode.RdmaExecutionErr, 0);
      return;
    }
    if (this.waiting.length > 0 || !this.send(batch)) {
      this.waiting.push(batch);
      this.watch();
      return;
    }
    for (let polls = 0; polls < SPIN_POLLS && batch.outcome === undefined; polls++) this.takeCompletions();
    if (batch.outcome === undefined) this.watch();
  }

  private send(batch: OperationBatch): boolean {
    const pair = this.pairs[this.inService]!;
    if (pair.broken || pair.underWay + batch.count > DATA_SEND_DEPTH || this.freeBatches.length === 0)
      return false;
    const slot = this.freeBatches.pop()!;
    this.batches[slot] = batch;
    this.batchPair[slot] = this.inService;
    pair.underWay += batch.count;
    batch.post(pair.qp, slot << OPERATION_BITS);
    pair.qp.doorbell();
    return true;
  }

  private takeCompletions(): number {
    const { completion } = this;
    let count = 0;
    while (this.dataCq.poll(completion)) {
      count++;
      const slot = completion.wrId >>> OPERATION_BITS;
      const batch = this.batches[slot];
      // The rest of a batch that failed, flushed.
      if (batch === undefined) continue;
      const { status } = completion;
      const pair = this.pairs[this.batchPair[slot]!]!;
      pair.underWay -= batch.count;
      this.batches[slot] = undefined;
      if (status === WcStatus.SUCCESS) {
        this.freeBatches.push(slot);
        batch.complete(RetCode.Ok, batch.count);
        continue;
      }
      this.failedBatches.push(slot);
      if (!pair.broken) this.replace(pair);
      const executed = completion.wrId & (MAX_BATCH - 1);
      if (status === WcStatus.WR_FLUSH_ERR && executed === 0) {
        // Behind another batch's fault: nothing of this one was executed, so it goes over the next pair.
        this.flushed.push(batch);
      } else {
        const refused = status === WcStatus.REM_ACCESS_ERR;
        batch.complete(refused ? RetCode.RdmaProtectionErr : RetCode.RdmaExecutionErr, executed);
      }
    }
    if (this.flushed.length > 0) this.waiting.unshift(...this.flushed.splice(0));
    return count;
  }

  /** Switch to a spare; the broken pair is rebuilt on the side and becomes the spare. */
  private replace(pair: DataPair): void {
    pair.broken = true;
    const spare = this.pairs.findIndex((other) => !other.broken);
    if (spare >= 0) this.inService = spare;
    void this.rebuild(pair);
  }

  private async rebuild(pair: DataPair): Promise<void> {
    const index = this.pairs.indexOf(pair);
    try {
      // Let everything flushed come out of the queue before the pair is used again.
      await new Promise((resolve) => setImmediate(resolve));
      this.takeCompletions();
      pair.qp.modify(QpState.RESET);
      const status = await this.call(
        MessageType.RECYCLE_QP,
        0,
        (words, at) => {
          words[at + Word.LEASE_INDEX] = index;
        },
        (words, at) => words[at]! >>> 16,
      );
      if (status !== ReplyStatus.OK)
        throw new PatronusError(PatronusErrorCode.DISCONNECTED, 'pair not rebuilt');
      for (const state of [QpState.INIT, QpState.RTR, QpState.RTS]) pair.qp.modify(state);
      for (const slot of this.failedBatches.splice(0)) {
        (this.batchPair[slot] === index ? this.freeBatches : this.failedBatches).push(slot);
      }
      pair.broken = false;
      if (this.pairs[this.inService]!.broken) this.inService = index;
      this.poll();
      this.watch();
    } catch (error) {
      this.lose(
        new PatronusError(PatronusErrorCode.DISCONNECTED, 'a broken queue pair could not be rebuilt', {
          cause: error,
        }),
      );
    }
  }

  private sendWaiting(): void {
    while (this.waiting.length > 0 && this.send(this.waiting[0]!)) this.waiting.shift();
  }

  private get busy(): boolean {
    return (
      this.waiting.length > 0 ||
      this.calls.pending > 0 ||
      this.freeBatches.length + this.failedBatches.length < BATCH_SLOTS
    );
  }

  /** Look after what is under way: poll for some turns of the event loop, then sleep on the channel. */
  private watch(): void {
    if (this.polling || this.timer !== undefined) return;
    this.polling = true;
    this.pollTurn(POLL_TURNS);
  }

  private pollTurn(turns: number): void {
    setImmediate(() => {
      if (this.lost !== undefined) return;
      const progress = this.poll();
      if (!this.busy) this.polling = false;
      else if (progress > 0) this.pollTurn(POLL_TURNS);
      else if (turns > 0) this.pollTurn(turns - 1);
      else this.sleep();
    });
  }

  private poll(): number {
    let count = this.calls.poll() + this.takeCompletions();
    if (this.waiting.length > 0) {
      this.sendWaiting();
      count += this.takeCompletions();
    }
    if (this.sendCq.poll(this.completion)) {
      this.lose(
        new PatronusError(PatronusErrorCode.DISCONNECTED, 'the memory node takes no messages any more'),
      );
    }
    return count;
  }

  private sleep(): void {
    this.channel.onSignal(() => this.wake());
    this.timer = setTimeout(() => {
      this.calls.failOlderThan(performance.now() - CALL_TIMEOUT_MS);
      this.wake();
    }, CALL_TIMEOUT_MS / 4);
    this.recvCq.arm();
    this.dataCq.arm();
    // What came before arming does not signal.
    if (this.poll() > 0) this.wake();
  }

  private wake(): void {
    if (this.timer === undefined) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.channel.onSignal(undefined);
    if (this.link.state !== 'established') {
      this.lose(new PatronusError(PatronusErrorCode.DISCONNECTED, 'the connection to the memory node ended'));
      return;
    }
    this.pollTurn(POLL_TURNS);
  }

  /** The connection is over: nothing that is under way will be answered. */
  private lose(error: PatronusError): void {
    if (this.lost !== undefined) return;
    this.lost = error;
    if (this.timer !== undefined) clearTimeout(this.timer);
    this.timer = undefined;
    this.channel.onSignal(undefined);
    this.calls.failAll(error);
    for (const batch of [...this.batches, ...this.waiting.splice(0)])
      batch?.complete(RetCode.RdmaExecutionErr, 0);
    this.batches.fill(undefined);
    this.synchronisation?.stop();
    this.link.close();
  }

  /** End the connection and with it all its leases. Call once. */
  close(): void {
    this.lose(new PatronusError(PatronusErrorCode.CLOSED, 'the client is closed'));
    for (const object of this.owned) object.close();
  }
}
