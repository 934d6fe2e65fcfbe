/** Acquires, uses and relinquishes leases until it is terminated, some in time and some not. */
import { parentPort, workerData } from 'node:worker_threads';
import { type NodeEndpoint, Patronus } from '../../patronus/index.js';
import { random } from './random.js';

const { endpoint, id, seed } = workerData as { endpoint: NodeEndpoint; id: number; seed: number };
const next = random(seed * 3 + id);
const client = await Patronus.connect({ nodes: [endpoint] });
parentPort!.postMessage('connected');
for (;;) {
  const lease = await client.writeLease({
    offset: id * 64,
    size: 64,
    termNs: 5e6 + Math.floor(next() * 1e8),
  });
  await lease.faa(0, 1n).catch(() => undefined);
  // Outside: breaks a queue pair.
  if (next() < 0.1) await lease.read(64, 8).catch(() => undefined);
  if (next() < 0.9) await lease.relinquish().catch(() => undefined);
}
