import { expect, test } from 'vitest';
import { RemoteClock } from '../../../patronus/time/remote-clock.js';
import { Synchronisation } from '../../../patronus/time/synchronisation.js';
import { random } from '../random.js';
import { SimClock, World } from './world.js';

const DRIFT_PPM = 1200;
/** Each of the two clocks, from true time. */
const RATE_PPM = 590;
const INTERVAL_NS = 100e6;
const LEASES = 25_000;

interface Scenario {
  /** Of 1, per lease. */
  readonly steers: number;
  readonly jumps: number;
  readonly stalls: number;
}

const SCENARIOS: Record<string, Scenario> = {
  'skewed clocks': { steers: 0, jumps: 0, stalls: 0 },
  'clocks that drift, back and forth': { steers: 0.3, jumps: 0, stalls: 0 },
  'steps that stall, of either side': { steers: 0.05, jumps: 0, stalls: 0.1 },
  'clocks that jump': { steers: 0.05, jumps: 0.01, stalls: 0.05 },
};

/**
 * A lease is revoked when the node's clock reaches its deadline. No client may hold it for live after that, except
 * between a jump that makes it late and the end of the first round that began after the jump.
 */
test.each(Object.entries(SCENARIOS))('%s: no lease is believed in after its end', async (name, scenario) => {
  for (const seed of [1, 2]) {
    const next = random(seed);
    const ppm = () => (2 * next() - 1) * RATE_PPM;
    const node = new SimClock(next() * 1e15, ppm());
    const client = new SimClock(next() * 1e15, ppm());
    const world = new World({ random: next, node, client, stalls: scenario.stalls });
    const clock = new RemoteClock(world.clientNow, DRIFT_PPM);
    const options = { driftPpm: DRIFT_PPM, intervalMs: 0 };
    const synchronisation = new Synchronisation(clock, world, world.clientNow, options);
    expect(clock.latest()).toBe(Number.POSITIVE_INFINITY);
    expect(await synchronisation.settle()).toBe(true);

    let trusted = true;
    let roundAt = world.time;
    const seen = { believed: 0, live: 0, revoked: 0, untrusted: 0 };
    for (let lease = 0; lease < LEASES / 2; lease++) {
      world.pass();
      const deadline = node.at(world.time) + 10e3 * 10 ** (3.7 * next());
      world.pass();
      for (let look = 0; look < 4; look++) {
        if (next() < scenario.steers) (next() < 0.5 ? node : client).steer(world.time, ppm());
        if (next() < scenario.jumps) {
          const by = (2 * next() - 1) * 10 ** (3 + 5 * next());
          (next() < 0.5 ? node : client).jump(by);
          trusted = false;
        }
        const left = deadline - node.at(world.time);
        // Often just around the deadline, where it counts.
        world.time += next() < 0.5 ? next() * 2e5 : Math.max(0, left + (next() - 0.5) * 4e4);
        const believed = clock.latest() < deadline;
        const revoked = node.at(world.time) >= deadline;
        if (!trusted) seen.untrusted++;
        else if (believed && revoked) {
          const late = node.at(world.time) - deadline;
          expect.fail(`${name}, seed ${seed}, lease ${lease}: believed in ${late} ns after its end`);
        }
        seen[revoked ? 'revoked' : 'live']++;
        if (believed) seen.believed++;
        // Nor is one given up earlier than the uncertainty asks for.
        const early = deadline - node.at(world.time);
        if (trusted && !believed && early > 2 * clock.epsilonNs() + 1) {
          expect.fail(`${name}, seed ${seed}, lease ${lease}: given up ${early} ns before its end`);
        }
      }
      if (world.time - roundAt > INTERVAL_NS) {
        roundAt = world.time;
        if (await synchronisation.round()) trusted = true;
      }
    }
    expect(seen.live).toBeGreaterThan(1000);
    expect(seen.revoked).toBeGreaterThan(1000);
    expect(seen.believed).toBeGreaterThan(1000);
    expect(seen.untrusted > 0).toBe(scenario.jumps > 0);
  }
});
