import { Access, Opcode, RingLayout, SendFlag, WqeLayout } from './verbs.js';

const HEADER_WORDS = RingLayout.HEADER_BYTES / 4;
const USER = RingLayout.USER_COUNTER / 4;
const NIC = RingLayout.NIC_COUNTER / 4;
const WQE_WORDS = WqeLayout.BYTES / 4;
const TWO_32 = 4294967296;
// A module's own constants are part of its compiled code; imported ones are loaded and checked at each use.
const { RDMA_READ, RDMA_WRITE, CMP_AND_SWP, FETCH_AND_ADD, SEND } = Opcode;

const LENGTH = WqeLayout.LENGTH / 4;
const WR_ID = WqeLayout.WR_ID / 4;
const REMOTE_ADDR = WqeLayout.REMOTE_ADDR / 4;
const RKEY = WqeLayout.RKEY / 4;
const LKEY = WqeLayout.LKEY / 4;
const LOCAL_ADDR = WqeLayout.LOCAL_ADDR / 4;
const COMPARE_ADD = WqeLayout.COMPARE_ADD / 4;
const SWAP = WqeLayout.SWAP / 4;
const IMM = WqeLayout.IMM / 4;

export const ALL_REMOTE = Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC;

/**
 * The poster's end of a ring of send work requests, and so the post calls of every provider's queue pair: see
 * QueuePair. The NIC sees what was posted at publish().
 */
export abstract class SendRing {
  protected readonly send: Uint32Array;
  private readonly sendBytes: Uint8Array;
  /** 0 when closed: then nothing can be posted. */
  private sendDepth: number;
  /** Posted, uint32. */
  private sent = 0;
  /** How many of them the NIC is done with, when last looked at: only when the ring seems full, as it is the NIC's line. */
  private done = 0;

  constructor(ring: ArrayBuffer, depth: number) {
    this.send = new Uint32Array(ring);
    this.sendBytes = new Uint8Array(ring);
    this.sendDepth = depth;
  }

  postRead(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    length: number,
    remoteAddr: number,
    rkey: number,
  ): boolean {
    const at = this.begin(RDMA_READ, flags, wrId, length);
    return at !== 0 && this.oneSided(at, localAddr, lkey, remoteAddr, rkey);
  }

  postWrite(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    length: number,
    remoteAddr: number,
    rkey: number,
  ): boolean {
    const at = this.begin(RDMA_WRITE, flags, wrId, length);
    return at !== 0 && this.oneSided(at, localAddr, lkey, remoteAddr, rkey);
  }

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
  ): boolean {
    const at = this.begin(CMP_AND_SWP, flags, wrId, 8);
    if (at === 0) return false;
    const { send } = this;
    send[at + COMPARE_ADD] = compareLo;
    send[at + COMPARE_ADD + 1] = compareHi;
    send[at + SWAP] = swapLo;
    send[at + SWAP + 1] = swapHi;
    return this.oneSided(at, localAddr, lkey, remoteAddr, rkey);
  }

  postFaa(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    remoteAddr: number,
    rkey: number,
    addLo: number,
    addHi: number,
  ): boolean {
    const at = this.begin(FETCH_AND_ADD, flags, wrId, 8);
    if (at === 0) return false;
    this.send[at + COMPARE_ADD] = addLo;
    this.send[at + COMPARE_ADD + 1] = addHi;
    return this.oneSided(at, localAddr, lkey, remoteAddr, rkey);
  }

  postSend(wrId: number, flags: number, localAddr: number, lkey: number, length: number): boolean {
    const at = this.begin(SEND, flags, wrId, length);
    return at !== 0 && this.oneSided(at, localAddr, lkey, 0, 0);
  }

  postSendImm(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    length: number,
    imm: number,
  ): boolean {
    const at = this.begin(Opcode.SEND_WITH_IMM, flags, wrId, length);
    if (at === 0) return false;
    this.send[at + IMM] = imm;
    return this.oneSided(at, localAddr, lkey, 0, 0);
  }

  postSendInv(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    length: number,
    rkey: number,
  ): boolean {
    const at = this.begin(Opcode.SEND_WITH_INV, flags, wrId, length);
    if (at === 0) return false;
    this.send[at + IMM] = rkey;
    return this.oneSided(at, localAddr, lkey, 0, 0);
  }

  postWriteImm(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    length: number,
    remoteAddr: number,
    rkey: number,
    imm: number,
  ): boolean {
    const at = this.begin(Opcode.RDMA_WRITE_WITH_IMM, flags, wrId, length);
    if (at === 0) return false;
    this.send[at + IMM] = imm;
    return this.oneSided(at, localAddr, lkey, remoteAddr, rkey);
  }

  postSendInline(wrId: number, flags: number, bytes: Uint8Array): boolean {
    return this.beginInline(SEND, flags, wrId, bytes) !== 0;
  }

  postWriteInline(wrId: number, flags: number, bytes: Uint8Array, remoteAddr: number, rkey: number): boolean {
    const at = this.beginInline(RDMA_WRITE, flags, wrId, bytes);
    if (at === 0) return false;
    this.remote(at, remoteAddr, rkey);
    return true;
  }

  postBindMw(
    wrId: number,
    flags: number,
    rkey: number,
    lkey: number,
    address: number,
    length: number,
    access: number,
  ): boolean {
    const at = this.begin(Opcode.BIND_MW | (access << 16), flags, wrId, 0);
    if (at === 0) return false;
    this.send[at + COMPARE_ADD] = length;
    this.send[at + COMPARE_ADD + 1] = length / TWO_32;
    return this.oneSided(at, 0, lkey, address, rkey);
  }

  postLocalInv(wrId: number, flags: number, rkey: number): boolean {
    const at = this.begin(Opcode.LOCAL_INV, flags, wrId, 0);
    return at !== 0 && this.oneSided(at, 0, 0, 0, rkey);
  }

  /** The NIC has dropped what was published; the rest of what was posted is dropped here. */
  protected goOnAfterReset(): void {
    this.done = Atomics.load(this.send, NIC);
    this.sent = this.done;
  }

  /** Let the NIC see what was posted. A plain store: it looks within a call on this thread. */
  protected publish(): void {
    this.send[USER] = this.sent;
  }

  /** From now on nothing can be posted. */
  protected closeRing(): void {
    this.sendDepth = 0;
  }

  /** Take the next place in the send ring and write what every work request has; 0 if the ring is full. */
  private begin(opcode: number, flags: number, wrId: number, length: number): number {
    const { send } = this;
    if ((this.sent - this.done) >>> 0 >= this.sendDepth) {
      this.done = Atomics.load(send, NIC);
      if ((this.sent - this.done) >>> 0 >= this.sendDepth) return 0;
    }
    const at = HEADER_WORDS + (this.sent & (this.sendDepth - 1)) * WQE_WORDS;
    this.sent = (this.sent + 1) >>> 0;
    send[at] = opcode | (flags << 8);
    send[at + LENGTH] = length;
    send[at + WR_ID] = wrId;
    return at;
  }

  /** As begin(), with the payload in the request. */
  private beginInline(opcode: number, flags: number, wrId: number, bytes: Uint8Array): number {
    if (bytes.length > WqeLayout.INLINE_BYTES) return 0;
    const at = this.begin(opcode, flags | SendFlag.INLINE, wrId, bytes.length);
    if (at === 0) return 0;
    const { sendBytes } = this;
    const from = 4 * at + WqeLayout.LOCAL_ADDR;
    for (let i = 0; i < bytes.length; i++) sendBytes[from + i] = bytes[i]!;
    return at;
  }

  /** The addresses: `/` and the store's truncation make the high half, the low one is the store's modulo 2^32. */
  private oneSided(at: number, localAddr: number, lkey: number, remoteAddr: number, rkey: number): true {
    const { send } = this;
    this.remote(at, remoteAddr, rkey);
    send[at + LKEY] = lkey;
    send[at + LOCAL_ADDR] = localAddr;
    send[at + LOCAL_ADDR + 1] = localAddr / TWO_32;
    return true;
  }

  private remote(at: number, remoteAddr: number, rkey: number): void {
    const { send } = this;
    send[at + REMOTE_ADDR] = remoteAddr;
    send[at + REMOTE_ADDR + 1] = Math.floor(remoteAddr / TWO_32);
    send[at + RKEY] = rkey;
  }
}
