import { type PatronusClient, RetCode } from '../patronus/index.js';
import { Allocator } from './allocator.js';
import type { KvProtection } from './api.js';
import { MAX_META_BYTES, valueOffset } from './block.js';
import { Collector } from './collector.js';
import { Directory, type DirectoryImage, readDirectory } from './directory.js';
import { badTable, unavailable } from './errors.js';
import { ExtentStack } from './extent-stack.js';
import { classUnits } from './free-lists.js';
import { MAX_KEY_BYTES, SB_HANDOVER_OFFSET, SB_ORPHANS_OFFSET, subtableBytes, UNIT_BYTES } from './layout.js';
import { type LeaseCell, LeaseKeeper } from './leases.js';
import { Locations } from './locations.js';
import type { Pacing } from './pacing.js';
import { Pieces } from './pieces.js';
import { ResultBytes } from './result-bytes.js';
import { Splitter } from './splitter.js';
import { decodeSuperblock, readSuperblock, type Superblock } from './superblock.js';
import { Versions } from './versions.js';

/** What the NIC's revocation of an ended lease may be late, as a part of the term. See docs/kv.md, "Grace period". */
const REVOCATION_MARGIN = 1 / 8;
const OPEN_ATTEMPTS = 100;
const OPEN_PAUSE_MS = 20;
const DIRECTORY_ATTEMPTS = 40;
const DIRECTORY_PAUSE_MS = 5;

/** Everything that the operations of one table handle share. */
export class TableContext {
  readonly client: PatronusClient;
  readonly pacing: Pacing;
  readonly superblock: Superblock;
  readonly keeper: LeaseKeeper;
  readonly directory: Directory;
  readonly allocator: Allocator;
  readonly versions: Versions;
  readonly results = new ResultBytes();
  readonly locations = new Locations();
  /** Read lease on the allocation buffer: buckets and blocks. */
  readonly region: LeaseCell;
  readonly splitter: Splitter;
  readonly collector: Collector;
  #refreshing: Promise<void> | undefined;
  /** Attempts and steps made again, and those of them that the NIC has ended. */
  retries = 0;
  protectionFaults = 0;
  /** There are keys with an expiry: they have to be looked for. */
  expirySeen = false;

  /** Reads and checks the table in the client's first node; waits (bounded) for one that is being created. */
  static async open(
    client: PatronusClient,
    pacing: Pacing,
    protection: KvProtection = 'region',
  ): Promise<TableContext> {
    const node = client.nodes[0];
    if (node === undefined) throw new TypeError('the Patronus client has no memory node');
    client.requireMemory(node.nodeId);
    for (let attempt = 0; attempt < OPEN_ATTEMPTS; attempt++) {
      const words = await readSuperblock(client);
      const superblock = decodeSuperblock(words);
      if (superblock !== undefined) {
        if (!superblock.map.nodeIds.includes(node.nodeId)) {
          throw badTable(`its shard map does not name memory node ${node.nodeId}`);
        }
        const context = new TableContext(client, pacing, superblock, protection);
        await context.refreshDirectory();
        await context.collector.join();
        return context;
      }
      if (words.every((word) => word === 0)) throw badTable('it is empty');
      await pacing.sleep(OPEN_PAUSE_MS);
    }
    throw badTable('its creation was not finished');
  }

  private constructor(
    client: PatronusClient,
    pacing: Pacing,
    superblock: Superblock,
    protection: KvProtection,
  ) {
    const node = client.nodes[0]!;
    const memoryBytes = node.allocOffset + node.allocBytes;
    const termNs = superblock.termMs * 1e6;
    const largest = valueOffset(MAX_KEY_BYTES, MAX_META_BYTES) + superblock.maxValueBytes + UNIT_BYTES;
    this.client = client;
    this.pacing = pacing;
    this.superblock = superblock;
    this.keeper = new LeaseKeeper(client, pacing, termNs, protection);
    this.directory = new Directory(this.keeper, subtableBytes(superblock.groups), memoryBytes);
    this.versions = new Versions(this.keeper);
    this.region = this.keeper.cell(node.allocOffset, node.allocBytes, false);
    const shared = {
      pieces: new Pieces(this.keeper, node, superblock.pieces),
      orphans: new ExtentStack(this.keeper, this.region, SB_ORPHANS_OFFSET),
      handover: new ExtentStack(this.keeper, this.region, SB_HANDOVER_OFFSET),
    };
    this.allocator = new Allocator(
      this.keeper,
      node,
      termNs * (1 + REVOCATION_MARGIN) + client.epsilonNs,
      classUnits(Math.ceil(largest / UNIT_BYTES)) * UNIT_BYTES,
      shared,
    );
    this.splitter = new Splitter(this);
    this.collector = new Collector(this, shared);
  }

  /** An attempt or step has ended with this status and is made again. */
  countRetry(status: number): void {
    this.retries++;
    if (status === RetCode.RdmaProtectionErr) this.protectionFaults++;
  }

  /** Brings the cached directory up to date; of calls at the same time only the first reads it. */
  refreshDirectory(): Promise<void> {
    this.#refreshing ??= this.readDirectory()
      .then((image) => this.directory.take(image))
      .finally(() => {
        this.#refreshing = undefined;
      });
    return this.#refreshing;
  }

  /** The directory as it is now. */
  async readDirectory(): Promise<DirectoryImage> {
    const { client, region } = this;
    const { superblock } = this.keeper;
    const batch = client.createBatch();
    for (let attempt = 0; attempt < DIRECTORY_ATTEMPTS; attempt++) {
      const now = client.now();
      const held = [region.take(now), superblock.take(now)] as const;
      try {
        if (held[0] === undefined) await region.acquire();
        else if (held[1] === undefined) await superblock.acquire();
        else {
          const image = await readDirectory(batch, client, held[1].lease, held[0].lease, this.keeper.rwFlags);
          if (typeof image !== 'number') return image;
          region.drop(held[0]);
          superblock.drop(held[1]);
          if (image !== RetCode.LeaseLocalExpiredErr) {
            await this.pacing.sleep(DIRECTORY_PAUSE_MS * this.pacing.random());
          }
        }
      } finally {
        if (held[0] !== undefined) region.release(held[0]);
        if (held[1] !== undefined) superblock.release(held[1]);
      }
    }
    throw unavailable();
  }
}
