import { setTimeout as pause } from 'node:timers/promises';
import type { PatronusClient } from '../patronus/index.js';
import type {
  DelOptions,
  Kv,
  KvEntry,
  KvStats,
  KvUsage,
  OpenOptions,
  PutOptions,
  PutRequest,
  PutResult,
  ScanOptions,
  ScanPage,
} from './api.js';
import { type CreateOptions, createShard } from './create.js';
import { badTable, isBadTable } from './errors.js';
import { MAX_KEY_BYTES } from './layout.js';
import type { MemoryNodes } from './memory-nodes.js';
import { Shard } from './shard.js';
import { newShardMap, type ShardMap, ShardOf, sameShardMap } from './shard-map.js';
import { decodeSuperblock, readSuperblock, type Superblock } from './superblock.js';
import { checkKey } from './table.js';

/** Another client may be making the store. */
const FIND_ATTEMPTS = 200;
const FIND_PAUSE_MS = 100;
const CURSOR = /^(\d{1,3})\.([0-9a-f]*)$/;

/** What close() closes beside the store, in this order. */
export type Owned = readonly { close(): Promise<void> }[];

/**
 * Opens the store on some memory nodes, or makes it: then all of them have to be there, and it is spread over all. Later it lies
 * where its map says. Rejects with BAD_TABLE if they hold tables of several stores, with what keeps the nodes from being
 * reached if none can be.
 */
export async function openStore(
  nodes: MemoryNodes,
  options: OpenOptions,
  owned: Owned,
  sizes: CreateOptions = {},
): Promise<Store> {
  const { clients, failures } = await nodes.connectAll();
  try {
    if (clients.size === 0) throw failures[0];
    const root = await findOrCreate(clients, failures, sizes);
    const { map, groups, termMs, maxValueBytes } = root;
    const plan = { nodes, map, sizes: { groups, termMs, maxValueBytes }, options };
    const opened = await Promise.allSettled(
      map.nodeIds.map((nodeId) => {
        const client = clients.get(nodeId);
        clients.delete(nodeId);
        return Shard.open(plan, nodeId, client);
      }),
    );
    const shards = opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    const failed = opened.find((result) => result.status === 'rejected');
    if (failed !== undefined) {
      await Promise.all(shards.map((shard) => shard.close()));
      throw failed.reason;
    }
    return new Store(shards, root, owned);
  } finally {
    // Nodes that the map does not name.
    await Promise.all([...clients.values()].map((client) => client.close()));
  }
}

/** Of the store's tables one superblock, with the map that all of them have. */
async function findOrCreate(
  clients: ReadonlyMap<number, PatronusClient>,
  failures: readonly unknown[],
  sizes: CreateOptions,
): Promise<Superblock> {
  const ids = [...clients.keys()].sort((a, b) => a - b);
  const created = newShardMap(ids);
  for (let attempt = 1; ; attempt++) {
    const found: Superblock[] = [];
    for (const id of ids) {
      const superblock = decodeSuperblock(await readSuperblock(clients.get(id)!));
      if (superblock !== undefined) found.push(superblock);
    }
    const [root] = found;
    for (const { map } of found) {
      if (!sameShardMap(map, root!.map)) throw badTable('the memory nodes belong to different stores');
    }
    if (root !== undefined) return root;
    // Those that can't be reached may hold it.
    if (failures.length > 0) throw failures[0];
    if (attempt === FIND_ATTEMPTS) throw badTable('its creation was not finished');
    try {
      // Whoever makes the table of the first node has made the map; the other tables follow from it.
      await createShard(clients.get(ids[0]!)!, created, sizes);
    } catch (error) {
      if (!isBadTable(error)) throw error;
      await pause(FIND_PAUSE_MS);
    }
  }
}

/** A store: one table on each of its memory nodes, of which the shard map says which one has a key. */
export class Store implements Kv {
  readonly maxKeyBytes = MAX_KEY_BYTES;
  readonly maxValueBytes: number;
  readonly #shards: readonly Shard[];
  readonly #owned: Owned;
  readonly #places: ShardOf;
  #closing: Promise<void> | undefined;

  constructor(
    shards: readonly Shard[],
    { map, maxValueBytes }: { map: ShardMap; maxValueBytes: number },
    owned: Owned,
  ) {
    this.#shards = shards;
    this.#owned = owned;
    this.#places = new ShardOf(map);
    this.maxValueBytes = maxValueBytes;
  }

  get(key: Uint8Array): Promise<Uint8Array | undefined> {
    const shard = this.#shardOf(key);
    return shard.table === undefined ? shard.unavailable() : shard.table.get(key);
  }

  getEntry(key: Uint8Array): Promise<KvEntry | undefined> {
    const shard = this.#shardOf(key);
    return shard.table === undefined ? shard.unavailable() : shard.table.getEntry(key);
  }

  has(key: Uint8Array): Promise<boolean> {
    const shard = this.#shardOf(key);
    return shard.table === undefined ? shard.unavailable() : shard.table.has(key);
  }

  put(key: Uint8Array, value: Uint8Array, options?: PutOptions): Promise<PutResult> {
    const shard = this.#shardOf(key);
    return shard.table === undefined ? shard.unavailable() : shard.table.put(key, value, options);
  }

  del(key: Uint8Array, options?: DelOptions): Promise<boolean> {
    const shard = this.#shardOf(key);
    return shard.table === undefined ? shard.unavailable() : shard.table.del(key, options);
  }

  incr(key: Uint8Array, delta?: number | bigint): Promise<bigint> {
    const shard = this.#shardOf(key);
    return shard.table === undefined ? shard.unavailable() : shard.table.incr(key, delta);
  }

  getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]> {
    return this.#many(keys, same, (shard, some) => shard.table?.getMany(some) ?? shard.unavailable());
  }

  putMany(requests: readonly PutRequest[]): Promise<PutResult[]> {
    return this.#many(requests, keyOf, (shard, some) => shard.table?.putMany(some) ?? shard.unavailable());
  }

  /** One node after the other. A cursor says which one, and has the cursor there. */
  async scan(options: ScanOptions = {}): Promise<ScanPage> {
    const { cursor, ...rest } = options;
    const { index, within } = this.#position(cursor);
    const shard = this.#shards[index]!;
    if (shard.table === undefined) return shard.unavailable();
    const page = await shard.table.scan(within === '' ? rest : { ...rest, cursor: within });
    if (page.cursor !== undefined) return { keys: page.keys, cursor: `${index}.${page.cursor}` };
    return { keys: page.keys, cursor: index + 1 < this.#shards.length ? `${index + 1}.` : undefined };
  }

  async usage(): Promise<KvUsage> {
    const parts = await Promise.all(this.#shards.map((shard) => shard.table?.usage() ?? shard.unavailable()));
    const sum = (field: keyof KvUsage) => parts.reduce((total, part) => total + part[field], 0);
    const [records, slots] = [sum('records'), sum('slots')];
    return {
      records,
      bytes: sum('bytes'),
      indexBytes: sum('indexBytes'),
      subtables: sum('subtables'),
      slots,
      loadFactor: records / slots,
    };
  }

  stats(): KvStats {
    const total = {
      subtables: 0,
      slots: 0,
      gets: 0,
      puts: 0,
      dels: 0,
      splits: 0,
      retries: 0,
      leaseRenewals: 0,
      protectionFaults: 0,
      collections: 0,
    };
    for (const { table } of this.#shards) {
      const stats = table?.stats();
      if (stats === undefined) continue;
      for (const field of Object.keys(total) as (keyof KvStats)[]) total[field] += stats[field];
    }
    return total;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    try {
      await Promise.all(this.#shards.map((shard) => shard.close()));
    } finally {
      for (const object of this.#owned) await object.close();
    }
  }

  #shardOf(key: Uint8Array): Shard {
    const shards = this.#shards;
    if (shards.length === 1) return shards[0]!;
    checkKey(key);
    return shards[this.#places.index(key)]!;
  }

  /** Each node's share by itself, the results in the order of the items. Rejects with a failure when all have ended. */
  async #many<I, R>(
    items: readonly I[],
    key: (item: I) => Uint8Array,
    work: (shard: Shard, some: readonly I[]) => Promise<R[]>,
  ): Promise<R[]> {
    if (this.#shards.length === 1) return work(this.#shards[0]!, items);
    const shares = new Map<Shard, { readonly places: number[]; readonly some: I[] }>();
    items.forEach((item, place) => {
      const shard = this.#shardOf(key(item));
      let share = shares.get(shard);
      if (share === undefined) {
        share = { places: [], some: [] };
        shares.set(shard, share);
      }
      share.places.push(place);
      share.some.push(item);
    });
    const results = new Array<R>(items.length);
    const ended = await Promise.allSettled(
      [...shares].map(async ([shard, { places, some }]) => {
        const parts = await work(shard, some);
        places.forEach((place, i) => {
          results[place] = parts[i]!;
        });
      }),
    );
    for (const result of ended) if (result.status === 'rejected') throw result.reason;
    return results;
  }

  #position(cursor: string | undefined): { readonly index: number; readonly within: string } {
    if (cursor === undefined) return { index: 0, within: '' };
    if (typeof cursor !== 'string') throw new TypeError('cursor must be a string');
    const match = CURSOR.exec(cursor);
    const index = match === null ? this.#shards.length : Number(match[1]);
    if (index >= this.#shards.length) throw new RangeError('this is no cursor of this store');
    return { index, within: match![2]! };
  }
}

function same(key: Uint8Array): Uint8Array {
  return key;
}

function keyOf({ key }: PutRequest): Uint8Array {
  return key;
}
