import { randomInt } from 'node:crypto';
import { checksumWords } from './checksum.js';
import { badTable } from './errors.js';
import { hashKey, KeyHash } from './hash.js';
import { MAX_KEY_BYTES, MAX_SHARDS, SHARD_MAP_VERSION, SM } from './layout.js';

/**
 * Which memory nodes a store is spread over, and which of them holds a key. It is made once, with the store, and each of the
 * nodes has a copy; the identity tells one store's map from every other.
 */
export interface ShardMap {
  readonly identityLo: number;
  readonly identityHi: number;
  readonly seedLo: number;
  readonly seedHi: number;
  /** Ascending. A key's place in it follows from the key's hash under the seed. */
  readonly nodeIds: readonly number[];
}

/** A new map, of a new store. */
export function newShardMap(nodeIds: readonly number[]): ShardMap {
  if (nodeIds.length < 1 || nodeIds.length > MAX_SHARDS) {
    throw new RangeError(`a store has 1 to ${MAX_SHARDS} memory nodes, not ${nodeIds.length}`);
  }
  const word = () => randomInt(2 ** 32);
  return {
    identityLo: word(),
    identityHi: word(),
    seedLo: word(),
    seedHi: word(),
    nodeIds: [...nodeIds].sort((a, b) => a - b),
  };
}

export function sameShardMap(one: ShardMap, other: ShardMap): boolean {
  return one.identityLo === other.identityLo && one.identityHi === other.identityHi;
}

export function encodeShardMap(map: ShardMap, words: Uint32Array): void {
  words[SM.VERSION] = SHARD_MAP_VERSION;
  words[SM.COUNT] = map.nodeIds.length;
  words[SM.IDENTITY_LO] = map.identityLo;
  words[SM.IDENTITY_HI] = map.identityHi;
  words[SM.SEED_LO] = map.seedLo;
  words[SM.SEED_HI] = map.seedHi;
  words.set(map.nodeIds, SM.NODES);
  words[SM.CHECKSUM] = checksumOf(words, map.nodeIds.length);
}

/** Throws BAD_TABLE for a map of another version, and for what is none. */
export function decodeShardMap(words: Uint32Array): ShardMap {
  const version = words[SM.VERSION]!;
  if (version !== SHARD_MAP_VERSION) {
    throw badTable(`its shard map is of version ${version}, not ${SHARD_MAP_VERSION}`);
  }
  const count = words[SM.COUNT]!;
  if (count < 1 || count > MAX_SHARDS || words[SM.CHECKSUM] !== checksumOf(words, count)) {
    throw badTable('the shard map is damaged');
  }
  return {
    identityLo: words[SM.IDENTITY_LO]!,
    identityHi: words[SM.IDENTITY_HI]!,
    seedLo: words[SM.SEED_LO]!,
    seedHi: words[SM.SEED_HI]!,
    nodeIds: [...words.subarray(SM.NODES, SM.NODES + count)],
  };
}

/** The checksum itself counts as zero. */
function checksumOf(words: Uint32Array, count: number): number {
  const image = words.slice(SM.VERSION, SM.NODES + count);
  image[SM.CHECKSUM - SM.VERSION] = 0;
  return checksumWords(image, 0, image.length);
}

/** Finds the place of keys in a map. */
export class ShardOf {
  readonly #map: ShardMap;
  readonly #words = new Uint32Array(MAX_KEY_BYTES / 4);
  readonly #bytes = new Uint8Array(this.#words.buffer);
  readonly #hash = new KeyHash();

  constructor(map: ShardMap) {
    this.#map = map;
  }

  /** Index of the node in the map. The key has at most MAX_KEY_BYTES. */
  index(key: Uint8Array): number {
    const { seedLo, seedHi, nodeIds } = this.#map;
    this.#bytes.set(key);
    // The hash takes whole words.
    this.#bytes.fill(0, key.length, (key.length + 3) & ~3);
    hashKey(this.#words, key.length, seedLo, seedHi, this.#hash);
    return Math.floor(((this.#hash.hi >>> 0) * nodeIds.length) / 0x1_0000_0000);
  }
}
