import { openEmbedded } from '../../kv/index.js';
import type { Comparison } from './report.js';
import { type BenchSettings, type Contender, compare } from './runner.js';

const RECORDS = 100_000;
const VALUE_BYTES = 100;
/** Operations between two looks at the clock and turns of the event loop. */
const BATCH = 1000;

/**
 * The embedded store beside a JavaScript Map with the same data, both on this thread, one operation after the other in
 * the same loop. The Map's keys are strings, as a Map does not compare bytes, and made beforehand; its put copies the
 * value, as the store's does.
 */
export async function benchKv(settings: BenchSettings): Promise<Comparison[]> {
  const value = Buffer.alloc(VALUE_BYTES, 'v');
  const names = shuffled(Array.from({ length: RECORDS }, (_, i) => `user${String(i).padStart(12, '0')}`));
  const keys = names.map((name) => Uint8Array.from(Buffer.from(name)));
  const map = new Map(names.map((name) => [name, Uint8Array.from(value)]));
  const kv = await openEmbedded();
  try {
    for (const key of keys) await kv.put(key, value);
    const check = (got: Uint8Array | undefined): void => {
      if (got?.length !== VALUE_BYTES) throw new Error('a value is not as it was put');
    };
    const get = await compare(
      `kv get, embedded, one thread, ${VALUE_BYTES} B values, ${RECORDS} records`,
      [
        contender('Map', (i) => map.get(names[i]!), check),
        contender('patronus-kv', (i) => kv.get(keys[i]!), check),
      ],
      settings,
    );
    const put = await compare(
      `kv put, embedded, one thread, ${VALUE_BYTES} B values, ${RECORDS} records`,
      [
        contender('Map', (i) => map.set(names[i]!, Uint8Array.from(value)), ignore),
        contender('patronus-kv', (i) => kv.put(keys[i]!, value), ignore),
      ],
      settings,
    );
    return [get, put];
  } finally {
    await kv.close();
  }
}

function ignore(): void {}

function contender<T>(
  name: string,
  operate: (i: number) => T | Promise<T>,
  check: (result: T) => void,
): Contender {
  let at = 0;
  return {
    name,
    run: async (seconds) => {
      const startMs = performance.now();
      const endMs = startMs + seconds * 1000;
      let operations = 0;
      let nowMs = startMs;
      while (nowMs < endMs) {
        for (let i = 0; i < BATCH; i += 1) {
          check(await operate(at));
          at = at + 1 === RECORDS ? 0 : at + 1;
        }
        operations += BATCH;
        await new Promise((resolve) => setImmediate(resolve));
        nowMs = performance.now();
      }
      return (operations * 1000) / (nowMs - startMs);
    },
  };
}

/** Fisher and Yates, with a generator of its own so that every run has the same order. */
function shuffled<T>(items: T[]): T[] {
  let state = 1;
  for (let i = items.length - 1; i > 0; i -= 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((state / 2 ** 32) * (i + 1));
    [items[i], items[j]] = [items[j]!, items[i]!];
  }
  return items;
}
