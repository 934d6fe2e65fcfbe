import { type Lease, type PatronusClient, RetCode } from '../patronus/index.js';
import { KvError, KvErrorCode } from './api.js';
import { badTable } from './errors.js';
import {
  LAYOUT_VERSION,
  MAGIC_HI,
  MAGIC_LO,
  MAX_GROUPS,
  MAX_VALUE_BYTES_LIMIT,
  MIN_GROUPS,
  pointerOf,
  SB_GROUPS,
  SB_LAYOUT_VERSION,
  SB_MAGIC_HI,
  SB_MAGIC_LO,
  SB_MAX_VALUE_BYTES,
  SB_PIECES,
  SB_SEED_HI,
  SB_SEED_LO,
  SB_STATE,
  SB_TERM_MS,
  SUPERBLOCK_BYTES,
  TableState,
} from './layout.js';
import { decodeShardMap, encodeShardMap, type ShardMap } from './shard-map.js';

/** What every client has to know of a table before it can find anything in it. */
export interface Superblock {
  readonly seedLo: number;
  readonly seedHi: number;
  /** Bucket groups of each subtable. */
  readonly groups: number;
  /** The one lease term of all clients of the table. */
  readonly termMs: number;
  readonly maxValueBytes: number;
  /** Offset of the registry of pieces. */
  readonly pieces: number;
  /** Of the store that the table is a part of. */
  readonly map: ShardMap;
}

/** Fills all but the first 64-bit word, which is only ever changed by CAS. */
export function encodeSuperblock(superblock: Superblock, words: Uint32Array): void {
  words[SB_MAGIC_LO] = MAGIC_LO;
  words[SB_MAGIC_HI] = MAGIC_HI;
  words[SB_SEED_LO] = superblock.seedLo;
  words[SB_SEED_HI] = superblock.seedHi;
  words[SB_GROUPS] = superblock.groups;
  words[SB_TERM_MS] = superblock.termMs;
  words[SB_MAX_VALUE_BYTES] = superblock.maxValueBytes;
  words[SB_PIECES] = superblock.pieces >>> 0;
  words[SB_PIECES + 1] = Math.floor(superblock.pieces / 0x1_0000_0000);
  encodeShardMap(superblock.map, words);
}

/** Undefined while no table has been published. Throws BAD_TABLE for anything but a table of this version. */
export function decodeSuperblock(words: Uint32Array): Superblock | undefined {
  const state = words[SB_STATE]!;
  if (state !== TableState.Ready) {
    if (words[SB_LAYOUT_VERSION] === 0 && state === TableState.Empty) return undefined;
    if (words[SB_LAYOUT_VERSION] === LAYOUT_VERSION && state === TableState.Creating) return undefined;
  }
  if (state !== TableState.Ready || words[SB_MAGIC_LO] !== MAGIC_LO || words[SB_MAGIC_HI] !== MAGIC_HI) {
    throw badTable('there is no table');
  }
  if (words[SB_LAYOUT_VERSION] !== LAYOUT_VERSION) {
    throw badTable(`it holds a table of layout version ${words[SB_LAYOUT_VERSION]}, not ${LAYOUT_VERSION}`);
  }
  const superblock: Superblock = {
    seedLo: words[SB_SEED_LO]!,
    seedHi: words[SB_SEED_HI]!,
    groups: words[SB_GROUPS]!,
    termMs: words[SB_TERM_MS]!,
    maxValueBytes: words[SB_MAX_VALUE_BYTES]!,
    pieces: pointerOf(words[SB_PIECES]!, words[SB_PIECES + 1]!),
    map: decodeShardMap(words),
  };
  const { groups, termMs, maxValueBytes } = superblock;
  const sound =
    groups >= MIN_GROUPS &&
    groups <= MAX_GROUPS &&
    termMs >= 1 &&
    maxValueBytes <= MAX_VALUE_BYTES_LIMIT &&
    superblock.pieces > 0;
  if (!sound) throw badTable('the superblock is damaged');
  return superblock;
}

/** Of the leases that a superblock is read under, before the table's own term is known. */
const OPEN_TERM_NS = 5e9;

/** The superblock in the client's first node, as it is in the memory. */
export async function readSuperblock(client: PatronusClient): Promise<Uint32Array> {
  const lease = await client.readLease({ offset: 0, size: SUPERBLOCK_BYTES, termNs: OPEN_TERM_NS });
  return readWords(client, lease, 0, SUPERBLOCK_BYTES).finally(() => client.relinquish(lease));
}

/** Reads `size` bytes under `lease` into fresh words; for the few reads of setting up. Rejects with UNAVAILABLE. */
export async function readWords(
  client: PatronusClient,
  lease: Lease,
  offset: number,
  size: number,
): Promise<Uint32Array> {
  const buffer = client.getRdmaBuffer(size);
  try {
    expectOk(await client.read(lease, buffer, size, offset), 'read');
    return buffer.words.slice(0, size / 4);
  } finally {
    client.putRdmaBuffer(buffer);
  }
}

export function expectOk(status: RetCode, what: string): void {
  if (status !== RetCode.Ok) {
    throw new KvError(
      KvErrorCode.UNAVAILABLE,
      `The memory node refused to ${what} the table: status ${status}`,
    );
  }
}
