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
} from '../../native/index.js';
import type { NodeLayout } from '../api.js';
import { PatronusError, PatronusErrorCode } from '../errors.js';
import { SPAN_BYTES } from '../memory-node/allocator.js';
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
import { OperationBatch } from './batch.js';
import type { BufferPool } from './buffers.js';
import { Calls, MAX_CALLS } from './calls.js';
import { NodeClockSource } from './clock-source.js';
import { DATA_SEND_DEPTH, DataPath } from './data-path.js';
import { LeaseRequests } from './lease-requests.js';
import type { Tracer } from './tracer.js';
import { TwoSided } from './two-sided.js';

/** Turns of the event loop that poll for an answer before the connection's channel is armed. */
const POLL_TURNS = 64;
const CONNECT_TIMEOUT_MS = 5000;
/** A node that answers no access for so long is given up. */
const SILENCE_MS = 5000;
/** Crystals are good for 100 millionths and are corrected by up to 500 more: two clocks, both at once, would be 1200. */
const DRIFT_PPM = 1200;
const CLOCK_INTERVAL_MS = 100;

/** A memory node to connect to; without an id it is whichever is there. */
export interface Target {
  readonly nodeId: number | undefined;
  readonly address: string;
}

/** What directory 0 says about another one. */
export interface Introduction {
  readonly addressEnd: number;
  /** Where the client is at home. */
  readonly home: number;
  /** By which the other one will know this client; two words. */
  readonly secret: Uint32Array;
}

/** For a connection to a directory that is not the first. */
export interface Further extends Introduction {
  readonly first: NodeConnection;
}

/** Those of ConnectOptions that are about a connection. */
export interface ConnectionOptions {
  readonly spares?: number;
  readonly requestTimeoutMs?: number;
  readonly time?: TimeOptions;
}

/**
 * A client's connection to a directory of a memory node, mostly the only one: requests over the control pair, one-sided operations
 * over a data pair.
 */
export class NodeConnection {
  readonly buffers: BufferPool;
  readonly data: DataPath;
  readonly requests: LeaseRequests;
  readonly twoSided: TwoSided;
  /** Where it is, and, once connected, which node. */
  target: Target;
  layout: NodeLayout;
  /** Who this client is to the node. */
  identity = 0;
  /** Key of all its memory; 0 if the node does not give it away. */
  universalRkey = 0;
  /** How many directories the node has. */
  directories = 1;
  /** Called when the connection is lost, or closed. */
  whenLost: (error: PatronusError) => void = () => {};
  /** This directory's part of the allocation buffer. */
  private partStart = 0;
  private partEnd = 0;
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
  private readonly owned: { close(): void }[];
  /** For single operations: used again and again. */
  private readonly freeBatches: OperationBatch[] = [];
  private readonly timeoutMs: number;
  private polling = false;
  private asleep = false;
  /** Runs while anything is under way. What waits keeps the process alive, not this. */
  private timer: NodeJS.Timeout | undefined;
  /** Since when accesses have been under way and none has completed, and how many had by then. */
  private silentSinceMs = 0;
  private takenBefore = -1;
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
    options: ConnectionOptions,
    further?: Further,
  ): Promise<NodeConnection> {
    const connection = new NodeConnection(device, pd, buffers, endpoint, options, further);
    try {
      await connection.established(endpoint);
      await connection.hello(endpoint, further);
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
    options: ConnectionOptions,
    further?: Further,
  ) {
    const { spares = 1, requestTimeoutMs = 5000, time = {} } = options;
    this.timeoutMs = requestTimeoutMs;
    this.buffers = buffers;
    this.target = endpoint;
    this.layout = {
      nodeId: endpoint.nodeId ?? 0,
      leaseBytes: 0,
      allocOffset: 0,
      allocBytes: 0,
      incarnation: 0,
    };
    this.channel = device.createChannel();
    const messages: HostMemory = device.allocMemory(2 * MAX_CALLS * MESSAGE_BYTES);
    const region: MemoryRegion = pd.regMr(messages, 0, messages.byteLength, Access.LOCAL_WRITE);
    const sendCq = device.createCq(4 * MAX_CALLS);
    const recvCq = device.createCq(2 * MAX_CALLS, this.channel);
    this.dataCq = device.createCq(powerOfTwo((1 + spares) * DATA_SEND_DEPTH), this.channel);
    const control = pd.createQp({ sendCq, recvCq, maxSendWr: 2 * MAX_CALLS, maxRecvWr: MAX_CALLS });
    this.data = new DataPath(pd, this.dataCq, sendCq, 1 + spares, {
      recycle: (index, access) => this.recycle(index, access),
      watch: () => this.watch(),
      lose: (error) => this.lose(error),
    });
    const qps = [control, ...this.data.pairs.map((pair) => pair.qp)];
    this.owned = [...qps, recvCq, sendCq, this.dataCq, region, messages, this.channel];
    try {
      this.link = device.connect(endpoint.address, qps, this.channel);
    } catch (error) {
      for (const object of this.owned) object.close();
      throw new PatronusError(PatronusErrorCode.CONNECT, `no memory node at ${endpoint.address}`, {
        cause: error,
      });
    }
    this.recvCq = recvCq;
    this.sendCq = sendCq;
    this.calls = new Calls(control, recvCq, new Uint32Array(messages.buffer), region.lkey);
    this.requests = new LeaseRequests(this);
    this.twoSided = new TwoSided(this);
    if (further !== undefined) {
      // The directories are threads of one process: their clock is one.
      this.clock = further.first.clock;
      return;
    }
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

  private async hello(endpoint: Target, further: Further | undefined): Promise<void> {
    let known = false;
    const layout = await this.call(
      MessageType.HELLO,
      0,
      (words, at) => {
        if (further !== undefined) words.set(further.secret, at + Word.SECRET);
      },
      (reply, at) => {
        known = reply[at]! >>> 16 === ReplyStatus.OK;
        this.directories = reply[at + Word.DIRECTORY]! >>> 16;
        this.partStart = reply[at + Word.PART_START]! * SPAN_BYTES;
        this.partEnd = this.partStart + reply[at + Word.PART_SPANS]! * SPAN_BYTES;
        this.identity = getNumber(reply, at + Word.IDENTITY);
        this.universalRkey = reply[at + Word.RKEY]!;
        return {
          nodeId: reply[at + Word.LEASE_INDEX]!,
          leaseBytes: getNumber(reply, at + Word.OFFSET),
          allocOffset: getNumber(reply, at + Word.SIZE),
          allocBytes: getNumber(reply, at + Word.BEGIN),
          incarnation: reply[at + Word.INCARNATION]!,
        };
      },
    );
    if (layout.nodeId !== (endpoint.nodeId ?? layout.nodeId)) {
      throw new PatronusError(
        PatronusErrorCode.CONNECT,
        `the memory node at ${endpoint.address} is node ${layout.nodeId}, not ${endpoint.nodeId}`,
      );
    }
    // The node may have ended since, and another one have begun at the same address.
    if (!known || layout.incarnation !== (further?.first.layout.incarnation ?? layout.incarnation)) {
      throw new PatronusError(
        PatronusErrorCode.CONNECT,
        `the memory node at ${endpoint.address} does not know this client`,
      );
    }
    this.layout = layout;
    this.target = { nodeId: layout.nodeId, address: endpoint.address };
  }

  /** Of directory 0: about another one, from 1 on. */
  introduction(directory: number): Promise<Introduction> {
    return this.call(
      MessageType.DIRECTORY,
      0,
      (words, at) => {
        words[at + Word.LEASE_INDEX] = directory;
      },
      (reply, at) => ({
        addressEnd: reply[at + Word.ADDRESS_END]!,
        home: reply[at + Word.HOME]! % this.directories,
        secret: reply.slice(at + Word.TOLD_SECRET, at + Word.TOLD_SECRET + 2),
      }),
    );
  }

  /** Whether the other one leads to a directory of the same node. */
  isOfNodeOf(other: NodeConnection): boolean {
    const { nodeId, incarnation } = this.layout;
    return nodeId === other.layout.nodeId && incarnation === other.layout.incarnation;
  }

  /** Whether the range lies in this directory's part of the allocation buffer. */
  hasPart(offset: number, size: number): boolean {
    const at = offset - this.layout.allocOffset;
    return at >= this.partStart && at + size <= this.partEnd;
  }

  /** Why the connection has ended; undefined while it has not. */
  get failure(): PatronusError | undefined {
    return this.lost;
  }

  private async recycle(index: number, access: number): Promise<void> {
    const status = await this.call(
      MessageType.RECYCLE_QP,
      0,
      (words, at) => {
        words[at + Word.LEASE_INDEX] = index;
        words[at + Word.QP_ACCESS] = access;
      },
      (words, at) => words[at]! >>> 16,
    );
    if (status !== ReplyStatus.OK)
      throw new PatronusError(PatronusErrorCode.DISCONNECTED, 'pair not rebuilt');
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

  /** Whether the term may be over on the node: true whenever it is. `nowNs`: see {@link Batch.commit}. */
  pastDeadline(deadlineNs: number, nowNs?: number): boolean {
    return (nowNs === undefined ? this.clock.latest() : this.clock.latestAt(nowNs)) >= deadlineNs;
  }

  newBatch(): OperationBatch {
    return new OperationBatch(this);
  }

  /** An empty batch for a single operation; to be given back when it is done. */
  takeBatch(): OperationBatch {
    return this.freeBatches.pop() ?? new OperationBatch(this);
  }

  giveBatch(batch: OperationBatch): void {
    this.freeBatches.push(batch);
  }

  /** Send a request; see {@link Calls.call}. Rejects with TIMEOUT, or when the connection is over. */
  call<T>(
    type: number,
    flags: number,
    fill: (words: Uint32Array, at: number) => void,
    take: (words: Uint32Array, at: number) => T,
    late?: (words: Uint32Array, at: number) => void,
    tracer?: Tracer,
  ): Promise<T> {
    if (this.lost !== undefined) return Promise.reject(this.lost);
    const answer = this.calls.call(
      (words, at) => {
        words[at] = head(type, flags);
        fill(words, at);
      },
      take,
      late,
      tracer,
    );
    this.watch();
    return answer;
  }

  /** Send a batch, now or when it can be; its complete() is called, perhaps before this returns. */
  submit(batch: OperationBatch): void {
    this.data.submit(batch);
  }

  /** Wait for a submitted batch as long as that is worth it; its complete() is called by then or later. */
  await(batch: OperationBatch): void {
    this.data.await(batch);
  }

  private get busy(): boolean {
    return this.calls.pending > 0 || this.data.busy;
  }

  /** Look after what is under way: poll for some turns of the event loop, then sleep on the channel. */
  private watch(): void {
    if (this.lost !== undefined) return;
    this.timer ??= setInterval(() => this.tick(), this.timeoutMs / 4).unref();
    if (this.polling || this.asleep) return;
    this.polling = true;
    this.pollTurn(POLL_TURNS);
  }

  /** Time passes for requests without an answer, however much else is answered. */
  private tick(): void {
    if (!this.busy) {
      clearInterval(this.timer);
      this.timer = undefined;
      this.takenBefore = -1;
      return;
    }
    this.calls.failOlderThan(performance.now() - this.timeoutMs);
    this.poll();
    const now = performance.now();
    if (!this.data.busy || this.data.taken !== this.takenBefore) this.silentSinceMs = now;
    this.takenBefore = this.data.taken;
    if (now - this.silentSinceMs > SILENCE_MS) {
      this.lose(new PatronusError(PatronusErrorCode.DISCONNECTED, 'the memory node is silent'));
      return;
    }
    this.wake();
  }

  private pollTurn(turns: number): void {
    setImmediate(() => {
      if (this.lost !== undefined) return;
      const progress = this.poll();
      if (!this.busy) this.polling = false;
      else if (progress > 0) this.pollTurn(POLL_TURNS);
      else if (turns > 0 && !this.data.pace.isCrowded) this.pollTurn(turns - 1);
      else this.sleep();
    });
  }

  private poll(): number {
    const count = this.calls.poll() + this.data.poll();
    if (this.sendCq.poll(this.completion)) {
      this.lose(
        new PatronusError(PatronusErrorCode.DISCONNECTED, 'the memory node takes no messages any more'),
      );
    }
    return count;
  }

  private sleep(): void {
    this.polling = false;
    this.asleep = true;
    this.channel.onSignal(() => this.wake());
    this.recvCq.arm();
    this.dataCq.arm();
    // What came before arming does not signal.
    if (this.poll() > 0) this.wake();
  }

  private wake(): void {
    if (!this.asleep) return;
    this.asleep = false;
    this.channel.onSignal(undefined);
    if (this.link.state !== 'established') {
      // What came before the end counts.
      this.poll();
      this.lose(new PatronusError(PatronusErrorCode.DISCONNECTED, 'the connection to the memory node ended'));
      return;
    }
    this.polling = true;
    this.pollTurn(POLL_TURNS);
  }

  /** The connection is over: nothing that is under way will be answered. */
  lose(error: PatronusError): void {
    if (this.lost !== undefined) return;
    this.lost = error;
    clearInterval(this.timer);
    this.timer = undefined;
    this.channel.onSignal(undefined);
    this.calls.failAll(error);
    this.data.lose();
    this.synchronisation?.stop();
    this.link.close();
    this.whenLost(error);
  }

  /** End the connection and with it all its leases. Call once. */
  close(): void {
    this.lose(new PatronusError(PatronusErrorCode.CLOSED, 'the client is closed'));
    for (const object of this.owned) object.close();
  }
}

function powerOfTwo(atLeast: number): number {
  return 2 ** Math.ceil(Math.log2(atLeast));
}
