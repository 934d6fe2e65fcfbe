import { type Lease, RwFlag } from '../../../patronus/index.js';
import type { Comparison } from '../report.js';
import { type BenchSettings, type Contender, compare } from '../runner.js';
import { expectOk, longLease, rateOf, Sides, withSides } from './sides.js';

/** Operations between two looks at the clock. */
const IN_TURN = 100;
const MESSAGE_PAYLOAD = 32;
/** Long enough for a lease to live until its first extension, short enough for the deadline to stay below 2^53. */
const UNIT_NS = 100e6;

export async function benchAccesses(settings: BenchSettings): Promise<Comparison[]> {
  return withSides([Sides.start({ bypass: true })], async (sides) => {
    const lease = await longLease(sides, 65536);
    return [
      await protection(sides, lease, settings),
      ...(await sidedness(sides, lease, settings)),
      await extension(sides, settings),
    ];
  });
}

/** Reads under a lease against reads with the key of all memory. */
function protection({ client }: Sides, lease: Lease, settings: BenchSettings): Promise<Comparison> {
  const buffer = client.getRdmaBuffer(4096);
  const batch = client.createBatch();
  const single = (name: string, size: number, flags: number): Contender => ({
    name,
    run: (seconds) => rateOf(seconds, IN_TURN, () => client.read(lease, buffer, size, 0, flags)),
  });
  const batched = (name: string, flags: number): Contender => ({
    name,
    run: async (seconds) => {
      const batches = await rateOf(seconds, IN_TURN, () => {
        for (let i = 0; i < 16; i++) expectOk(batch.prepareRead(lease, buffer, 64 * i, 64, 64 * i, flags));
        return batch.commit();
      });
      return 16 * batches;
    },
  });
  const bypass = RwFlag.UseUniversalRkey | RwFlag.NoLocalExpireCheck;
  return compare(
    'reads by one client, without protection and under a lease',
    [
      single('64 B, bypass', 64, bypass),
      single('64 B, lease', 64, 0),
      single('4 KiB, bypass', 4096, bypass),
      single('4 KiB, lease', 4096, 0),
      batched('64 B in batches of 16, bypass', bypass),
      batched('64 B in batches of 16, lease', 0),
    ],
    settings,
  );
}

/** The client's NIC alone against a message to the memory node's thread. */
async function sidedness({ client }: Sides, lease: Lease, settings: BenchSettings): Promise<Comparison[]> {
  const buffer = client.getRdmaBuffer(4096);
  const contender = (name: string, inTurn: number, operate: () => unknown): Contender => ({
    name,
    run: (seconds) => rateOf(seconds, inTurn, operate),
  });
  const comparisons: Comparison[] = [];
  for (const size of [MESSAGE_PAYLOAD, 4096]) {
    comparisons.push(
      await compare(
        `${size} B, one access after the other`,
        [
          contender('two-sided read', 10, () => client.rpcRead(lease, buffer, size, 0)),
          contender('one-sided read', IN_TURN, () => client.read(lease, buffer, size, 0)),
          contender('two-sided write', 10, () => client.rpcWrite(lease, buffer, size, 0)),
          contender('one-sided write', IN_TURN, () => client.write(lease, buffer, size, 0)),
        ],
        settings,
      ),
    );
  }
  return comparisons;
}

async function extension({ client }: Sides, settings: BenchSettings): Promise<Comparison> {
  const contender = (name: string, inTurn: number, extend: (lease: Lease) => unknown): Contender => ({
    name,
    run: async (seconds) => {
      const lease = await client.writeLease({ offset: 0, size: 64, termNs: UNIT_NS });
      const rate = await rateOf(seconds, inTurn, () => extend(lease));
      await lease.relinquish();
      return rate;
    },
  });
  return compare(
    'extensions, one after the other',
    [
      contender('by message', 10, (lease) => client.rpcExtend(lease, UNIT_NS)),
      contender('one-sided', IN_TURN, (lease) => client.extend(lease, UNIT_NS)),
    ],
    settings,
  );
}
