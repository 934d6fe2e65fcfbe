import { MAX_REQUESTS } from '../wire/messages.js';

/**
 * Requests that have arrived, in a queue for each connection. They are handed out in turns: a client that sends as much as it
 * can holds up another one's request by no more than `quota` of its own.
 */
export class RequestQueue {
  private readonly quota: number;
  /** Rings of MAX_REQUESTS: a client can't have more under way, as there are no more buffers for it. */
  private readonly buffers: Uint8Array;
  private readonly lengths: Uint16Array;
  private readonly start: Uint8Array;
  private readonly count: Uint8Array;
  /** Connections with requests, a ring in the order of their turns. */
  private readonly turns: Uint16Array;
  private turnStart = 0;
  private turnCount = 0;
  /** Requests that the connection whose turn it is may still have taken. */
  private left: number;
  /** What take() took: the connection's slot, the message buffer and the length of the message. */
  slot = 0;
  buffer = 0;
  byteLen = 0;

  constructor(connections: number, quota: number) {
    this.quota = quota;
    this.left = quota;
    this.buffers = new Uint8Array(connections * MAX_REQUESTS);
    this.lengths = new Uint16Array(connections * MAX_REQUESTS);
    this.start = new Uint8Array(connections);
    this.count = new Uint8Array(connections);
    this.turns = new Uint16Array(connections);
  }

  /** `byteLen` is cut to 16 bits by its caller. */
  push(slot: number, buffer: number, byteLen: number): void {
    const place = slot * MAX_REQUESTS + ((this.start[slot]! + this.count[slot]!) & (MAX_REQUESTS - 1));
    this.buffers[place] = buffer;
    this.lengths[place] = byteLen;
    if (this.count[slot]!++ === 0) this.line(slot);
  }

  get empty(): boolean {
    return this.turnCount === 0;
  }

  /** Take the next request; false if there is none. */
  take(): boolean {
    if (this.turnCount === 0) return false;
    const slot = this.turns[this.turnStart]!;
    const place = slot * MAX_REQUESTS + this.start[slot]!;
    this.slot = slot;
    this.buffer = this.buffers[place]!;
    this.byteLen = this.lengths[place]!;
    this.start[slot] = (this.start[slot]! + 1) & (MAX_REQUESTS - 1);
    const left = --this.count[slot]!;
    if (left === 0 || --this.left === 0) {
      this.left = this.quota;
      this.turnStart = (this.turnStart + 1) % this.turns.length;
      this.turnCount--;
      if (left > 0) this.line(slot);
    }
    return true;
  }

  /** Forget the requests of a connection. */
  clear(slot: number): void {
    if (this.count[slot] === 0) return;
    this.count[slot] = 0;
    let kept = 0;
    for (let i = 0; i < this.turnCount; i++) {
      const other = this.turns[(this.turnStart + i) % this.turns.length]!;
      if (other === slot) continue;
      this.turns[(this.turnStart + kept++) % this.turns.length] = other;
    }
    this.turnCount = kept;
    this.left = this.quota;
  }

  private line(slot: number): void {
    this.turns[(this.turnStart + this.turnCount++) % this.turns.length] = slot;
  }
}
