import { parentPort, workerData } from 'node:worker_threads';
import { openTable } from '../../kv/index.js';
import { Patronus } from '../../patronus/index.js';
import { bytesOf, seeded } from './random.js';

/**
 * One client of the test of clients that are killed: puts its own keys, each a few times, and tells of each put that has
 * ended. It goes on until it is killed, or has done `count`.
 */
const { endpoint, seed, count } = workerData;
const random = seeded(seed);
const client = await Patronus.connect({ nodes: [endpoint] });
const kv = await openTable(client);
parentPort!.postMessage('ready');
for (let i = 0; i < count; i++) {
  const again = i > 0 && random() < 0.3;
  const name = `key ${seed}.${again ? Math.floor(random() * i) : i}`;
  await kv.put(bytesOf(name), bytesOf(`${i}`));
  parentPort!.postMessage([name, `${i}`]);
  // Others get their turn in the middle of what this one does.
  if (i % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
}
await kv.close();
await client.close();
parentPort!.close();
