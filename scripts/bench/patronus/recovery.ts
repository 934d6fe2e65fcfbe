import { type Lease, type Patronus, RetCode } from '../../../patronus/index.js';
import { type Comparison, median } from '../report.js';
import { type BenchSettings, type Contender, compare } from '../runner.js';
import { OneThread } from './one-thread.js';
import { expectOk, Sides, withSides } from './sides.js';

const SIZE = 64;
const TERM_NS = 3600e9;

/** From a refused access to the end of the next one: the queue pair broken meanwhile, with and without a spare for it. */
export async function benchRecovery(settings: BenchSettings): Promise<Comparison[]> {
  const threads = await withSides(
    [Sides.start({}, { spares: 0 }), Sides.start({}, { spares: 1 })],
    (slow, fast) =>
      compareRecoveries('recoveries per second, one at a time', slow.client, fast.client, settings),
  );
  const sides = [await OneThread.start({ spares: 0 }), await OneThread.start({ spares: 1 })] as const;
  try {
    const title = 'the same with the memory node on the same thread, in turns: nobody waits for a processor';
    return [threads, await compareRecoveries(title, sides[0].client, sides[1].client, settings)];
  } finally {
    for (const side of sides) await side.close();
  }
}

async function compareRecoveries(
  title: string,
  slow: Patronus,
  fast: Patronus,
  settings: BenchSettings,
): Promise<Comparison> {
  const contenders = [await contender('slow: rebuilt', slow), await contender('fast: a spare', fast)];
  return compare(title, contenders, settings);
}

async function contender(name: string, client: Patronus): Promise<Contender> {
  const lease = await client.writeLease({ offset: 0, size: SIZE, termNs: TERM_NS });
  return {
    name,
    run: async (seconds) => {
      const takenNs: number[] = [];
      const endMs = performance.now() + seconds * 1000;
      while (performance.now() < endMs) {
        takenNs.push(await recover(client, lease));
        // The spare is on its way back: wait for it, as faults come one at a time.
        await client.reinitialise();
      }
      return 1e9 / median(takenNs);
    },
  };
}

async function recover(client: Patronus, lease: Lease): Promise<number> {
  const buffer = client.getRdmaBuffer(SIZE);
  const begun = client.now();
  const refused = await client.read(lease, buffer, SIZE, SIZE);
  expectOk(await client.read(lease, buffer, SIZE, 0));
  const took = client.now() - begun;
  client.putRdmaBuffer(buffer);
  if (refused !== RetCode.RdmaProtectionErr) throw new Error(`a bad access ended with status ${refused}`);
  return took;
}
