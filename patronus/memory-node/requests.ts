import { Access, nowNs } from '../../native/index.js';
import { AcquireFlag, AcquireStatus } from '../api.js';
import { MOST_PUBLISH_NS } from '../wire/clock-page.js';
import {
  clearMessage,
  getNumber,
  head,
  MESSAGE_BYTES,
  MESSAGE_WORDS,
  MessageType,
  putNumber,
  ReplyStatus,
  WIRE_VERSION,
  Word,
} from '../wire/messages.js';
import type { Accesses } from './accesses.js';
import type { Part } from './allocations.js';
import { SPAN_BYTES } from './allocator.js';
import type { ClientConnection } from './client-connection.js';
import type { ClockPage } from './clock-page.js';
import type { Introductions } from './introductions.js';
import { NONE } from './lease-table.js';
import type { Leasing } from './leasing.js';
import type { DirectoryOptions } from './options.js';
import type { Place } from './place.js';
import { StatIndex } from './stats.js';
import type { WindowWork } from './window-work.js';

const REMOTE_ACCESS = Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC;

/** Reads requests, has them carried out, and writes the replies. */
export class Requests {
  private readonly leasing: Leasing;
  private readonly accesses: Accesses;
  private readonly clockPage: ClockPage;
  private readonly work: WindowWork;
  private readonly introductions: Introductions;
  private readonly options: DirectoryOptions;
  private readonly place: Place;
  private readonly part: Part;
  private readonly counters: Float64Array;

  constructor(
    leasing: Leasing,
    accesses: Accesses,
    clockPage: ClockPage,
    work: WindowWork,
    introductions: Introductions,
    options: DirectoryOptions,
    place: Place,
    part: Part,
    counters: Float64Array,
  ) {
    this.leasing = leasing;
    this.accesses = accesses;
    this.clockPage = clockPage;
    this.work = work;
    this.introductions = introductions;
    this.options = options;
    this.place = place;
    this.part = part;
    this.counters = counters;
  }

  /** Carry out the request in a message buffer of the connection; its reply goes out with the batch. */
  handle(connection: ClientConnection, buffer: number, byteLen: number): void {
    const at = buffer * MESSAGE_WORDS;
    const first = connection.requests[at]!;
    const type = (first >>> 8) & 0xff;
    const reply = connection.replies;
    clearMessage(connection.replyLongs, buffer);
    reply[at + Word.REQUEST_ID] = connection.requests[at + Word.REQUEST_ID]!;
    const wellFormed = byteLen === MESSAGE_BYTES && (first & 0xff) === WIRE_VERSION;
    const status = this.carryOut(connection, at, wellFormed ? type : 0, first >>> 16);
    reply[at] = head(type, status);
    connection.answered[connection.answeredCount++] = buffer;
    this.work.touch(connection);
  }

  private carryOut(connection: ClientConnection, at: number, type: number, flags: number): number {
    const { counters, leasing } = this;
    switch (type) {
      case MessageType.ACQUIRE_READ:
      case MessageType.ACQUIRE_WRITE: {
        const status = leasing.acquire(connection, at, type === MessageType.ACQUIRE_WRITE, flags);
        counters[status === AcquireStatus.Success ? StatIndex.acquired : StatIndex.refused]!++;
        return status;
      }
      case MessageType.RELINQUISH: {
        const status = leasing.relinquish(connection, at, flags);
        counters[status === ReplyStatus.OK ? StatIndex.relinquished : StatIndex.refused]!++;
        return status;
      }
      case MessageType.ALLOCATE:
        return this.counted(this.allocate(connection, at, flags));
      default:
    }
    // None of the others has flags.
    if (flags !== 0) return this.malformed();
    switch (type) {
      case MessageType.UPGRADE:
        return this.counted(leasing.upgrade(connection, at));
      case MessageType.EXTEND:
        return this.counted(leasing.extend(connection, at));
      case MessageType.DEALLOCATE:
        return this.counted(this.deallocate(connection, at));
      case MessageType.KEEP:
        return this.counted(this.keep(connection, at));
      case MessageType.GRANT:
        return this.counted(this.grant(connection, at));
      case MessageType.READ:
        return this.counted(this.accesses.read(connection, at));
      case MessageType.WRITE:
        return this.counted(this.accesses.write(connection, at));
      case MessageType.CAS:
        return this.counted(this.accesses.atomic(connection, at, false));
      case MessageType.FAA:
        return this.counted(this.accesses.atomic(connection, at, true));
      case MessageType.COPY:
        return this.counted(this.accesses.copy(connection, at));
      case MessageType.RECYCLE_QP:
        return this.recycle(connection, at);
      case MessageType.CLOCK:
        return this.publishClock(connection, at);
      case MessageType.HELLO:
        return this.hello(connection, at);
      case MessageType.DIRECTORY:
        return this.tellDirectory(connection, at);
      default:
        return this.malformed();
    }
  }

  private counted(status: number): number {
    if (status !== ReplyStatus.OK) this.counters[StatIndex.refused]!++;
    return status;
  }

  private malformed(): number {
    this.counters[StatIndex.malformed]!++;
    return ReplyStatus.UNKNOWN_MESSAGE;
  }

  private hello(connection: ClientConnection, at: number): number {
    const { place, part } = this;
    const reply = connection.replies;
    if (place.directory > 0 && !this.introduce(connection, at)) return ReplyStatus.INVALID;
    reply[at + Word.LEASE_INDEX] = this.options.nodeId;
    reply[at + Word.DIRECTORY] = place.directory | (place.directories << 16);
    putNumber(reply, at + Word.OFFSET, this.options.leaseBytes);
    putNumber(reply, at + Word.SIZE, this.options.allocOffset);
    putNumber(reply, at + Word.BEGIN, this.options.allocBytes);
    putNumber(reply, at + Word.IDENTITY, connection.identity);
    reply[at + Word.RKEY] = connection.universalRkey;
    reply[at + Word.INCARNATION] = place.incarnation;
    reply[at + Word.PART_SPANS] = part.bytes / SPAN_BYTES;
    reply[at + Word.PART_START] = (part.offset - this.options.allocOffset) / SPAN_BYTES;
    return ReplyStatus.OK;
  }

  /** A client that directory 0 knows; false if it does not. Not when it has memory already, as somebody else. */
  private introduce(connection: ClientConnection, at: number): boolean {
    if (connection.identity !== connection.link.id || connection.allocated) return false;
    const identity = this.introductions.identityOf(connection.requests, at + Word.SECRET);
    if (identity === 0) return false;
    connection.identity = identity;
    return true;
  }

  /** Where another directory is, and by which secret it will know this client. */
  private tellDirectory(connection: ClientConnection, at: number): number {
    const { directory, directories, others } = this.place;
    const wanted = connection.requests[at + Word.LEASE_INDEX]!;
    if (directory !== 0 || wanted < 1 || wanted >= directories) return ReplyStatus.INVALID;
    const reply = connection.replies;
    reply[at + Word.ADDRESS_END] = others[wanted - 1]!;
    // Clients that come one after the other are at home in different directories.
    reply[at + Word.HOME] = connection.slot % directories;
    this.introductions.tell(connection.slot, reply, at + Word.TOLD_SECRET);
    return ReplyStatus.OK;
  }

  private publishClock(connection: ClientConnection, at: number): number {
    const durationNs = getNumber(connection.requests, at + Word.TERM);
    if (!(durationNs >= 1 && durationNs <= MOST_PUBLISH_NS)) return ReplyStatus.INVALID;
    this.clockPage.publishUntil(nowNs() + durationNs);
    connection.replies[at + Word.RKEY] = connection.clockRegion.rkey;
    return ReplyStatus.OK;
  }

  private recycle(connection: ClientConnection, at: number): number {
    const request = connection.requests;
    const access = request[at + Word.QP_ACCESS]!;
    if ((access & ~REMOTE_ACCESS) !== 0) return ReplyStatus.INVALID;
    const recycled = connection.recycle(
      request[at + Word.LEASE_INDEX]!,
      access === 0 ? REMOTE_ACCESS : access,
    );
    return recycled ? ReplyStatus.OK : ReplyStatus.INVALID;
  }

  private allocate(connection: ClientConnection, at: number, flags: number): number {
    const { allocations } = this.leasing;
    const request = connection.requests;
    const hint = request[at + Word.HINT]!;
    const size = getNumber(request, at + Word.SIZE);
    if ((flags & ~AcquireFlag.KeepAllocation) !== 0 || !allocations.hasHint(hint))
      return AcquireStatus.InvalidErr;
    if (!(size >= 1)) return AcquireStatus.AddressOutOfRangeErr;
    const piece = allocations.allocate(hint, size, connection.identity, flags !== 0);
    if (piece === NONE) return AcquireStatus.NoMem;
    if (flags === 0) connection.allocated = true;
    putNumber(connection.replies, at + Word.OFFSET, allocations.offsetOf(piece));
    return AcquireStatus.Success;
  }

  private deallocate(connection: ClientConnection, at: number): number {
    const request = connection.requests;
    const size = getNumber(request, at + Word.SIZE);
    const freed = this.leasing.deallocate(connection, getNumber(request, at + Word.OFFSET), size);
    return freed ? ReplyStatus.OK : ReplyStatus.INVALID;
  }

  private keep(connection: ClientConnection, at: number): number {
    const offset = getNumber(connection.requests, at + Word.OFFSET);
    return this.leasing.allocations.keep(offset, connection.identity) ? ReplyStatus.OK : ReplyStatus.INVALID;
  }

  private grant(connection: ClientConnection, at: number): number {
    const request = connection.requests;
    const offset = getNumber(request, at + Word.OFFSET);
    const grantee = getNumber(request, at + Word.GRANTEE);
    const { allocations } = this.leasing;
    if (!(grantee >= 0)) return ReplyStatus.INVALID;
    return allocations.grant(offset, connection.identity, grantee) ? ReplyStatus.OK : ReplyStatus.INVALID;
  }
}
