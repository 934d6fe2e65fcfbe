import type { CompletionQueue, QueuePair } from '../../native/index.js';
import { WcStatus } from '../../native/index.js';
import { PatronusError, PatronusErrorCode } from '../errors.js';
import { clearMessage, MESSAGE_BYTES, MESSAGE_WORDS, Word } from '../wire/messages.js';
import type { Tracer } from './tracer.js';

/** Requests under way at once per client; more wait here. Half of what the node takes, so that it always has room. */
export const MAX_CALLS = 32;

interface Call {
  readonly madeAtMs: number;
  readonly fill: (words: Uint32Array, at: number) => void;
  readonly take: (words: Uint32Array, at: number) => void;
  readonly fail: (error: PatronusError) => void;
  /** What to do with a reply that comes when nobody waits for it any more. */
  readonly late: ((words: Uint32Array, at: number) => void) | undefined;
  readonly tracer: Tracer | undefined;
  abandoned: boolean;
}

/**
 * Requests to a directory and their replies, over the control pair. A request's number is its slot and, above it, a
 * running count.
 */
export class Calls {
  private readonly qp: QueuePair;
  private readonly recvCq: CompletionQueue;
  private readonly words: Uint32Array;
  /** The same memory. */
  private readonly longs: Float64Array;
  private readonly lkey: number;
  private readonly underWay: (Call | undefined)[] = new Array<Call | undefined>(MAX_CALLS).fill(undefined);
  private readonly freeSlots: number[] = [];
  private readonly waiting: Call[] = [];
  private sequence = 0;
  private readonly completion = { wrId: 0, status: 0, opcode: 0, flags: 0, byteLen: 0, qpNum: 0, imm: 0 };

  /** `words` is memory for 2 x MAX_CALLS messages, registered under `lkey` from address 0: requests, then replies. */
  constructor(qp: QueuePair, recvCq: CompletionQueue, words: Uint32Array, lkey: number) {
    this.qp = qp;
    this.recvCq = recvCq;
    this.words = words;
    this.longs = new Float64Array(words.buffer, words.byteOffset, words.length / 2);
    this.lkey = lkey;
    for (let slot = 0; slot < MAX_CALLS; slot++) {
      this.freeSlots.push(slot);
      this.postReceive(slot);
    }
  }

  get pending(): number {
    return MAX_CALLS - this.freeSlots.length;
  }

  /**
   * Send what `fill` writes; resolves to what `take` makes of the reply, synchronously with its arrival. `late` gets it instead
   * if it comes after the time-out.
   */
  call<T>(
    fill: Call['fill'],
    take: (words: Uint32Array, at: number) => T,
    late?: Call['take'],
    tracer?: Tracer,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const call: Call = {
        madeAtMs: performance.now(),
        fill,
        take: (words, at) => resolve(take(words, at)),
        fail: reject,
        late,
        tracer,
        abandoned: false,
      };
      if (this.freeSlots.length > 0) this.send(call);
      else this.waiting.push(call);
    });
  }

  /** Take the replies that have come; returns how many. */
  poll(): number {
    let count = 0;
    while (this.recvCq.poll(this.completion)) {
      if (this.completion.status !== WcStatus.SUCCESS) continue;
      count++;
      const buffer = this.completion.wrId;
      this.answer((MAX_CALLS + buffer) * MESSAGE_WORDS);
      this.postReceive(buffer);
      const next = this.freeSlots.length > 0 ? this.waiting.shift() : undefined;
      if (next !== undefined) this.send(next);
    }
    return count;
  }

  /**
   * Fail the requests that were made before this time and have no answer yet. The slots of those that were sent stay
   * taken until the replies come.
   */
  failOlderThan(ms: number): void {
    // This thread may have been kept from looking: what has come is not late.
    this.poll();
    for (let slot = 0; slot < MAX_CALLS; slot++) {
      const call = this.underWay[slot];
      if (call === undefined || call.abandoned || call.madeAtMs >= ms) continue;
      call.abandoned = true;
      call.fail(new PatronusError(PatronusErrorCode.TIMEOUT, 'no answer in time: the outcome is unknown'));
    }
    // In the order in which they were made.
    while (this.waiting.length > 0 && this.waiting[0]!.madeAtMs < ms) {
      const error = new PatronusError(PatronusErrorCode.TIMEOUT, 'earlier requests have no answer: not sent');
      this.waiting.shift()!.fail(error);
    }
  }

  failAll(error: PatronusError): void {
    for (const call of this.waiting.splice(0)) call.fail(error);
    for (let slot = 0; slot < MAX_CALLS; slot++) this.finish(slot)?.fail(error);
  }

  private send(call: Call): void {
    const slot = this.freeSlots.pop()!;
    const at = slot * MESSAGE_WORDS;
    this.underWay[slot] = call;
    clearMessage(this.longs, slot);
    call.fill(this.words, at);
    this.sequence = (this.sequence + 1) & 0x3ffffff;
    this.words[at + Word.REQUEST_ID] = ((this.sequence << 5) | slot) >>> 0;
    call.tracer?.mark('written');
    this.qp.postSend(slot, 0, slot * MESSAGE_BYTES, this.lkey, MESSAGE_BYTES);
    this.qp.doorbell();
    call.tracer?.mark('posted');
  }

  private answer(at: number): void {
    const id = this.words[at + Word.REQUEST_ID]!;
    const slot = id & (MAX_CALLS - 1);
    if (this.words[slot * MESSAGE_WORDS + Word.REQUEST_ID] !== id) return;
    const call = this.finish(slot);
    if (call === undefined) return;
    if (call.abandoned) {
      call.late?.(this.words, at);
      return;
    }
    call.tracer?.mark('answered');
    call.take(this.words, at);
  }

  private finish(slot: number): Call | undefined {
    const call = this.underWay[slot];
    if (call !== undefined) {
      this.underWay[slot] = undefined;
      this.freeSlots.push(slot);
    }
    return call;
  }

  private postReceive(buffer: number): void {
    this.qp.postRecv(buffer, (MAX_CALLS + buffer) * MESSAGE_BYTES, this.lkey, MESSAGE_BYTES);
  }
}
