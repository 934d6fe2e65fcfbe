import { memcachedKeeper } from '../patronus/index.js';
import type { Kv, RemoteOptions } from './api.js';
import { MemoryNodes } from './memory-nodes.js';
import { openStore } from './store.js';

/**
 * A store in memory nodes of other processes, which several processes can open at once; the first one makes it, over all the
 * nodes that there are then. The nodes let their clients share what they allocate: their policy is `open`. close() leaves
 * the store as it is. Rejects with the PatronusError of what is not there: every node, or memcached.
 */
export async function openRemote(options: RemoteOptions): Promise<Kv> {
  const { memoryNode, memcached, cluster, maxValueBytes } = options;
  const sizes = maxValueBytes === undefined ? {} : { maxValueBytes };
  if ((memoryNode === undefined) === (memcached === undefined)) {
    throw new TypeError('one of memoryNode and memcached says where the memory is');
  }
  if (memoryNode !== undefined) {
    const addresses = typeof memoryNode === 'string' ? [memoryNode] : memoryNode;
    if (addresses.length === 0) throw new TypeError('at least one memory node must be named');
    return openStore(MemoryNodes.at(addresses.map((address) => ({ address }))), options, [], sizes);
  }
  const keeper = memcachedKeeper(memcached!, cluster === undefined ? {} : { cluster });
  try {
    return await openStore(MemoryNodes.of(keeper), options, [keeper], sizes);
  } catch (error) {
    await keeper.close();
    throw error;
  }
}
