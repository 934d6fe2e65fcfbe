import type { Connection, Listener } from '../../native/index.js';
import { ClientConnection, type ConnectionParts } from './client-connection.js';
import type { Introductions } from './introductions.js';
import { NONE } from './lease-table.js';
import type { Leasing } from './leasing.js';
import type { DirectoryOptions } from './options.js';
import type { RequestQueue } from './request-queue.js';
import { StatIndex } from './stats.js';

export const MAX_DATA_QPS = 8;
/** Of a client that is gone: what one turn of the loop ends, which must not stand still over thousands of windows. */
const WINDOWS_PER_TURN = 128;
const LEASES_PER_TURN = 256;
const SPANS_PER_TURN = 64;

/** The clients of a directory: they come, they go, and what they had is ended a part at a time. */
export class Connections {
  private readonly slots: (ClientConnection | undefined)[];
  private readonly parts: ConnectionParts;
  private readonly listener: Listener;
  private readonly leasing: Leasing;
  private readonly requests: RequestQueue;
  private readonly introductions: Introductions | undefined;
  private readonly options: DirectoryOptions;
  private readonly counters: Float64Array;
  private readonly slotOfLink = new Map<number, number>();
  /** Gone; the first one is being taken apart. */
  private readonly closing: ClientConnection[] = [];
  private sweptSpans = 0;
  /** Connected, or gone and not yet taken apart. */
  private count = 0;

  /** `introductions`: if it is this directory that makes them. */
  constructor(
    slots: (ClientConnection | undefined)[],
    parts: ConnectionParts,
    listener: Listener,
    leasing: Leasing,
    requests: RequestQueue,
    introductions: Introductions | undefined,
    options: DirectoryOptions,
    counters: Float64Array,
  ) {
    this.slots = slots;
    this.parts = parts;
    this.listener = listener;
    this.leasing = leasing;
    this.requests = requests;
    this.introductions = introductions;
    this.options = options;
    this.counters = counters;
  }

  /** Take note of who has gone and who has come. */
  look(): void {
    const { listener } = this;
    for (;;) {
      const link = listener.nextDisconnection();
      if (link === undefined) break;
      const slot = this.slotOfLink.get(link.id);
      if (slot !== undefined) this.drop(this.slots[slot]!);
    }
    for (;;) {
      const link = listener.nextConnection();
      if (link === undefined) break;
      this.connect(link);
    }
  }

  /** The client is gone or broke the protocol: nothing of it is served any more. */
  drop(connection: ClientConnection): void {
    if (connection.closing) return;
    this.slotOfLink.delete(connection.link.id);
    this.introductions?.remove(connection.slot);
    this.requests.clear(connection.slot);
    connection.shut();
    this.closing.push(connection);
  }

  /**
   * End some of what a client that is gone had: its windows first, so that nobody gets a lock or memory of it that it could
   * still reach, then leases, allocations and the connection itself. Returns whether there was anything to do.
   */
  takeApart(): boolean {
    const connection = this.closing[0];
    if (connection === undefined) return false;
    if (!connection.windows.closeSome(WINDOWS_PER_TURN)) return true;
    const { leases } = this.leasing;
    for (let i = 0; i < LEASES_PER_TURN; i++) {
      const lease = leases.anyOf(connection.slot);
      if (lease === NONE) break;
      this.leasing.end(lease);
    }
    if (leases.anyOf(connection.slot) !== NONE || !this.sweep(connection)) return true;
    this.closing.shift();
    this.slots[connection.slot] = undefined;
    connection.close();
    this.count--;
    return true;
  }

  /** For who watches from another thread: written after the counters of what the connections that went had. */
  publishCount(): void {
    this.counters[StatIndex.connections] = this.count;
  }

  /** Free what the client allocated for itself, a part at a time; true when that is done. */
  private sweep(connection: ClientConnection): boolean {
    const { allocations } = this.leasing;
    if (!connection.allocated) return true;
    const to = this.sweptSpans + SPANS_PER_TURN;
    allocations.sweep(connection.identity, this.sweptSpans, to);
    this.sweptSpans = to < allocations.spans ? to : 0;
    return this.sweptSpans === 0;
  }

  private connect(link: Connection): void {
    const slot = this.slots.indexOf(undefined);
    if (slot < 0 || link.qpCount < 2 || link.qpCount > 1 + MAX_DATA_QPS) {
      link.reject();
      return;
    }
    const { parts, options } = this;
    try {
      this.slots[slot] = new ClientConnection(slot, link, parts, options);
    } catch {
      // The NIC is out of some object, or the client went away meanwhile.
      link.reject();
      return;
    }
    this.slotOfLink.set(link.id, slot);
    this.introductions?.add(slot, link.id);
    this.count++;
    this.publishCount();
  }
}
