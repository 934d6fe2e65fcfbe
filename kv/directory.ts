import type { Lease, PatronusClient } from '../patronus/index.js';
import { DIRECTORY_ENTRY_BYTES, UNIT_BYTES } from './layout.js';
import type { LeaseCell, LeaseKeeper } from './leases.js';
import { badTable, readWords, type Superblock } from './superblock.js';

/** A subtable as this client knows it. */
export interface Subtable {
  readonly offset: number;
  readonly localDepth: number;
  /** The write lease that slots are changed under. */
  readonly lease: LeaseCell;
}

/**
 * The cached directory. It can be out of date: the bucket headers tell, see bucketServes(). Subtables of several
 * entries (local depth below the global depth) are one object.
 */
export class Directory {
  entries: readonly Subtable[] = [];
  readonly #client: PatronusClient;
  readonly #keeper: LeaseKeeper;
  readonly #offset: number;
  readonly #depth: number;
  readonly #subtableBytes: number;
  readonly #memoryBytes: number;
  readonly #byOffset = new Map<number, Subtable>();

  constructor(
    client: PatronusClient,
    keeper: LeaseKeeper,
    superblock: Superblock,
    subtableSize: number,
    memoryBytes: number,
  ) {
    this.#client = client;
    this.#keeper = keeper;
    this.#offset = superblock.directoryOffset;
    this.#depth = superblock.globalDepth;
    this.#subtableBytes = subtableSize;
    this.#memoryBytes = memoryBytes;
  }

  get subtables(): number {
    return this.#byOffset.size;
  }

  /** Reads the directory under `lease`, a lease on its range alone. */
  async load(lease: Lease): Promise<void> {
    const words = await readWords(this.#client, lease, 0, this.bytes);
    const entries: Subtable[] = [];
    for (let i = 0; i < words.length; i += 2) {
      const offset = words[i]! + (words[i + 1]! & 0xffff) * 0x1_0000_0000;
      entries.push(this.#subtable(offset, (words[i + 1]! >>> 16) & 0xff));
    }
    this.entries = entries;
  }

  get bytes(): number {
    return 2 ** this.#depth * DIRECTORY_ENTRY_BYTES;
  }

  get offset(): number {
    return this.#offset;
  }

  #subtable(offset: number, localDepth: number): Subtable {
    const fits = offset > 0 && offset + this.#subtableBytes <= this.#memoryBytes;
    if (!fits || offset % UNIT_BYTES !== 0 || localDepth > this.#depth)
      throw badTable('the directory is damaged');
    const known = this.#byOffset.get(offset);
    if (known !== undefined && known.localDepth === localDepth) return known;
    const lease = known?.lease ?? this.#keeper.cell(offset, this.#subtableBytes, true);
    const subtable = { offset, localDepth, lease };
    this.#byOffset.set(offset, subtable);
    return subtable;
  }
}
