import type { HostMemory } from '../../native/index.js';
import { getNumber, MAX_COPY, MAX_PAYLOAD, ReplyStatus, Word } from '../wire/messages.js';
import type { ClientConnection } from './client-connection.js';
import type { Headers } from './headers.js';
import { type LeaseTable, NONE } from './lease-table.js';

const WORD_BYTES = 8;

/**
 * Two-sided accesses: the memory node reads and writes its own memory on behalf of a client. What the RNIC checks of a
 * one-sided access is checked here: a live lease of this client with a permission, its range, its right, the alignment of atomics.
 */
export class Accesses {
  private readonly memory: HostMemory;
  private readonly leases: LeaseTable;
  private readonly headers: Headers;
  private readonly time: Float64Array;

  /** `time[0]`: now. */
  constructor(memory: HostMemory, leases: LeaseTable, headers: Headers, time: Float64Array) {
    this.time = time;
    this.memory = memory;
    this.leases = leases;
    this.headers = headers;
  }

  read(connection: ClientConnection, at: number): number {
    const size = connection.requests[at + Word.SIZE]!;
    if (size > MAX_PAYLOAD || connection.requests[at + Word.SIZE + 1] !== 0) return ReplyStatus.INVALID;
    // As with the RNIC a transfer of no bytes needs no permission.
    if (size === 0) return ReplyStatus.OK;
    const address = this.address(connection, at, Word.LEASE_INDEX, Word.OFFSET, size, false);
    if (address < 0) return ReplyStatus.PROTECTION;
    this.copyWords(this.bytes(address, size), payload(connection.replies, at, size));
    return ReplyStatus.OK;
  }

  write(connection: ClientConnection, at: number): number {
    const size = connection.requests[at + Word.SIZE]!;
    if (size > MAX_PAYLOAD || connection.requests[at + Word.SIZE + 1] !== 0) return ReplyStatus.INVALID;
    if (size === 0) return ReplyStatus.OK;
    const address = this.address(connection, at, Word.LEASE_INDEX, Word.OFFSET, size, true);
    if (address < 0) return ReplyStatus.PROTECTION;
    this.copyWords(payload(connection.requests, at, size), this.bytes(address, size));
    return ReplyStatus.OK;
  }

  /** CAS with `add` false: expected and desired value; FAA with it true: the addend. The reply has the old value. */
  atomic(connection: ClientConnection, at: number, add: boolean): number {
    const address = this.address(connection, at, Word.LEASE_INDEX, Word.OFFSET, WORD_BYTES, true);
    if (address < 0) return ReplyStatus.PROTECTION;
    if (address % WORD_BYTES !== 0) return ReplyStatus.EXECUTION;
    const word = new BigInt64Array(this.memory.buffer, address, 1);
    const operands = new BigInt64Array(payload(connection.requests, at, 16).slice().buffer);
    const old = add
      ? Atomics.add(word, 0, operands[0]!)
      : Atomics.compareExchange(word, 0, operands[0]!, operands[1]!);
    connection.replies[at + Word.PAYLOAD] = Number(BigInt.asUintN(32, old));
    connection.replies[at + Word.PAYLOAD + 1] = Number(BigInt.asUintN(32, old >> 32n));
    return ReplyStatus.OK;
  }

  /** From one lease of the client to another; the ranges may overlap. */
  copy(connection: ClientConnection, at: number): number {
    const size = connection.requests[at + Word.SIZE]!;
    if (size > MAX_COPY || connection.requests[at + Word.SIZE + 1] !== 0) return ReplyStatus.INVALID;
    const from = this.address(connection, at, Word.LEASE_INDEX, Word.OFFSET, size, false);
    const to = this.address(connection, at, Word.TO_INDEX, Word.TO_OFFSET, size, true);
    if (from < 0 || to < 0) return ReplyStatus.PROTECTION;
    this.bytes(to, size).set(this.bytes(from, size));
    return ReplyStatus.OK;
  }

  /** Where the access goes, in the node's memory; -1 if the lease does not allow it. */
  private address(
    connection: ClientConnection,
    at: number,
    indexWord: number,
    offsetWord: number,
    size: number,
    write: boolean,
  ): number {
    const request = connection.requests;
    const { leases } = this;
    const lease = request[at + indexWord]!;
    if (!leases.owned(lease, request[at + indexWord + 1]!, connection.slot)) return -1;
    // A lease without a permission.
    if (leases.window[lease] === NONE && leases.region[lease] === undefined) return -1;
    const unitNs = leases.unitNs[lease]!;
    if (unitNs > 0 && this.time[0]! >= leases.beginNs[lease]! + this.headers.units(lease) * unitNs) return -1;
    const offset = getNumber(request, at + offsetWord);
    if (!(offset >= 0) || offset + size > leases.size[lease]! || (write && leases.writable[lease] === 0))
      return -1;
    return leases.offset[lease]! + offset;
  }

  private bytes(address: number, size: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, address, size);
  }

  /** Aligned words whole, as the RNIC does: another client may be swapping one. */
  private copyWords(from: Uint8Array, to: Uint8Array): void {
    if ((from.length | from.byteOffset | to.byteOffset) % WORD_BYTES !== 0) {
      to.set(from);
      return;
    }
    const words = new BigInt64Array(from.buffer, from.byteOffset, from.length / WORD_BYTES);
    const target = new BigInt64Array(to.buffer, to.byteOffset, words.length);
    for (let i = 0; i < words.length; i++) Atomics.store(target, i, Atomics.load(words, i));
  }
}

function payload(words: Uint32Array, at: number, size: number): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset + 4 * (at + Word.PAYLOAD), size);
}
