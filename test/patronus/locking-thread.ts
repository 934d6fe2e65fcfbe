/** Takes a lock and does not give it back. */
import { parentPort, workerData } from 'node:worker_threads';
import { AcquireFlag, type NodeEndpoint, Patronus } from '../../patronus/index.js';

const { endpoint, lockKey } = workerData as { endpoint: NodeEndpoint; lockKey: number };
const client = await Patronus.connect({ nodes: [endpoint] });
const flags = AcquireFlag.WithConflictDetect | AcquireFlag.NoGc;
await client.writeLease({ offset: 0, size: 64, termNs: 1, flags, lockKey });
parentPort!.postMessage('locked');
setInterval(() => {}, 1000);
