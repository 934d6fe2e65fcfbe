import {
  Access,
  type CompletionQueue,
  type Connection,
  type Device,
  type HostMemory,
  type MemoryRegion,
  type ProtectionDomain,
  QpState,
  type QueuePair,
} from '../../native/index.js';
import { MAX_REQUESTS, MESSAGE_BYTES, MESSAGE_WORDS } from '../wire/messages.js';
import type { ClockPage } from './clock-page.js';
import type { Headers } from './headers.js';
import type { DirectoryOptions } from './options.js';
import { WindowPool } from './window-pool.js';

/** Binds, unbinds and answers of one batch at most: three for each of the requests that can be there. */
export const CONTROL_SEND_DEPTH = 256;
const REMOTE = Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC;
/** A data pair of the memory node sends nothing and receives nothing: it answers one-sided operations. */
const DATA_DEPTH = 1;
/** A wrId is the connection's slot above the number of the message buffer. */
export const BUFFER_BITS = 6;

/** What the connections of a directory share. */
export interface ConnectionParts {
  readonly device: Device;
  readonly memory: HostMemory;
  readonly headers: Headers;
  readonly clockPage: ClockPage;
  readonly sendCq: CompletionQueue;
  readonly recvCq: CompletionQueue;
}

/**
 * The memory node's side of a client's connection: a protection domain of its own, a control pair for messages, data
 * pairs for one-sided access. A fault of the client breaks a data pair, never the control pair.
 */
export class ClientConnection {
  readonly slot: number;
  readonly link: Connection;
  /** Who the client is to the node. */
  identity: number;
  /** The region of the node's memory in this client's domain; windows are bound to it. Grants no remote access itself. */
  readonly region: MemoryRegion;
  readonly headerRegion: MemoryRegion;
  /** Key of all memory, 0 if the node gives none away. */
  readonly universalRkey: number;
  readonly windows: WindowPool;
  readonly clockRegion: MemoryRegion;
  readonly control: QueuePair;
  readonly requests: Uint32Array;
  readonly replies: Uint32Array;
  /** The same memory. */
  readonly replyLongs: Float64Array;
  /** Windows that this batch unbinds, unless a lease of the same batch takes them over. */
  readonly unbinds: Int32Array;
  unbindCount = 0;
  /** Message buffers whose reply goes out at the end of this batch. */
  readonly answered: Uint8Array = new Uint8Array(MAX_REQUESTS);
  answeredCount = 0;
  /** Whether this batch has touched the connection. */
  dirty = false;
  leases = 0;
  /** Whether it has allocated something that goes when it goes. */
  allocated = false;
  /** The client is gone; its leases and windows are being ended. */
  closing = false;
  private readonly pd: ProtectionDomain;
  private readonly data: readonly QueuePair[];
  private readonly memory: HostMemory;
  private readonly messages: HostMemory;
  private readonly messageRegion: MemoryRegion;
  /** In the order they were made; closed in the opposite one. */
  private readonly owned: { close(): void }[] = [];

  constructor(slot: number, link: Connection, parts: ConnectionParts, options: DirectoryOptions) {
    const { device, memory, sendCq, recvCq } = parts;
    this.slot = slot;
    this.link = link;
    this.identity = link.id;
    // Of the buffer and of the header.
    const maxWindows = 2 * options.maxLeasesPerClient;
    this.unbinds = new Int32Array(maxWindows);
    this.memory = memory;
    try {
      this.pd = this.own(device.allocPd());
      this.messages = this.own(device.allocMemory(2 * MAX_REQUESTS * MESSAGE_BYTES));
      this.region = this.own(
        this.pd.regMr(memory, 0, memory.byteLength, Access.LOCAL_WRITE | Access.MW_BIND),
      );
      this.headerRegion = this.own(parts.headers.register(this.pd));
      this.universalRkey = options.bypass
        ? this.own(this.registerRange(0, memory.byteLength, REMOTE)).rkey
        : 0;
      this.messageRegion = this.own(
        this.pd.regMr(this.messages, 0, this.messages.byteLength, Access.LOCAL_WRITE),
      );
      this.clockRegion = this.own(parts.clockPage.register(this.pd));
      this.windows = this.own(new WindowPool(this.pd, maxWindows, options.lastWindowFirst));
      const queues = { sendCq, recvCq };
      this.control = this.own(
        this.pd.createQp({ ...queues, maxSendWr: CONTROL_SEND_DEPTH, maxRecvWr: MAX_REQUESTS }),
      );
      this.data = Array.from({ length: link.qpCount - 1 }, () =>
        this.own(this.pd.createQp({ ...queues, maxSendWr: DATA_DEPTH, maxRecvWr: DATA_DEPTH })),
      );
      const { buffer } = this.messages;
      this.requests = new Uint32Array(buffer, 0, MAX_REQUESTS * MESSAGE_WORDS);
      this.replies = new Uint32Array(buffer, MAX_REQUESTS * MESSAGE_BYTES, MAX_REQUESTS * MESSAGE_WORDS);
      this.replyLongs = new Float64Array(
        buffer,
        MAX_REQUESTS * MESSAGE_BYTES,
        MAX_REQUESTS * (MESSAGE_BYTES / 8),
      );
      // Before the client can send: a message that finds no receive buffer breaks its pair.
      for (let number = 0; number < MAX_REQUESTS; number++) this.postReceive(number);
      link.accept([this.control, ...this.data]);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  private own<T extends { close(): void }>(object: T): T {
    this.owned.push(object);
    return object;
  }

  /** Let the client's next message come into this buffer. */
  postReceive(buffer: number): void {
    const wrId = (this.slot << BUFFER_BITS) | buffer;
    this.control.postRecv(wrId, buffer * MESSAGE_BYTES, this.messageRegion.lkey, MESSAGE_BYTES);
  }

  /**
   * Send the reply in this buffer. Nobody waits for the send to complete before the buffer is used again: that is at the
   * 64th request after this one, and a client that keeps to its 32 requests has received the reply by then. All that the NIC may send
   * again after that is thrown away there as a duplicate. Who sends more garbles replies to himself.
   */
  postReply(buffer: number): void {
    const address = (MAX_REQUESTS + buffer) * MESSAGE_BYTES;
    this.control.postSend(this.slot << BUFFER_BITS, 0, address, this.messageRegion.lkey, MESSAGE_BYTES);
  }

  /** Register a range of the node's memory for this client; throws if the NIC has no room. The caller closes it. */
  registerRange(offset: number, size: number, access: number): MemoryRegion {
    // Who may write from afar must be able to write at all: so verbs want it.
    return this.pd.regMr(this.memory, offset, size, access | Access.LOCAL_WRITE);
  }

  /**
   * Bring a data pair back, to admit these remote operations; false if there is no such pair or its client has broken it
   * again meanwhile.
   */
  recycle(index: number, access: number): boolean {
    const qp = this.data[index];
    if (qp === undefined) return false;
    // The client's thread can fail the pair at any step, by a bad access or by the end of its connection; a pair in ERR
    // makes no further step, which modify() says by throwing.
    try {
      for (const state of [QpState.RESET, QpState.INIT, QpState.RTR, QpState.RTS]) qp.modify(state, access);
    } catch {
      return false;
    }
    return true;
  }

  /** The client is gone: nothing comes or goes any more. What it has is ended piece by piece, and then close() is called. */
  shut(): void {
    this.closing = true;
    this.link.close();
  }

  /** Ends every permission of the client that is left. */
  close(): void {
    this.link.close();
    for (const object of this.owned.reverse()) object.close();
    this.owned.length = 0;
  }
}
