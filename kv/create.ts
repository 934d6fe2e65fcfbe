import { randomInt } from 'node:crypto';
import {
  AcquireFlag,
  AcquireStatus,
  type Lease,
  ModifyFlag,
  type PatronusClient,
} from '../patronus/index.js';
import { KvError, KvErrorCode } from './api.js';
import { badTable, isBadTable, refusal, toKvError } from './errors.js';
import {
  BUCKET_BYTES,
  BUCKET_HEADER,
  bucketHeaderLo,
  DEFAULT_GROUPS,
  DEFAULT_MAX_VALUE_BYTES,
  DIRECTORY_ENTRY_BYTES,
  LAYOUT_VERSION,
  MAX_GROUPS,
  MAX_VALUE_BYTES_LIMIT,
  MIN_GROUPS,
  PIECE_BYTES,
  PIECE_ENTRY_BYTES,
  PieceState,
  pieceEntryLo,
  pointerHi,
  SB_DIRECTORY_OFFSET,
  SB_STATE_OFFSET,
  SB_VERSION_OFFSET,
  SplitPhase,
  SUPERBLOCK_BYTES,
  splitRecordOffset,
  subtableBytes,
  TableState,
  UNIT_BYTES,
} from './layout.js';
import { registryBytes } from './pieces.js';
import { newShardMap, type ShardMap } from './shard-map.js';
import { encodeSuperblock, expectOk, type Superblock } from './superblock.js';

export interface CreateOptions {
  /** To begin with: a power of two up to 65536, default 1. They are split as they fill up. */
  readonly subtables?: number;
  /** Bucket groups (21 slots each) of a subtable, 2 to 2047. Default 1365: 256 KiB. */
  readonly groups?: number;
  /** Default 16 MiB, at most 64 MiB. */
  readonly maxValueBytes?: number;
  /**
   * The term of all leases of all the table's clients, 10 to 60000 ms, default 1000. Freed blocks are reused after a
   * little more than this; shorter terms cost more renewals.
   */
  readonly termMs?: number;
}

const WRITE_BYTES = 256 * 1024;
const DEFAULT_TERM_MS = 1000;

function integerIn(name: string, value: number, low: number, high: number): number {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new RangeError(`${name} must be an integer from ${low} to ${high}, not ${value}`);
  }
  return value;
}

/**
 * Puts an empty table into the memory of the client's first node: a store by itself. Rejects with ERR_KV_BAD_TABLE if that holds a table
 * or somebody is creating one: exactly one of several creators succeeds. Rejects with ERR_KV_NO_MEMORY if the index
 * does not fit; the memory is then as before.
 */
export function createTable(client: PatronusClient, options: CreateOptions = {}): Promise<void> {
  return createShard(client, newShardMap([client.nodes[0]!.nodeId]), options);
}

/** The same for the table of one node of the store that the map describes. */
export async function createShard(
  client: PatronusClient,
  map: ShardMap,
  options: CreateOptions,
): Promise<void> {
  const groups = integerIn('groups', options.groups ?? DEFAULT_GROUPS, MIN_GROUPS, MAX_GROUPS);
  const subtables = integerIn('subtables', options.subtables ?? 1, 1, 65536);
  const globalDepth = Math.log2(subtables);
  if (!Number.isInteger(globalDepth))
    throw new RangeError(`subtables must be a power of two, not ${subtables}`);
  const maxValueBytes = integerIn(
    'maxValueBytes',
    options.maxValueBytes ?? DEFAULT_MAX_VALUE_BYTES,
    0,
    MAX_VALUE_BYTES_LIMIT,
  );
  const termMs = integerIn('termMs', options.termMs ?? DEFAULT_TERM_MS, 10, 60_000);

  try {
    await create(client, globalDepth, { groups, termMs, maxValueBytes, map });
  } catch (error) {
    throw toKvError(error);
  }
}

async function create(
  client: PatronusClient,
  globalDepth: number,
  sizes: Pick<Superblock, 'groups' | 'termMs' | 'maxValueBytes' | 'map'>,
): Promise<void> {
  const { groups } = sizes;
  const subtables = 2 ** globalDepth;
  // The leases of creating don't expire: they end below, or with this client. That of the superblock is a lock.
  const superblock = await grant(
    client,
    { offset: 0, size: SUPERBLOCK_BYTES },
    AcquireFlag.WithConflictDetect,
  );
  let index: Lease | undefined;
  try {
    await beginCreating(client, superblock);
    try {
      // One piece of memory: it is there as a whole or not at all.
      const directoryBytes = Math.ceil((subtables * DIRECTORY_ENTRY_BYTES) / UNIT_BYTES) * UNIT_BYTES;
      const tableBytes = directoryBytes + subtables * subtableBytes(groups);
      const { allocOffset, allocBytes } = client.nodes[0]!;
      const indexBytes = Math.ceil((tableBytes + registryBytes(allocBytes)) / PIECE_BYTES) * PIECE_BYTES;
      index = await grant(client, { size: indexBytes }, AcquireFlag.WithAllocation);
      if ((index.offset - allocOffset) % PIECE_BYTES !== 0) {
        throw badTable('the memory node allocates at unaligned addresses');
      }
      const directory = new Uint32Array(directoryBytes / 4);
      for (let i = 0; i < subtables; i++) {
        const at = directoryBytes + i * subtableBytes(groups);
        await write(client, index, at, emptySubtable(groups, globalDepth, i));
        directory[2 * i] = (index.offset + at) >>> 0;
        directory[2 * i + 1] = pointerHi(index.offset + at, globalDepth);
      }
      await write(client, index, 0, directory);
      const registry = new Uint32Array(registryBytes(allocBytes) / 4);
      const entry = ((index.offset - allocOffset) / PIECE_BYTES) * (PIECE_ENTRY_BYTES / 4);
      registry[entry] = pieceEntryLo(PieceState.Kept, indexBytes / PIECE_BYTES);
      await write(client, index, tableBytes, registry);
      const head = new Uint32Array(SUPERBLOCK_BYTES / 4);
      const pieces = index.offset + tableBytes;
      encodeSuperblock({ ...sizes, pieces, seedLo: randomInt(2 ** 32), seedHi: randomInt(2 ** 32) }, head);
      head[SB_DIRECTORY_OFFSET / 4] = index.offset >>> 0;
      head[SB_DIRECTORY_OFFSET / 4 + 1] = pointerHi(index.offset, globalDepth);
      // Versions begin anywhere: those of an earlier table, lost with its memory, must not come back.
      head[SB_VERSION_OFFSET / 4] = randomInt(2 ** 16) * 2 ** 16;
      head[SB_VERSION_OFFSET / 4 + 1] = randomInt(2 ** 15);
      // All but the word of the state.
      await write(client, superblock, SB_STATE_OFFSET + 8, head.slice(2));
      // Until now it was this client's, and would have come back with its death.
      expectOk(await client.keepAllocation(index), 'create');
      // Publishes everything above: openTable() looks at nothing before it sees this state.
      await moveState(client, superblock, TableState.Creating, TableState.Ready);
    } catch (error) {
      // First this: if only the answer to the last step was lost there is a table, and its memory is not to be freed.
      const undone = await moveState(client, superblock, TableState.Creating, TableState.Empty).then(
        () => true,
        () => false,
      );
      if (undone && index !== undefined) {
        await client.relinquish(index, ModifyFlag.WithDeallocation).catch(() => undefined);
        index = undefined;
      }
      throw error;
    }
  } finally {
    await client.relinquish(superblock).catch(() => undefined);
    if (index !== undefined) await client.relinquish(index).catch(() => undefined);
  }
}

async function grant(
  client: PatronusClient,
  range: { offset?: number; size: number },
  flag: number,
): Promise<Lease> {
  const { status, lease } = await client.getWlease({ ...range, termNs: 1, flags: AcquireFlag.NoGc | flag });
  if (status === AcquireStatus.LockedErr) throw taken();
  if (status === AcquireStatus.NoMem) {
    throw new KvError(KvErrorCode.NO_MEMORY, 'The index does not fit in the memory of the node');
  }
  if (status !== AcquireStatus.Success || lease === undefined) {
    throw refusal('The memory node grants no lease', status);
  }
  return lease;
}

/** Who has the lock is the only one to create: if another client has begun, it is gone, and what it has written counts for nothing. */
async function beginCreating(client: PatronusClient, superblock: Lease): Promise<void> {
  try {
    await moveState(client, superblock, TableState.Creating, TableState.Creating);
  } catch (error) {
    if (!isBadTable(error)) throw error;
    await moveState(client, superblock, TableState.Empty, TableState.Creating);
  }
}

function taken(): KvError {
  return new KvError(
    KvErrorCode.BAD_TABLE,
    'The memory holds something already, or a table is being created',
  );
}

/** The first word of a superblock is (layout version, state); all zero when the memory is fresh. */
async function moveState(client: PatronusClient, lease: Lease, from: number, to: number): Promise<void> {
  const versionOf = (state: number) => (state === TableState.Empty ? 0 : LAYOUT_VERSION);
  const buffer = client.getRdmaBuffer(8);
  try {
    const status = await client.cas(lease, buffer, SB_STATE_OFFSET, versionOf(from), from, versionOf(to), to);
    expectOk(status, 'create');
    if (buffer.words[0] !== versionOf(from) || buffer.words[1] !== from) {
      throw taken();
    }
  } finally {
    client.putRdmaBuffer(buffer);
  }
}

/** Writes an image to where it begins in the lease. */
async function write(
  client: PatronusClient,
  lease: Lease,
  offset: number,
  image: Uint32Array,
): Promise<void> {
  const bytes = new Uint8Array(image.buffer);
  const size = Math.min(WRITE_BYTES, bytes.length);
  const buffer = client.getRdmaBuffer(size);
  try {
    for (let at = 0; at < bytes.length; at += size) {
      const piece = bytes.subarray(at, at + size);
      buffer.bytes.set(piece);
      expectOk(await client.write(lease, buffer, piece.length, offset + at), 'create');
    }
  } finally {
    client.putRdmaBuffer(buffer);
  }
}

/** The image of a subtable without entries. */
export function emptySubtable(groups: number, localDepth: number, suffix: number, flags = 0): Uint32Array {
  const words = new Uint32Array(subtableBytes(groups) / 4);
  const record = splitRecordOffset(groups) / 4;
  for (let at = 0; at < record; at += BUCKET_BYTES / 4) {
    words[at + BUCKET_HEADER] = bucketHeaderLo(localDepth, flags);
    words[at + BUCKET_HEADER + 1] = suffix;
  }
  words[record + 1] = pointerHi(0, localDepth, SplitPhase.None);
  return words;
}
