import { SendFlag } from '../../native/index.js';
import { BUFFER_BITS, type ClientConnection } from './client-connection.js';
import { NONE } from './lease-table.js';
import { StatIndex } from './stats.js';

/**
 * The window work and the answers of one batch, per connection. Binds go into the send ring of a connection as
 * they come up; unbinds wait until the end of the batch, so that a lease that begins can take the window of one
 * that ends (handover): one rebind instead of an unbind and a bind.
 */
export class WindowWork {
  /** Of them the first `dirtyCount`: an array that is emptied gives its memory away, and the next batch takes new. */
  private readonly dirty: (ClientConnection | undefined)[] = [];
  private dirtyCount = 0;
  private readonly handover: boolean;
  private readonly counters: Float64Array;
  /** Whether the window work of the batch has been posted. */
  private worked = false;

  constructor(handover: boolean, counters: Float64Array) {
    this.handover = handover;
    this.counters = counters;
  }

  /** This batch has something to send to that client. */
  touch(connection: ClientConnection): void {
    if (connection.dirty) return;
    connection.dirty = true;
    this.dirty[this.dirtyCount++] = connection;
  }

  unbind(connection: ClientConnection, window: number): void {
    connection.unbinds[connection.unbindCount++] = window;
    this.touch(connection);
  }

  /** A window to bind: one that this batch would unbind otherwise, else one of the pool; NONE if there is none. */
  take(connection: ClientConnection): number {
    const { windows, unbinds } = connection;
    if (this.handover) {
      for (let i = connection.unbindCount - 1; i >= 0; i--) {
        const window = unbinds[i]!;
        if (!windows.canRebind(window)) continue;
        unbinds[i] = unbinds[--connection.unbindCount]!;
        this.counters[StatIndex.handovers]!++;
        return window;
      }
    }
    const window = windows.take();
    if (window !== NONE || connection.unbindCount === 0) return window;
    // All windows are bound, some of them only until the end of this batch: end one now.
    windows.replace(unbinds[--connection.unbindCount]!);
    return windows.take();
  }

  /** Whether a bound window can be bound anew as it is: its old key dies by that act. */
  canRebind(connection: ClientConnection, window: number): boolean {
    return this.handover && connection.windows.canRebind(window);
  }

  /** Give back a window that take() gave and that was not bound since. */
  putBack(connection: ClientConnection, window: number): void {
    if (!connection.windows.isBound(window)) {
      connection.windows.putBack(window);
      return;
    }
    this.counters[StatIndex.handovers]!--;
    this.unbind(connection, window);
  }

  /** Bind a window that take() gave. Returns the rkey: its client may hear of it in this batch's answers. */
  bind(
    connection: ClientConnection,
    window: number,
    lkey: number,
    address: number,
    length: number,
    access: number,
  ): number {
    const rkey = connection.windows.nextRkey(window);
    connection.control.postBindMw(connection.slot << BUFFER_BITS, 0, rkey, lkey, address, length, access);
    this.touch(connection);
    return rkey;
  }

  /** Whether any client has work or answers in this batch. */
  get pending(): boolean {
    return this.dirtyCount > 0;
  }

  /** Have the window work of the batch done when this returns, before anything else of it is sent. */
  finish(): void {
    this.postWork(true);
    this.worked = true;
  }

  /**
   * Send the batch: all window work first, then the answers. No answer leaves before the window work of every client is
   * done: memory, or a lock, that one client gave back and another got in this batch must not be open to both when the
   * second hears of it. Those of a single client follow its window work in the same queue, which executes in order: one doorbell.
   */
  post(): void {
    if (!this.worked) this.postWork(this.dirtyCount > 1);
    this.worked = false;
    this.postAnswers();
  }

  /**
   * The rest of the unbinds, behind the binds that are in the rings already. On the memory node's side of every link window
   * work is done when the doorbell returns, on an RDMA device because the doorbell waits for it; and the rings, deeper
   * than a batch, are never full.
   */
  private postWork(ring: boolean): void {
    for (let d = 0; d < this.dirtyCount; d++) {
      const connection = this.dirty[d]!;
      const { windows, unbinds } = connection;
      for (let i = 0; i < connection.unbindCount; i++) {
        connection.control.postLocalInv(
          connection.slot << BUFFER_BITS,
          SendFlag.FENCE,
          windows.rkey(unbinds[i]!),
        );
      }
      if (ring) connection.control.doorbell();
    }
  }

  private postAnswers(): void {
    for (let d = 0; d < this.dirtyCount; d++) {
      const connection = this.dirty[d]!;
      for (let i = 0; i < connection.answeredCount; i++) {
        connection.postReceive(connection.answered[i]!);
        connection.postReply(connection.answered[i]!);
      }
      connection.control.doorbell();
      for (let i = 0; i < connection.unbindCount; i++) connection.windows.give(connection.unbinds[i]!);
      connection.unbindCount = 0;
      connection.answeredCount = 0;
      connection.dirty = false;
      this.dirty[d] = undefined;
    }
    this.dirtyCount = 0;
  }
}
