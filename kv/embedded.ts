import { Patronus, type PatronusClient, PatronusNode } from '../patronus/index.js';
import type {
  DelOptions,
  EmbeddedOptions,
  Kv,
  KvEntry,
  KvStats,
  KvUsage,
  PutOptions,
  PutRequest,
  PutResult,
  ScanOptions,
  ScanPage,
} from './api.js';
import { createTable } from './create.js';
import { openTable } from './table.js';

const DEFAULT_MEMORY_BYTES = 256 * 1024 * 1024;
const MIN_MEMORY_BYTES = 4 * 1024 * 1024;
/** For the superblock; so much that the allocation buffer follows without a gap. */
const LEASE_BYTES = 64 * 1024;

/**
 * A store with a memory node of its own in this process. Its close() closes the memory node too: what was stored is
 * gone then.
 */
export async function openEmbedded(options: EmbeddedOptions = {}): Promise<Kv> {
  const memoryBytes = options.memoryBytes ?? DEFAULT_MEMORY_BYTES;
  if (!Number.isSafeInteger(memoryBytes) || memoryBytes < MIN_MEMORY_BYTES) {
    throw new RangeError(`memoryBytes must be an integer from ${MIN_MEMORY_BYTES}, not ${memoryBytes}`);
  }
  const node = await PatronusNode.start({
    leaseBytes: LEASE_BYTES,
    allocBytes: memoryBytes - LEASE_BYTES,
    bypass: options.protection === 'none',
  });
  let client: PatronusClient | undefined;
  try {
    client = await Patronus.connect({ nodes: [node.endpoint] });
    await createTable(client);
    return new OwningKv(await openTable(client, options), [client, node]);
  } catch (error) {
    await client?.close();
    await node.close();
    throw error;
  }
}

/** A handle whose close() also closes what it stands on, in this order. */
export class OwningKv implements Kv {
  readonly maxKeyBytes: number;
  readonly maxValueBytes: number;
  readonly #kv: Kv;
  readonly #owned: readonly { close(): Promise<void> }[];
  #closing: Promise<void> | undefined;

  constructor(kv: Kv, owned: readonly { close(): Promise<void> }[]) {
    this.#kv = kv;
    this.#owned = owned;
    this.maxKeyBytes = kv.maxKeyBytes;
    this.maxValueBytes = kv.maxValueBytes;
  }

  get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return this.#kv.get(key);
  }

  getEntry(key: Uint8Array): Promise<KvEntry | undefined> {
    return this.#kv.getEntry(key);
  }

  has(key: Uint8Array): Promise<boolean> {
    return this.#kv.has(key);
  }

  put(key: Uint8Array, value: Uint8Array, options?: PutOptions): Promise<PutResult> {
    return this.#kv.put(key, value, options);
  }

  del(key: Uint8Array, options?: DelOptions): Promise<boolean> {
    return this.#kv.del(key, options);
  }

  getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]> {
    return this.#kv.getMany(keys);
  }

  putMany(requests: readonly PutRequest[]): Promise<PutResult[]> {
    return this.#kv.putMany(requests);
  }

  incr(key: Uint8Array, delta?: number | bigint): Promise<bigint> {
    return this.#kv.incr(key, delta);
  }

  scan(options?: ScanOptions): Promise<ScanPage> {
    return this.#kv.scan(options);
  }

  usage(): Promise<KvUsage> {
    return this.#kv.usage();
  }

  stats(): KvStats {
    return this.#kv.stats();
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
      await this.#kv.close();
    } finally {
      for (const object of this.#owned) await object.close();
    }
  }
}
