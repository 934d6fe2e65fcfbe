import { Access } from '../../native/index.js';
import { AcquireFlag, AcquireStatus, ModifyFlag } from '../api.js';
import { copyNumber, getNumber, HEADER_BYTES, ReplyStatus, takeNumber, Word } from '../wire/messages.js';
import type { Allocations } from './allocations.js';
import type { ClientConnection } from './client-connection.js';
import type { DirectoryLocks } from './directory-locks.js';
import type { Headers } from './headers.js';
import { type LeaseTable, NONE } from './lease-table.js';
import type { DirectoryOptions } from './options.js';
import type { WindowWork } from './window-work.js';

const READ_ACCESS = Access.REMOTE_READ;
const WRITE_ACCESS = Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC;
const ACQUIRE_FLAGS =
  AcquireFlag.NoGc |
  AcquireFlag.WithAllocation |
  AcquireFlag.WithConflictDetect |
  AcquireFlag.NoBindPR |
  AcquireFlag.NoBindAny |
  AcquireFlag.UseMR |
  AcquireFlag.KeepAllocation;
const NO_HEADER = AcquireFlag.NoGc | AcquireFlag.NoBindPR | AcquireFlag.NoBindAny;
const MAX_UNITS = 0xffffffff;
/** Places of the numbers of a request, which may be large: see takeNumber(). */
const OFFSET = 0;
const SIZE = 1;
const TERM = 2;

/** Grants, changes and ends leases: what the requests about leases do, and what the end of a term or of a client does. */
export class Leasing {
  readonly leases: LeaseTable;
  readonly allocations: Allocations;
  private readonly locks: DirectoryLocks;
  private readonly headers: Headers;
  private readonly work: WindowWork;
  private readonly options: DirectoryOptions;
  private readonly connections: readonly (ClientConnection | undefined)[];
  private readonly time: Float64Array;
  private readonly numbers = new Float64Array(3);

  /** `time[0]`: now. */
  constructor(
    leases: LeaseTable,
    locks: DirectoryLocks,
    headers: Headers,
    allocations: Allocations,
    work: WindowWork,
    options: DirectoryOptions,
    connections: readonly (ClientConnection | undefined)[],
    time: Float64Array,
  ) {
    this.time = time;
    this.leases = leases;
    this.locks = locks;
    this.headers = headers;
    this.allocations = allocations;
    this.work = work;
    this.options = options;
    this.connections = connections;
  }

  /** The request at `at`; writes the reply's words. What it took is given back if it comes to nothing. */
  acquire(connection: ClientConnection, at: number, write: boolean, flags: number): number {
    const request = connection.requests;
    const { leases, locks } = this;
    const now = this.time[0]!;
    const expires = (flags & AcquireFlag.NoGc) === 0;
    const { numbers } = this;
    takeNumber(request, at + Word.TERM, numbers, TERM);
    takeNumber(request, at + Word.OFFSET, numbers, OFFSET);
    takeNumber(request, at + Word.SIZE, numbers, SIZE);
    const termNs = expires ? numbers[TERM]! : 0;
    const hint = request[at + Word.HINT]!;
    if (
      (flags & ~ACQUIRE_FLAGS) !== 0 ||
      (flags & (AcquireFlag.NoBindAny | AcquireFlag.UseMR)) === (AcquireFlag.NoBindAny | AcquireFlag.UseMR) ||
      (flags & (AcquireFlag.WithAllocation | AcquireFlag.KeepAllocation)) === AcquireFlag.KeepAllocation ||
      !(termNs >= (expires ? 1 : 0)) ||
      (request[at + Word.HINT + 1]! | request[at + 14]! | request[at + 15]!) !== 0
    ) {
      return AcquireStatus.InvalidErr;
    }
    if (connection.leases === this.options.maxLeasesPerClient) return AcquireStatus.NoMw;
    const lease = leases.candidate();
    if (lease === NONE) return AcquireStatus.NoMw;

    const size = numbers[SIZE]!;
    const identity = connection.identity;
    let offset = numbers[OFFSET]!;
    let piece = NONE;
    const allocates = (flags & AcquireFlag.WithAllocation) !== 0;
    if (allocates) {
      if (!(size >= 1)) return AcquireStatus.AddressOutOfRangeErr;
      if (!this.allocations.hasHint(hint)) return AcquireStatus.InvalidErr;
    } else {
      if (!this.leasable(offset, size)) return AcquireStatus.AddressOutOfRangeErr;
      piece = this.allocations.pieceAt(offset, size);
      if (!this.allocations.mayLease(identity, offset, size, write, piece)) return AcquireStatus.DeniedErr;
    }
    if ((flags & AcquireFlag.WithConflictDetect) !== 0) {
      const key = getNumber(request, at + Word.LOCK_KEY);
      if (!(key >= 0)) return AcquireStatus.InvalidErr;
      if (!locks.take(key, lease)) return AcquireStatus.LockedErr;
    }
    const kept = (flags & AcquireFlag.KeepAllocation) !== 0;
    if (allocates) {
      piece = this.allocations.allocate(hint, size, identity, kept);
      if (piece === NONE) {
        locks.giveBack(lease);
        return AcquireStatus.NoMem;
      }
      offset = this.allocations.offsetOf(piece);
    }
    leases.offset[lease] = offset;
    leases.size[lease] = size;
    const status = this.bind(connection, lease, write, flags, connection.replies, at);
    if (status !== AcquireStatus.Success) {
      locks.giveBack(lease);
      if (allocates) this.allocations.free(piece);
      return status;
    }
    if (allocates && !kept) connection.allocated = true;
    if (piece !== NONE) this.allocations.use(piece);
    leases.begin(connection.slot);
    leases.writable[lease] = write ? 1 : 0;
    leases.piece[lease] = piece;
    leases.beginNs[lease] = now;
    leases.unitNs[lease] = termNs;
    leases.units[lease] = 1;
    const generation = leases.generation[lease]!;
    if (expires) {
      this.headers.open(lease, generation);
      leases.deadlines.deadline[lease] = now + termNs;
      leases.deadlines.push(lease);
    }
    connection.leases++;

    const reply = connection.replies;
    reply[at + Word.LEASE_INDEX] = lease;
    reply[at + Word.LEASE_GENERATION] = generation;
    copyNumber(reply, at + Word.OFFSET, leases.offset, lease);
    copyNumber(reply, at + Word.SIZE, leases.size, lease);
    copyNumber(reply, at + Word.BEGIN, leases.beginNs, lease);
    copyNumber(reply, at + Word.GRANTED_TERM, leases.unitNs, lease);
    return AcquireStatus.Success;
  }

  /** Make the permissions of a lease on its range, and say so in the reply; nothing is left of them if it fails. */
  private bind(
    connection: ClientConnection,
    lease: number,
    write: boolean,
    flags: number,
    reply: Uint32Array,
    at: number,
  ): number {
    const { leases, work } = this;
    const offset = leases.offset[lease]!;
    const size = leases.size[lease]!;
    const access = write ? WRITE_ACCESS : READ_ACCESS;
    const header = (flags & NO_HEADER) === 0 ? work.take(connection) : NONE;
    if (header === NONE && (flags & NO_HEADER) === 0) return AcquireStatus.NoMw;
    let window = NONE;
    let rkey = 0;
    if ((flags & AcquireFlag.UseMR) !== 0) {
      const region = registered(connection, offset, size, access);
      if (region === undefined) {
        if (header !== NONE) work.putBack(connection, header);
        return AcquireStatus.RegMrErr;
      }
      leases.region[lease] = region;
      rkey = region.rkey;
    } else if ((flags & AcquireFlag.NoBindAny) === 0) {
      window = work.take(connection);
      if (window === NONE) {
        if (header !== NONE) work.putBack(connection, header);
        return AcquireStatus.NoMw;
      }
      rkey = work.bind(connection, window, connection.region.lkey, offset, size, access);
    }
    if (header !== NONE) {
      const address = lease * HEADER_BYTES;
      const { lkey } = connection.headerRegion;
      reply[at + Word.HEADER_RKEY] = work.bind(connection, header, lkey, address, HEADER_BYTES, WRITE_ACCESS);
      reply[at + Word.HEADER_ADDRESS] = address;
    }
    reply[at + Word.RKEY] = rkey;
    leases.window[lease] = window;
    leases.headerWindow[lease] = header;
    return AcquireStatus.Success;
  }

  leasable(offset: number, size: number): boolean {
    const { leaseBytes, allocOffset, allocBytes } = this.options;
    const end = offset + size;
    // A range may span both buffers only where no gap lies between them.
    const inLeases = end <= (leaseBytes === allocOffset ? allocOffset + allocBytes : leaseBytes);
    return (
      size >= 1 && offset >= 0 && (inLeases || (offset >= allocOffset && end <= allocOffset + allocBytes))
    );
  }

  /** A read lease becomes a write lease: the old key ends and the reply names the new one, or nothing changes. */
  upgrade(connection: ClientConnection, at: number): number {
    const request = connection.requests;
    const reply = connection.replies;
    const { leases, work } = this;
    const lease = request[at + Word.LEASE_INDEX]!;
    if (!leases.owned(lease, request[at + Word.LEASE_GENERATION]!, connection.slot))
      return AcquireStatus.InvalidErr;
    const offset = leases.offset[lease]!;
    const size = leases.size[lease]!;
    const old = leases.window[lease]!;
    const region = leases.region[lease];
    if (leases.writable[lease] === 1 || (old === NONE && region === undefined))
      return AcquireStatus.InvalidErr;
    const piece = this.allocations.pieceAt(offset, size);
    if (!this.allocations.mayLease(connection.identity, offset, size, true, piece))
      return AcquireStatus.DeniedErr;
    if (region !== undefined) {
      const wider = registered(connection, offset, size, WRITE_ACCESS);
      if (wider === undefined) return AcquireStatus.RegMrErr;
      region.close();
      leases.region[lease] = wider;
      reply[at + Word.RKEY] = wider.rkey;
    } else {
      const window = work.canRebind(connection, old) ? old : work.take(connection);
      if (window === NONE) return AcquireStatus.NoMw;
      const { lkey } = connection.region;
      reply[at + Word.RKEY] = work.bind(connection, window, lkey, offset, size, WRITE_ACCESS);
      if (window !== old) work.unbind(connection, old);
      leases.window[lease] = window;
    }
    leases.writable[lease] = 1;
    return AcquireStatus.Success;
  }

  /** Add units to a lease's term in the name of its client. */
  extend(connection: ClientConnection, at: number): number {
    const request = connection.requests;
    const { leases } = this;
    const lease = request[at + Word.LEASE_INDEX]!;
    if (!leases.owned(lease, request[at + Word.LEASE_GENERATION]!, connection.slot))
      return ReplyStatus.NOT_FOUND;
    const more = request[at + Word.UNITS]!;
    const unitNs = leases.unitNs[lease]!;
    const units = this.headers.units(lease) + more;
    if (unitNs === 0 || more === 0 || units > MAX_UNITS) return ReplyStatus.INVALID;
    if (!Number.isSafeInteger(leases.beginNs[lease]! + units * unitNs)) return ReplyStatus.INVALID;
    this.headers.add(lease, more);
    connection.replies[at + Word.UNITS] = units;
    return ReplyStatus.OK;
  }

  relinquish(connection: ClientConnection, at: number, flags: number): number {
    const request = connection.requests;
    const { leases } = this;
    const lease = request[at + Word.LEASE_INDEX]!;
    if ((flags & ~ModifyFlag.WithDeallocation) !== 0) return ReplyStatus.INVALID;
    if (!leases.owned(lease, request[at + Word.LEASE_GENERATION]!, connection.slot))
      return ReplyStatus.NOT_FOUND;
    const offset = leases.offset[lease]!;
    this.end(lease);
    // The memory may go to another client in this very batch, who hears of it after the unbind: see WindowWork.
    if ((flags & ModifyFlag.WithDeallocation) === 0) return ReplyStatus.OK;
    return this.deallocate(connection, offset) ? ReplyStatus.OK : ReplyStatus.INVALID;
  }

  /** Free the piece that begins at `offset` (and was allocated with `size`), if this client may. */
  deallocate(connection: ClientConnection, offset: number, size?: number): boolean {
    const { allocations } = this;
    const piece = allocations.freeable(offset, connection.identity);
    if (piece === NONE || (size !== undefined && !allocations.fits(piece, size))) return false;
    allocations.free(piece);
    return true;
  }

  /**
   * The lease whose deadline is the next one has come to it: end it, unless its client has extended it. A CAS of
   * the client either comes before shut() and is seen by the second look, or fails: so no client ever believes in an extension
   * that the node does not know of. Returns false if the lease goes on.
   */
  expireNext(): boolean {
    const { leases, headers } = this;
    const lease = leases.deadlines.earliestLease;
    const known = leases.units[lease]!;
    if (headers.units(lease) <= known) {
      const generation = leases.generation[lease]!;
      headers.shut(lease, generation);
      if (headers.units(lease) <= known) {
        this.end(lease);
        return true;
      }
      headers.reopen(lease, generation);
    }
    const units = headers.units(lease);
    leases.units[lease] = units;
    leases.deadlines.remove(lease);
    leases.deadlines.deadline[lease] = leases.beginNs[lease]! + units * leases.unitNs[lease]!;
    leases.deadlines.push(lease);
    return false;
  }

  /** End a lease: by the end of this batch its keys are dead, its lock free, its place in the memory unused. */
  end(lease: number): void {
    const { leases } = this;
    const connection = this.connections[leases.connection[lease]!]!;
    const window = leases.window[lease]!;
    const header = leases.headerWindow[lease]!;
    const region = leases.region[lease];
    if (connection.closing) {
      // Its send queue takes nothing any more; closing a window ends its key too.
      if (window !== NONE) connection.windows.closeWindow(window);
      if (header !== NONE) connection.windows.closeWindow(header);
    } else {
      if (window !== NONE) this.work.unbind(connection, window);
      if (header !== NONE) this.work.unbind(connection, header);
    }
    if (region !== undefined) {
      region.close();
      leases.region[lease] = undefined;
    }
    this.locks.release(lease);
    if (leases.piece[lease] !== NONE) this.allocations.unuse(leases.piece[lease]!);
    connection.leases--;
    leases.release(lease);
  }
}

function registered(connection: ClientConnection, offset: number, size: number, access: number) {
  try {
    return connection.registerRange(offset, size, access);
  } catch {
    return undefined;
  }
}
