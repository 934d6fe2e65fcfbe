import { PatronusNode } from '../patronus/index.js';
import type { EmbeddedOptions, Kv } from './api.js';
import { MemoryNodes } from './memory-nodes.js';
import { openStore } from './store.js';

const DEFAULT_MEMORY_BYTES = 256 * 1024 * 1024;
const MIN_MEMORY_BYTES = 4 * 1024 * 1024;
const MAX_NODES = 16;
const PIECE_BYTES = 64 * 1024;
/** For the superblock; so much that the allocation buffer follows without a gap. */
const LEASE_BYTES = 64 * 1024;

/**
 * A store with memory nodes of its own in this process. Its close() closes them too: what was stored is gone then.
 */
export async function openEmbedded(options: EmbeddedOptions = {}): Promise<Kv> {
  const { memoryNodes = 1, memoryBytes = DEFAULT_MEMORY_BYTES, maxValueBytes } = options;
  if (!Number.isInteger(memoryNodes) || memoryNodes < 1 || memoryNodes > MAX_NODES) {
    throw new RangeError(`memoryNodes must be an integer from 1 to ${MAX_NODES}, not ${memoryNodes}`);
  }
  const least = memoryNodes * MIN_MEMORY_BYTES;
  if (!Number.isSafeInteger(memoryBytes) || memoryBytes < least) {
    throw new RangeError(`memoryBytes must be an integer from ${least}, not ${memoryBytes}`);
  }
  const share =
    memoryNodes === 1 ? memoryBytes : Math.floor(memoryBytes / memoryNodes / PIECE_BYTES) * PIECE_BYTES;
  const nodes: PatronusNode[] = [];
  try {
    for (let nodeId = 0; nodeId < memoryNodes; nodeId++) {
      nodes.push(
        await PatronusNode.start({
          nodeId,
          leaseBytes: LEASE_BYTES,
          allocBytes: share - LEASE_BYTES,
          bypass: options.protection === 'none',
        }),
      );
    }
    const sizes = maxValueBytes === undefined ? {} : { maxValueBytes };
    return await openStore(MemoryNodes.at(nodes.map(({ endpoint }) => endpoint)), options, nodes, sizes);
  } catch (error) {
    for (const node of nodes) await node.close();
    throw error;
  }
}
