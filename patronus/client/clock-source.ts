import { type MaybePromise, RetCode } from '../api.js';
import type { ClockReading, ClockSource } from '../time/synchronisation.js';
import { CLOCK_PAGE_BYTES, ClockWord, pageClock } from '../wire/clock-page.js';
import type { OperationBatch } from './batch.js';
import type { RegisteredBuffer } from './buffers.js';
import { LeaseHandle } from './lease.js';
import type { NodeConnection } from './node-connection.js';

/** A memory node's clock page, read over a data pair of the connection. */
export class NodeClockSource implements ClockSource {
  private readonly node: NodeConnection;
  private readonly batch: OperationBatch;
  private readonly buffer: RegisteredBuffer;
  private page: LeaseHandle | undefined;

  constructor(node: NodeConnection) {
    this.node = node;
    this.batch = node.newBatch();
    this.buffer = node.buffers.get(CLOCK_PAGE_BYTES);
  }

  async publish(durationNs: number): Promise<void> {
    const rkey = await this.node.requestClock(durationNs);
    // To the NIC the page is a lease like any other, only one without an end.
    this.page ??= new LeaseHandle(this.node, {
      index: 0,
      generation: 0,
      offset: 0,
      size: CLOCK_PAGE_BYTES,
      rkey,
      headerRkey: 0,
      headerAddress: 0,
      writable: false,
      beginNs: 0,
      unitNs: 0,
      local: false,
    });
  }

  read(): MaybePromise<ClockReading | undefined> {
    const { batch, buffer } = this;
    if (this.page === undefined) return undefined;
    if (batch.prepareRead(this.page, buffer, 0, CLOCK_PAGE_BYTES, 0) !== RetCode.Ok) return undefined;
    const status = batch.commit();
    return typeof status === 'number' ? this.reading(status) : status.then((known) => this.reading(known));
  }

  private reading(status: RetCode): ClockReading | undefined {
    const { words } = this.buffer;
    const clockNs = pageClock(words);
    if (status !== RetCode.Ok || Number.isNaN(clockNs)) return undefined;
    return { clockNs, number: words[ClockWord.NUMBER]! };
  }
}
