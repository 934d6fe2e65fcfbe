/** What operations take of the JavaScript heap, beside an await of a promise that is there already. */
import { afterAll, expect, test } from 'vitest';
import { openEmbedded } from '../../kv/index.js';
import { bytesOf } from './random.js';

const WARM_UP = 30_000;
const SAMPLES = 15;
const PER_SAMPLE = 1000;
const ATTEMPTS = 5;

const kv = await openEmbedded({ memoryBytes: 32 * 1024 * 1024 });
afterAll(() => kv.close());
const keys = Array.from({ length: 1000 }, (_, i) => bytesOf(`key ${i}`));
const value = new Uint8Array(64).fill(7);
await kv.putMany(keys.map((key) => ({ key, value })));
let next = 0;
const key = () => keys[next++ % keys.length]!;

async function median(operation: () => Promise<unknown>): Promise<number> {
  const bytes: number[] = [];
  for (let sample = 0; sample < SAMPLES; sample++) {
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < PER_SAMPLE; i++) await operation();
    bytes.push((process.memoryUsage().heapUsed - before) / PER_SAMPLE);
  }
  // A collection in the middle of a sample makes that one small, and the compiler another one large.
  return bytes.sort((a, b) => a - b)[SAMPLES >> 1]!;
}

test.each([
  // A promise more than the other await has, at times; an operation's own objects are several hundred bytes.
  ['has', () => kv.has(key()), 96],
  ['get: a view of the value', () => kv.get(key()), 224],
  ['put: a result with a version', () => kv.put(key(), value), 700],
] as const)('%s', async (_name, operation, most) => {
  for (let i = 0; i < WARM_UP; i++) await operation();
  let least = Number.POSITIVE_INFINITY;
  // What the compiler, on a busy machine, has not come to yet allocates.
  for (let attempt = 0; attempt < ATTEMPTS && !(least < most); attempt++) {
    least = Math.min(least, (await median(operation)) - (await median(() => Promise.resolve(undefined))));
  }
  expect(least).toBeLessThan(most);
});
