import { setTimeout as pause } from 'node:timers/promises';
import type { PatronusClient } from '../patronus/index.js';
import { KvError, KvErrorCode, type OpenOptions } from './api.js';
import { type CreateOptions, createShard } from './create.js';
import { badTable, isBadTable } from './errors.js';
import { type MemoryNodes, unreachable } from './memory-nodes.js';
import { type ShardMap, sameShardMap } from './shard-map.js';
import { openShard, type Table } from './table.js';

/** Another client may be creating the table. */
const OPEN_ATTEMPTS = 20;
const OPEN_PAUSE_MS = 100;
/** Between two attempts to reach a memory node again. */
const AGAIN_MS = 250;

/** What the shards of one store have in common. */
export interface StorePlan {
  readonly nodes: MemoryNodes;
  readonly map: ShardMap;
  /** Of tables that have to be created. */
  readonly sizes: CreateOptions;
  readonly options: OpenOptions;
}

/** The table on one memory node of a store, whether the node can be reached or not. */
export class Shard {
  readonly nodeId: number;
  /** Undefined until the node has been reached. */
  table: Table | undefined;
  readonly #plan: StorePlan;
  #client: PatronusClient | undefined;
  #why: KvError;
  #recovery: Promise<void> | undefined;
  #notBeforeMs = 0;
  #closed = false;

  /** Without a client the node could not be reached. Rejects with BAD_TABLE if the node holds another store's table. */
  static async open(plan: StorePlan, nodeId: number, client: PatronusClient | undefined): Promise<Shard> {
    const shard = new Shard(plan, nodeId);
    if (client !== undefined) await shard.#use(client);
    return shard;
  }

  private constructor(plan: StorePlan, nodeId: number) {
    this.#plan = plan;
    this.nodeId = nodeId;
    this.#why = unreachable(`Memory node ${nodeId} can't be reached`);
  }

  /** What operations get while there is no table. */
  unavailable(): Promise<never> {
    if (this.#closed) return Promise.reject(new KvError(KvErrorCode.CLOSED, 'The store is closed'));
    this.#recover();
    return Promise.reject(this.#why);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#recovery;
    await this.table?.close();
    await this.#client?.close();
  }

  /** Opens the table, or makes it. The client is this shard's from here on. */
  async #use(client: PatronusClient): Promise<void> {
    const old = [this.table, this.#client];
    try {
      this.table = await this.#openOrCreate(client);
      this.#client = client;
    } catch (error) {
      await client.close();
      throw error;
    }
    // What they still have to say goes to memory that is gone.
    for (const object of old) await object?.close().catch(() => undefined);
  }

  async #openOrCreate(client: PatronusClient): Promise<Table> {
    const { map, sizes, options } = this.#plan;
    for (let attempt = 1; ; attempt++) {
      const table = await this.#tryOpen(client, options, attempt === OPEN_ATTEMPTS);
      if (table !== undefined) {
        // Who has but one node takes whatever store is there.
        if (map.nodeIds.length === 1 || sameShardMap(table.context.superblock.map, map)) return table;
        await table.close();
        throw badTable(`memory node ${this.nodeId} belongs to another store`);
      }
      try {
        await createShard(client, map, sizes);
      } catch (error) {
        if (!isBadTable(error)) throw error;
        await pause(OPEN_PAUSE_MS);
      }
    }
  }

  /** Undefined: there is no table. */
  async #tryOpen(client: PatronusClient, options: OpenOptions, last: boolean): Promise<Table | undefined> {
    try {
      return await openShard(client, options, () => this.#recover());
    } catch (error) {
      if (last || !isBadTable(error)) throw error;
      return undefined;
    }
  }

  /**
   * The node could not be used. If only the connection was lost, the table's own client connects again. If the node has
   * started anew, with empty memory, the table that is there then, or a new one, takes the place of the old.
   */
  #recover(): void {
    const now = performance.now();
    if (this.#closed || this.#recovery !== undefined || now < this.#notBeforeMs) return;
    this.#recovery = this.#reach()
      .catch((error: unknown) => {
        if (error instanceof KvError) this.#why = error;
      })
      .finally(() => {
        this.#recovery = undefined;
        this.#notBeforeMs = performance.now() + AGAIN_MS;
      });
  }

  async #reach(): Promise<void> {
    const client = await this.#plan.nodes.connect(this.nodeId);
    const [there] = client.nodes;
    const [known] = this.#client?.nodes ?? [];
    if (known?.incarnation === there!.incarnation) await client.close();
    else await this.#use(client);
  }
}
