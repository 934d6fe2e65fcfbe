import { setTimeout as pause } from 'node:timers/promises';
import { type Keeper, memcachedKeeper, Patronus, type PatronusClient } from '../patronus/index.js';
import { type Kv, KvError, KvErrorCode, type OpenOptions, type RemoteOptions } from './api.js';
import { createTable } from './create.js';
import { OwningKv } from './embedded.js';
import { openTable } from './table.js';

/** Another process may be creating the table. */
const OPEN_ATTEMPTS = 20;
const PAUSE_MS = 100;

/**
 * A store in a memory node of another process, which several processes can open at once; the first one makes the table. The
 * node lets its clients share what they allocate: its policy is `open`. close() leaves the store as it is.
 * Rejects with the PatronusError of what is not there: the node, or memcached.
 */
export async function openRemote(options: RemoteOptions): Promise<Kv> {
  const { memoryNode, memcached, cluster } = options;
  if ((memoryNode === undefined) === (memcached === undefined)) {
    throw new TypeError('one of memoryNode and memcached says where the memory is');
  }
  let keeper: Keeper | undefined;
  let client: PatronusClient | undefined;
  try {
    if (memcached !== undefined)
      keeper = memcachedKeeper(memcached, cluster === undefined ? {} : { cluster });
    client = await Patronus.connect(keeper === undefined ? { endpoints: [memoryNode!] } : { keeper });
    const table = await openOrCreate(client, options);
    return new OwningKv(table, keeper === undefined ? [client] : [client, keeper]);
  } catch (error) {
    await client?.close();
    await keeper?.close();
    throw error;
  }
}

async function openOrCreate(client: PatronusClient, options: OpenOptions): Promise<Kv> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await openTable(client, options);
    } catch (error) {
      if (!badTable(error) || attempt === OPEN_ATTEMPTS) throw error;
    }
    try {
      await createTable(client);
    } catch (error) {
      if (!badTable(error)) throw error;
      await pause(PAUSE_MS);
    }
  }
}

function badTable(error: unknown): boolean {
  return error instanceof KvError && error.code === KvErrorCode.BAD_TABLE;
}
