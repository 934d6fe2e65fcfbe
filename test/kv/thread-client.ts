import { parentPort, workerData } from 'node:worker_threads';
import { openTable } from '../../kv/index.js';
import { Patronus } from '../../patronus/index.js';
import { pick, seeded } from './random.js';
import { type Kind, type Observation, observe } from './recorder.js';

/** One client of the test of threads: random operations on a few keys until each has its share; answers with what it saw. */
const { endpoint, seed, rounds, operations } = workerData;
const KINDS: readonly Kind[] = ['get', 'get', 'put', 'put', 'putIfAbsent', 'del'];

const random = seeded(seed);
const client = await Patronus.connect({ nodes: [endpoint] });
const kv = await openTable(client);
const observations: Observation[] = [];
const clock = () => Number(process.hrtime.bigint());
parentPort!.postMessage('ready');
await new Promise((resolve) => parentPort!.once('message', resolve));
for (let round = 0; round < rounds; round++) {
  for (let i = 0; i < operations; i++) {
    observations.push(
      await observe(kv, clock, {
        key: `key ${round}`,
        kind: pick(random, KINDS),
        value: `${seed}.${round}.${i}`,
      }),
    );
  }
}
await kv.close();
await client.close();
parentPort!.postMessage(observations);
parentPort!.close();
