/**
 * The verbs contract: what a provider (the software RNIC, libibverbs) implements and `patronus/` builds on. The model
 * and the names are those of InfiniBand verbs.
 *
 * Threads: an object belongs to the JavaScript thread that made it and is used on that thread only; several threads
 * each open their own device. Closing is explicit; what a thread leaves open is closed when the thread ends. What is in
 * use refuses to close with ERR_NATIVE_BUSY: a protection domain while anything of it is open, a region while windows are
 * bound to it, a completion queue or a shared receive queue while queue pairs use it. Everything else closes at any time,
 * twice is once, and a device closes all that was made from it in the right order. Memory and channels that are closed
 * live on for those that still use them. One object more than the device's attributes say is ERR_NATIVE_LIMIT.
 * Addresses, lengths and offsets are Numbers (integers below 2^53), in bytes. Misuse throws a TypeError or a
 * RangeError; what the NIC refuses comes back as the status of a completion, never as an exception.
 */
import type { QpState } from './verbs.js';

export interface DeviceAttr {
  /** Provider and device, e.g. `soft0`. */
  readonly name: string;
  readonly maxQp: number;
  /** Entries of the deepest send or receive queue. */
  readonly maxQpWr: number;
  readonly maxCq: number;
  readonly maxCqe: number;
  readonly maxMr: number;
  readonly maxMw: number;
  readonly maxPd: number;
  readonly maxSrq: number;
  /** Entries of the deepest shared receive queue. */
  readonly maxSrqWr: number;
  /** Bytes that one request moves at most. */
  readonly maxMessage: number;
  /** Bytes that a request may carry in itself. */
  readonly maxInline: number;
  /** A bind may take a window that is still bound and so move it: the old key dies by that act. */
  readonly rebindBoundWindow: boolean;
  /** What may use a window: any QP of the protection domain, or only the QP that the bind was posted on. */
  readonly windowScope: 'pd' | 'qp';
  /** The device itself holds accesses to the bounds of a window. */
  readonly windowBounds: boolean;
  /** Completion queues and shared receive queues can serve the queue pairs of more than one connection. */
  readonly queuesAcrossConnections: boolean;
}

/** The port through which a device reaches others. */
export interface PortAttr {
  readonly active: boolean;
  readonly linkLayer: 'software' | 'infiniband' | 'ethernet';
  /** Largest packet, bytes; 0 where messages are not cut into packets. */
  readonly activeMtu: number;
  /** InfiniBand local identifier; 0 on other link layers. */
  readonly lid: number;
  /** Global identifiers, as colon-separated hexadecimal groups. */
  readonly gids: readonly string[];
}

/** Memory that can be registered. Zero-filled, page-aligned; lives until closed and no region uses it. */
export interface HostMemory {
  readonly buffer: ArrayBuffer;
  readonly byteLength: number;
  /** A number by which devices of this process's other threads can open the same memory, for as long as anybody uses it. */
  publish(): number;
  close(): void;
}

export interface ProtectionDomain {
  /**
   * Register `length` bytes of `memory` from `offset`. The region's addresses run from `iova` (default: `offset`):
   * work requests name memory by these addresses, so no pointer ever crosses the contract.
   */
  regMr(memory: HostMemory, offset: number, length: number, access: number, iova?: number): MemoryRegion;
  /** Allocate a type-2 memory window, unbound. */
  allocMw(): MemoryWindow;
  createQp(init: QueuePairInit): QueuePair;
  /** `maxWr`: entries, a power of two. */
  createSrq(maxWr: number): SharedReceiveQueue;
  /** Throws while regions, windows, queues or queue pairs of it are open. */
  close(): void;
}

export interface MemoryRegion {
  readonly lkey: number;
  /** Key for remote access; grants what the region's REMOTE_* access flags grant. */
  readonly rkey: number;
  readonly iova: number;
  readonly length: number;
  /** Returns when no access under the region's keys can touch memory any more. Throws while windows are bound to it. */
  close(): void;
}

export interface MemoryWindow {
  /** The 24-bit index of the window, already shifted: `rkey = keyBase | tag`, tag 0..255. */
  readonly keyBase: number;
  /** Unbinds if bound (final, as LOCAL_INV) and frees the index. */
  close(): void;
}

export interface QueuePairInit {
  readonly sendCq: CompletionQueue;
  readonly recvCq: CompletionQueue;
  /** Powers of two. */
  readonly maxSendWr: number;
  readonly maxRecvWr: number;
  /** Of the same protection domain. The pair then takes its receive buffers from there; its postRecv gives false. */
  readonly srq?: SharedReceiveQueue;
}

/** Receive buffers for several queue pairs: each arriving message takes the oldest. */
export interface SharedReceiveQueue {
  /** As {@link QueuePair.postRecv}. Completions appear in the receive CQ of the pair that took the buffer. */
  postRecv(wrId: number, localAddr: number, lkey: number, length: number): boolean;
  /** Throws while queue pairs use it. */
  close(): void;
}

/**
 * Reliable connection. The post calls write a work request into the ring and return false if the ring is full; nothing
 * happens before the doorbell. They check nothing and throw nothing: a value too large for its field is cut to it.
 * `wrId` is a uint32, `flags` are SendFlag, 64-bit values travel as halves (uint32).
 * Completions of failed requests always appear; those of successful ones only with SendFlag.SIGNALED.
 * Requests of a pair are executed one after the other in the order of posting, and complete in it. SendFlag.FENCE, which
 * makes a request wait for the reads and atomics before it, is needed where a device overlaps those; the software RNIC
 * does not. A request that fails brings the pair to ERR, and the peer's too if that refused it. In ERR everything that
 * is or gets posted completes with WR_FLUSH_ERR, except the buffers of a shared receive queue.
 */
export interface QueuePair {
  readonly qpNum: number;
  /** Number of the connected queue pair, 0 before a connection. */
  readonly remoteQpNum: number;
  readonly state: QpState;
  /**
   * Legal transitions: any -> RESET, any -> ERR, RESET -> INIT -> RTR -> RTS -> RTS; others are a TypeError. A connected
   * pair keeps its peer through RESET. RESET drops what is posted, without completions.
   * `access` (INIT to RTS): which remote operations the QP admits at all, REMOTE_* bits; default all, as after RESET.
   * One that it doesn't admit fails with REM_INV_REQ_ERR. When the call returns, nothing that the pair no longer admits
   * touches memory, takes a receive buffer or completes, and no earlier fault of the peer can still put it into ERR.
   */
  modify(state: QpState, access?: number): void;
  postRead(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    length: number,
    remoteAddr: number,
    rkey: number,
  ): boolean;
  postWrite(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    length: number,
    remoteAddr: number,
    rkey: number,
  ): boolean;
  /** The old value (8 bytes) lands at localAddr. */
  postCas(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    remoteAddr: number,
    rkey: number,
    compareLo: number,
    compareHi: number,
    swapLo: number,
    swapHi: number,
  ): boolean;
  /** The old value (8 bytes) lands at localAddr. */
  postFaa(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    remoteAddr: number,
    rkey: number,
    addLo: number,
    addHi: number,
  ): boolean;
  postSend(wrId: number, flags: number, localAddr: number, lkey: number, length: number): boolean;
  /** The receiver's completion has WcFlag.WITH_IMM and `imm` (uint32). */
  postSendImm(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    length: number,
    imm: number,
  ): boolean;
  /** Ends the window key `rkey` at the receiver, as its LOCAL_INV would; its completion has WcFlag.WITH_INV. */
  postSendInv(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    length: number,
    rkey: number,
  ): boolean;
  /** A write that takes a receive buffer at the other side to say that it is done; the buffer stays as it is. */
  postWriteImm(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    length: number,
    remoteAddr: number,
    rkey: number,
    imm: number,
  ): boolean;
  /** The bytes travel in the request (at most attr.maxInline, else false): no region, free to change at once. */
  postSendInline(wrId: number, flags: number, bytes: Uint8Array): boolean;
  postWriteInline(wrId: number, flags: number, bytes: Uint8Array, remoteAddr: number, rkey: number): boolean;
  /** Publish `rkey` to others only after the completion of the bind. */
  postBindMw(
    wrId: number,
    flags: number,
    rkey: number,
    lkey: number,
    address: number,
    length: number,
    access: number,
  ): boolean;
  /** Its completion is final: no access under `rkey` can touch memory afterwards. */
  postLocalInv(wrId: number, flags: number, rkey: number): boolean;
  /**
   * Hand the send requests posted so far to the NIC: one native call. Window work among them (BIND_MW, LOCAL_INV) is done
   * when it returns, except over shared memory.
   */
  doorbell(): void;
  /** Post a receive buffer; visible to the NIC at once. */
  postRecv(wrId: number, localAddr: number, lkey: number, length: number): boolean;
  close(): void;
}

/** A completion, filled in place by {@link CompletionQueue.poll}. */
export interface Completion {
  wrId: number;
  status: number;
  opcode: number;
  flags: number;
  byteLen: number;
  qpNum: number;
  imm: number;
}

export interface CompletionQueue {
  /**
   * Room for so many completions that are not polled yet, at least. One more than there is room for is lost, and with it
   * all that follow: the queue takes no more for good, pairs that complete into it go to ERR, an armed channel is signalled.
   */
  readonly depth: number;
  /** Take the oldest completion. Plain loads and stores: no native call. */
  poll(into: Completion): boolean;
  /**
   * Signal the channel at the next completion; with `solicitedOnly` at the next that failed or is the receipt of a message
   * sent with SendFlag.SOLICITED. Poll once more after arming: what came before does not signal.
   */
  arm(solicitedOnly?: boolean): void;
  close(): void;
}

/** Wakes a thread or an event loop; an eventfd. */
export interface CompletionChannel {
  /** Block this thread until signalled or `timeoutNs` passed; true if signalled. For worker threads. */
  wait(timeoutNs: number): boolean;
  /** Call `listener` on the event loop at every signal; undefined stops. Keeps the process alive only while set. */
  onSignal(listener: (() => void) | undefined): void;
  /** The descriptor, for signalChannel() from another thread of the process. */
  readonly fd: number;
  close(): void;
}

export type ConnectionState = 'connecting' | 'established' | 'rejected' | 'closed';

/** A set of connected queue pairs between a client and a memory node. The i-th pair of one side meets the other's i-th. */
export interface Connection {
  /** Unique in the listener's process, never reused: the client's identity as the link vouches for it. */
  readonly id: number;
  readonly state: ConnectionState;
  /** How many queue pairs the client brought. */
  readonly qpCount: number;
  /** Listener's side: the client's process as the kernel vouches for it; undefined on links that have no such thing. */
  readonly peer: { readonly pid: number; readonly uid: number } | undefined;
  /** Listener's side: take these pairs (RESET, receive buffers may be posted) for it and bring both sides to RTS. */
  accept(qps: readonly QueuePair[]): void;
  reject(): void;
  /** Both sides' pairs go to ERR, the other side is signalled. */
  close(): void;
}

export interface Listener {
  /** Clients name this to connect. */
  readonly address: string;
  /** The next new connection to accept or reject; undefined if there is none. */
  nextConnection(): Connection | undefined;
  /** The next established connection whose client closed or died; undefined if there is none. */
  nextDisconnection(): Connection | undefined;
  close(): void;
}

/** Sizes of a system's huge pages. */
export type HugePages = '2MiB' | '1GiB';

/** Where the pages of memory come from. ERR_NATIVE_LIMIT if there are none. */
export interface MemoryOptions {
  /**
   * Take pages of this size from the system's pool, all of them now. Default: ordinary pages, which the kernel joins to larger
   * ones where it can.
   */
  readonly hugePages?: HugePages | undefined;
  /** Take them from this NUMA node only, 0..1023. Default: from any. */
  readonly numaNode?: number | undefined;
}

export interface ListenOptions {
  readonly address?: string;
  /** Threads that execute the requests of clients in other processes; default 1. */
  readonly engineThreads?: number;
}

export interface Device {
  readonly attr: DeviceAttr;
  /** With options only memory that other processes can't map: not on `shm0`. */
  allocMemory(byteLength: number, options?: MemoryOptions): HostMemory;
  /**
   * Memory of another thread of this process, by the number that HostMemory.publish() gave it: the same bytes, which stay for as
   * long as one of those who opened them needs them. ERR_NATIVE_CLOSED if there is no such memory (any more).
   */
  openMemory(number: number): HostMemory;
  allocPd(): ProtectionDomain;
  createChannel(): CompletionChannel;
  createCq(depth: number, channel?: CompletionChannel): CompletionQueue;
  queryPort(): PortAttr;
  /**
   * Accept connections; the channel is signalled for new and ended ones. Without an address: from this process. With
   * `unix:PATH`: over shared memory, from processes of the same user that can open the socket made at PATH.
   */
  listen(channel: CompletionChannel, options?: ListenOptions): Listener;
  /** Ask a listener to connect these pairs (RESET). Signals the channel when the state changes. */
  connect(address: string, qps: readonly QueuePair[], channel: CompletionChannel): Connection;
  /** Closes everything that was made from it. */
  close(): void;
}
