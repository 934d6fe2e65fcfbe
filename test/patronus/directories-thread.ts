/** Allocates all spans of a node under leases of as many, takes a lock, and waits for its end. */
import { parentPort, workerData } from 'node:worker_threads';
import { AcquireFlag, Patronus } from '../../patronus/index.js';

const { address, spans } = workerData as { address: string; spans: number };
const client = await Patronus.connect({ endpoints: [address] });
for (let i = 0; i < spans; i++) {
  const lock = i === spans - 1 ? AcquireFlag.WithConflictDetect : 0;
  const flags = AcquireFlag.WithAllocation | AcquireFlag.NoGc | lock;
  await client.writeLease({ size: 65536, termNs: 1, flags, ...(lock === 0 ? {} : { lockKey: 5 }) });
}
parentPort!.postMessage('done');
setInterval(() => {}, 1000);
