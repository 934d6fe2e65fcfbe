import { workerData } from 'node:worker_threads';
import { openTable } from '../../kv/index.js';
import { type NodeEndpoint, Patronus } from '../../patronus/index.js';
import { bytesOf } from './random.js';

/** A writer of its own thread: it puts values of these sizes, one after the other; each is full of the last byte of its size. */
const { endpoint, sizes } = workerData as { endpoint: NodeEndpoint; sizes: readonly number[] };

await using client = await Patronus.connect({ nodes: [endpoint] });
await using kv = await openTable(client);
for (const size of sizes) await kv.put(bytesOf('large'), new Uint8Array(size).fill(size));
