import {
  type Completion,
  type CompletionQueue,
  type ProtectionDomain,
  QpState,
  type QueuePair,
  WcStatus,
} from '../../native/index.js';
import { RetCode } from '../api.js';
import { PatronusError, PatronusErrorCode } from '../errors.js';
import { MAX_BATCH, type OperationBatch } from './batch.js';
import { Pace } from './pace.js';

export const DATA_SEND_DEPTH = 256;
/**
 * Requests under way at a time. A NIC completes a request and only then says that its place in the ring is free: whoever posts
 * between the two may find the places of the last batch still taken.
 */
const MAX_UNDER_WAY = DATA_SEND_DEPTH - MAX_BATCH;
const BATCH_SLOTS = DATA_SEND_DEPTH;
const OPERATION_BITS = 4;
// A module's own constants are part of its compiled code; imported ones are loaded and checked at each use.
const { SUCCESS } = WcStatus;
const { Ok } = RetCode;
/**
 * Looks at the completion queue before a batch is left to the event loop. A round trip to an engine that polls takes some
 * dozens of them, which is less than a promise and a turn of the loop cost.
 */
const SPIN_POLLS = 1000;
/** The wrId of the request that ends a broken pair's queue: this, plus the pair's number. */
const DRAIN = 1 << 16;

interface DataPair {
  readonly index: number;
  readonly qp: QueuePair;
  /** Work requests posted whose completion, or that of a later one, has not come. */
  underWay: number;
  /** Out of service: broken, or on the way back. */
  out: boolean;
  /** While it is on the way back. */
  returning: Promise<void> | undefined;
  /** Told when everything posted on the broken pair has completed. */
  drained: (() => void) | undefined;
}

/** What the data path needs of the connection that it belongs to. */
interface Host {
  /** Have the memory node cycle its side of a pair; rejects if that does not work out. */
  recycle(index: number, access: number): Promise<void>;
  /** There is something to wait for. */
  watch(): void;
  lose(error: PatronusError): void;
}

/**
 * One-sided operations: batches over the pair in service, and what happens when it breaks. Each of the other pairs is a
 * spare: after a fault one of them takes over at once, and the broken one is rebuilt on the side and becomes a spare.
 */
export class DataPath {
  readonly pairs: readonly DataPair[];
  readonly pace = new Pace();
  private readonly cq: CompletionQueue;
  private readonly host: Host;
  private inService = 0;
  /** Remote operations that the pairs admit, Access bits; 0: all. */
  private access = 0;
  private readonly batches: (OperationBatch | undefined)[] = new Array<OperationBatch | undefined>(
    BATCH_SLOTS,
  ).fill(undefined);
  private readonly batchPair = new Uint8Array(BATCH_SLOTS);
  private readonly freeSlots: number[] = [];
  /** Of failed batches: their other work requests still complete under these numbers until the pair is reset. */
  private readonly failedSlots: number[] = [];
  /** Batches that wait for a pair in service, or for room. */
  private readonly waiting: OperationBatch[] = [];
  private readonly flushed: OperationBatch[] = [];
  /** Completions so far. */
  taken = 0;
  private lost = false;
  private readonly completion: Completion = {
    wrId: 0,
    status: 0,
    opcode: 0,
    flags: 0,
    byteLen: 0,
    qpNum: 0,
    imm: 0,
  };

  /** `recvCq`: never used, but a pair has one. */
  constructor(pd: ProtectionDomain, cq: CompletionQueue, recvCq: CompletionQueue, pairs: number, host: Host) {
    this.cq = cq;
    this.host = host;
    this.pairs = Array.from({ length: pairs }, (_, index) => ({
      index,
      qp: pd.createQp({ sendCq: cq, recvCq, maxSendWr: DATA_SEND_DEPTH, maxRecvWr: 1 }),
      underWay: 0,
      out: false,
      returning: undefined,
      drained: undefined,
    }));
    for (let slot = 0; slot < BATCH_SLOTS; slot++) this.freeSlots.push(slot);
  }

  /** Whether anything is under way that a completion will tell of. */
  get busy(): boolean {
    return (
      this.waiting.length > 0 ||
      this.freeSlots.length + this.failedSlots.length < BATCH_SLOTS ||
      this.pairs.some((pair) => pair.drained !== undefined)
    );
  }

  /** Send a batch, now or when it can be; its complete() is called, perhaps before this returns. */
  submit(batch: OperationBatch): void {
    if (this.lost) {
      batch.complete(RetCode.RdmaExecutionErr, 0);
      return;
    }
    if (this.waiting.length > 0 || !this.send(batch)) {
      this.waiting.push(batch);
      this.host.watch();
      return;
    }
    this.takeCompletions(batch);
  }

  /** Wait a little for a submitted batch, then leave it to the event loop. */
  await(batch: OperationBatch): void {
    if (this.waiting.length === 0 && this.pace.begin()) this.spin(batch);
    if (batch.outcome === undefined) this.host.watch();
  }

  private spin(batch: OperationBatch): void {
    for (let polls = 0; polls < SPIN_POLLS && batch.outcome === undefined; polls++) {
      this.takeCompletions(batch);
    }
    if (batch.outcome === undefined) this.pace.inVain();
  }

  /** Take what has completed, send what waits; returns how much there was. */
  poll(): number {
    let count = this.takeCompletions();
    if (this.waiting.length > 0) {
      while (this.waiting.length > 0 && this.send(this.waiting[0]!)) this.waiting.shift();
      count += this.takeCompletions();
    }
    return count;
  }

  /** Let the pairs admit only these remote operations (Access bits; 0: all). Operations under way are waited for. */
  async restrict(access: number): Promise<void> {
    this.access = access;
    for (const pair of this.pairs) await this.cycle(pair);
  }

  /** Bring the pair in service back to its first state, on both sides; a spare does its work meanwhile. */
  reinitialise(): Promise<void> {
    return this.cycle(this.pairs[this.inService]!);
  }

  /** The connection is over. What was under way may have been executed; what waited was not. */
  lose(): void {
    this.lost = true;
    for (const batch of this.batches) batch?.complete(RetCode.OutcomeUnknown, 0);
    this.batches.fill(undefined);
    for (const batch of this.waiting.splice(0)) batch.complete(RetCode.RdmaExecutionErr, 0);
    for (const pair of this.pairs) pair.drained?.();
  }

  private send(batch: OperationBatch): boolean {
    const pair = this.pairs[this.inService]!;
    if (pair.out || pair.underWay + batch.count > MAX_UNDER_WAY || this.freeSlots.length === 0) return false;
    const slot = this.freeSlots.pop()!;
    this.batches[slot] = batch;
    this.batchPair[slot] = this.inService;
    pair.underWay += batch.count;
    batch.writeTo(pair.qp, slot << OPERATION_BITS);
    pair.qp.doorbell();
    batch.tracer?.mark('posted');
    return true;
  }

  /** Take what has completed, up to the completion of `until`; returns how much there was. */
  private takeCompletions(until?: OperationBatch): number {
    const { completion } = this;
    let count = 0;
    while (this.cq.poll(completion)) {
      count++;
      if (completion.wrId >= DRAIN) {
        this.pairs[completion.wrId - DRAIN]?.drained?.();
        continue;
      }
      const slot = completion.wrId >>> OPERATION_BITS;
      const batch = this.batches[slot];
      // The rest of a batch that failed, flushed.
      if (batch === undefined) continue;
      const pair = this.pairs[this.batchPair[slot]!]!;
      pair.underWay -= batch.count;
      this.batches[slot] = undefined;
      if (completion.status === SUCCESS) {
        this.freeSlots.push(slot);
        batch.complete(Ok, batch.count);
        if (batch === until) break;
        continue;
      }
      this.failedSlots.push(slot);
      this.fail(pair, batch, completion.status, completion.wrId & (MAX_BATCH - 1));
    }
    if (this.flushed.length > 0) this.waiting.unshift(...this.flushed.splice(0));
    this.taken += count;
    return count;
  }

  /** The operation at `executed` of this batch did not succeed. */
  private fail(pair: DataPair, batch: OperationBatch, status: number, executed: number): void {
    const first = !pair.out;
    if (first) {
      const replaced = this.takeOut(pair);
      this.host.watch();
      // With a spare in service nobody waits for this pair: who hears of the fault goes on first.
      pair.returning = replaced ? this.rebuildLater(pair) : this.rebuild(pair);
    }
    if (status === WcStatus.REM_ACCESS_ERR) batch.complete(RetCode.RdmaProtectionErr, executed);
    // Behind another batch's fault: nothing of this one was executed, so it goes over the next pair.
    else if (status === WcStatus.WR_FLUSH_ERR && !first && executed === 0) this.flushed.push(batch);
    // No fault of an operation: the pair was ended under it, or the other side is silent.
    else if (status === WcStatus.WR_FLUSH_ERR || status === WcStatus.RETRY_EXC_ERR)
      batch.complete(RetCode.OutcomeUnknown, executed);
    else batch.complete(RetCode.RdmaExecutionErr, executed);
  }

  /** Returns whether another pair is in service. */
  private takeOut(pair: DataPair): boolean {
    pair.out = true;
    const spare = this.pairs.find((other) => !other.out);
    if (spare !== undefined) this.inService = spare.index;
    return spare !== undefined;
  }

  /** Let what is under way on a pair end, and cycle it. */
  private async cycle(pair: DataPair): Promise<void> {
    // The others too: then there is a spare to do its work, if there ever is.
    for (const each of this.pairs) await each.returning;
    this.takeOut(pair);
    while (pair.underWay > 0 && pair.returning === undefined && !this.lost) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    pair.returning ??= this.rebuild(pair);
    await pair.returning;
    if (this.lost) throw new PatronusError(PatronusErrorCode.DISCONNECTED, 'the connection ended meanwhile');
  }

  /** In the next turn of the event loop, by which the node's answer is awaited anyway. */
  private async rebuildLater(pair: DataPair): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    await this.rebuild(pair);
  }

  private async rebuild(pair: DataPair): Promise<void> {
    if (this.lost) return;
    try {
      if (pair.qp.state !== QpState.RTS) await this.drain(pair);
      if (this.lost) return;
      pair.qp.modify(QpState.RESET);
      await this.host.recycle(pair.index, this.access);
      for (const state of [QpState.INIT, QpState.RTR, QpState.RTS]) pair.qp.modify(state);
      for (const slot of this.failedSlots.splice(0)) {
        (this.batchPair[slot] === pair.index ? this.freeSlots : this.failedSlots).push(slot);
      }
      pair.underWay = 0;
      pair.returning = undefined;
      pair.out = false;
      if (this.pairs[this.inService]!.out) this.inService = pair.index;
      this.poll();
      this.host.watch();
    } catch (error) {
      this.host.lose(
        new PatronusError(PatronusErrorCode.DISCONNECTED, 'a broken queue pair could not be rebuilt', {
          cause: error,
        }),
      );
    }
  }

  /** Wait until all that was posted on a pair in ERR has completed: completions come in order, so a last one tells. */
  private async drain(pair: DataPair): Promise<void> {
    const drained = new Promise<void>((resolve) => {
      pair.drained = () => {
        pair.drained = undefined;
        resolve();
      };
    });
    this.host.watch();
    // The ring may be full until the NIC has flushed it.
    while (!this.lost && !pair.qp.postWrite(DRAIN + pair.index, 0, 0, 0, 0, 0, 0)) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (this.lost) return;
    pair.qp.doorbell();
    this.takeCompletions();
    await drained;
  }
}
