import { Access, nowNs, openDevice, type QueuePair } from '../../../native/index.js';
import { Directory } from '../../../patronus/memory-node/directory.js';
import type { DirectoryOptions } from '../../../patronus/memory-node/options.js';
import { STATS_LENGTH } from '../../../patronus/memory-node/stats.js';
import {
  head,
  MESSAGE_BYTES,
  MESSAGE_WORDS,
  MessageType,
  putNumber,
  Word,
} from '../../../patronus/wire/messages.js';

/** Requests under way at once. */
export const RIG_DEPTH = 32;
const LONGEST_WAIT_NS = 10e9;

export const RIG_OPTIONS: DirectoryOptions = {
  nodeId: 0,
  leaseBytes: 65536,
  allocOffset: 65536,
  allocBytes: 65536,
  shares: [],
  policy: 'open',
  bypass: false,
  handover: true,
  lastWindowFirst: true,
  maxLeases: 1024,
  maxLeasesPerClient: 512,
  maxClients: 4,
  listen: undefined,
  engineThreads: 1,
};

export interface RigRequest {
  readonly flags: number;
  readonly offset: number;
  readonly size: number;
  readonly termNs: number;
}

/**
 * A directory and a client of it on one thread, in turns: what the directory's loop takes, of time and of the heap, without
 * another thread and without the client's. The client holds up to RIG_DEPTH leases and writes its messages by hand.
 */
export class DirectoryRig {
  /** Time that the directory has taken so far. */
  ns = 0;
  readonly counters = new Float64Array(STATS_LENGTH);
  private readonly device = openDevice();
  private readonly turn: () => boolean;
  private readonly control: QueuePair;
  private readonly recvCq = this.device.createCq(256);
  private readonly words: Uint32Array;
  private readonly lkey: number;
  private readonly leases = new Uint32Array(2 * RIG_DEPTH);
  private readonly completion = { wrId: 0, status: 0, opcode: 0, flags: 0, byteLen: 0, qpNum: 0, imm: 0 };

  constructor(options: Partial<DirectoryOptions> = {}) {
    const { device } = this;
    const directory = new Directory(device, { ...RIG_OPTIONS, ...options }, new Int32Array(1), this.counters);
    const inside = directory as unknown as { turn(): boolean; look(): void };
    this.turn = () => inside.turn();
    const pd = device.allocPd();
    const memory = device.allocMemory(2 * RIG_DEPTH * MESSAGE_BYTES);
    this.lkey = pd.regMr(memory, 0, memory.byteLength, Access.LOCAL_WRITE).lkey;
    this.words = new Uint32Array(memory.buffer);
    const pair = () =>
      pd.createQp({ sendCq: device.createCq(256), recvCq: this.recvCq, maxSendWr: 64, maxRecvWr: 64 });
    this.control = pair();
    device.connect(directory.listener.address, [this.control, pair()], device.createChannel());
    inside.look();
  }

  /** Acquire so many leases at once, each with a lock key of its own; throws if one is refused. */
  acquire(count: number, request: RigRequest): void {
    for (let i = 0; i < count; i++) this.writeAcquire(i, i, request);
    this.exchange(count);
    for (let i = 0; i < count; i++) this.takeGrant(i, i);
  }

  /** Relinquish the first `count` leases at once. */
  relinquish(count: number, flags: number): void {
    for (let i = 0; i < count; i++) this.writeRelinquish(i, i, flags);
    this.exchange(count);
    for (let i = 0; i < count; i++) this.check(i);
  }

  /** Relinquish the first `count` leases and acquire as many others, in one batch of 2 x count <= RIG_DEPTH requests. */
  exchangeLeases(count: number, request: RigRequest, flags: number): void {
    for (let i = 0; i < count; i++) {
      this.writeRelinquish(2 * i, i, flags);
      this.writeAcquire(2 * i + 1, i, request);
    }
    this.exchange(2 * count);
    for (let i = 0; i < count; i++) {
      this.check(2 * i);
      this.takeGrant(2 * i + 1, i);
    }
  }

  /** Give the directory's pool the windows of so many leases, a multiple of RIG_DEPTH. */
  fillPool(leases: number, request: RigRequest): void {
    const held: Uint32Array[] = [];
    for (let i = 0; i < leases; i += RIG_DEPTH) {
      this.acquire(RIG_DEPTH, request);
      held.push(this.leases.slice());
    }
    for (const some of held) {
      this.leases.set(some);
      this.relinquish(RIG_DEPTH, 0);
    }
  }

  /** Let the directory work until `done` says so; throws if that takes seconds. */
  turnUntil(done: () => boolean): void {
    const latest = nowNs() + LONGEST_WAIT_NS;
    while (!done()) {
      this.turn();
      if (nowNs() > latest) throw new Error('the directory is not done after 10 s');
    }
  }

  close(): void {
    this.device.close();
  }

  private writeAcquire(message: number, lockKey: number, request: RigRequest): void {
    const { words } = this;
    const at = message * MESSAGE_WORDS;
    words.fill(0, at, at + MESSAGE_WORDS);
    words[at] = head(MessageType.ACQUIRE_WRITE, request.flags);
    putNumber(words, at + Word.OFFSET, request.offset);
    putNumber(words, at + Word.SIZE, request.size);
    putNumber(words, at + Word.TERM, request.termNs);
    words[at + Word.LOCK_KEY] = lockKey;
  }

  private writeRelinquish(message: number, lease: number, flags: number): void {
    const { words } = this;
    const at = message * MESSAGE_WORDS;
    words.fill(0, at, at + MESSAGE_WORDS);
    words[at] = head(MessageType.RELINQUISH, flags);
    words[at + Word.LEASE_INDEX] = this.leases[2 * lease]!;
    words[at + Word.LEASE_GENERATION] = this.leases[2 * lease + 1]!;
  }

  private takeGrant(message: number, lease: number): void {
    this.check(message);
    const at = (RIG_DEPTH + message) * MESSAGE_WORDS;
    this.leases[2 * lease] = this.words[at + Word.LEASE_INDEX]!;
    this.leases[2 * lease + 1] = this.words[at + Word.LEASE_GENERATION]!;
  }

  private check(message: number): void {
    const status = this.words[(RIG_DEPTH + message) * MESSAGE_WORDS]! >>> 16;
    if (status !== 0) throw new Error(`the directory answered with status ${status}`);
  }

  private exchange(count: number): void {
    const { control, recvCq, completion, lkey } = this;
    for (let i = 0; i < count; i++) {
      control.postRecv(i, (RIG_DEPTH + i) * MESSAGE_BYTES, lkey, MESSAGE_BYTES);
      control.postSend(0, 0, i * MESSAGE_BYTES, lkey, MESSAGE_BYTES);
    }
    control.doorbell();
    const begun = nowNs();
    let answers = 0;
    while (answers < count) {
      this.turn();
      while (recvCq.poll(completion)) answers++;
    }
    this.ns += nowNs() - begun;
  }
}
