import { type Lease, RetCode } from '../../../patronus/index.js';
import { type Comparison, median } from '../report.js';
import { type BenchSettings, type Contender, compare } from '../runner.js';
import { expectOk, longLease, Sides, withSides } from './sides.js';

const SIZE = 64;

/** From a refused access to the end of the next one: the queue pair broken meanwhile, with and without a spare for it. */
export function benchRecovery(settings: BenchSettings): Promise<Comparison> {
  return withSides([Sides.start({}, { spares: 0 }), Sides.start({}, { spares: 1 })], async (slow, fast) => {
    const contenders = [await contender('slow: rebuilt', slow), await contender('fast: a spare', fast)];
    return compare('recoveries per second, one at a time', contenders, settings);
  });
}

async function contender(name: string, sides: Sides): Promise<Contender> {
  const lease = await longLease(sides, SIZE);
  return {
    name,
    run: async (seconds) => {
      const takenNs: number[] = [];
      const endMs = performance.now() + seconds * 1000;
      while (performance.now() < endMs) {
        takenNs.push(await recover(sides, lease));
        // The spare is on its way back: wait for it, as faults come one at a time.
        await sides.client.reinitialise();
      }
      return 1e9 / median(takenNs);
    },
  };
}

async function recover({ client }: Sides, lease: Lease): Promise<number> {
  const buffer = client.getRdmaBuffer(SIZE);
  const begun = client.now();
  const refused = await client.read(lease, buffer, SIZE, SIZE);
  expectOk(await client.read(lease, buffer, SIZE, 0));
  const took = client.now() - begun;
  client.putRdmaBuffer(buffer);
  if (refused !== RetCode.RdmaProtectionErr) throw new Error(`a bad access ended with status ${refused}`);
  return took;
}
