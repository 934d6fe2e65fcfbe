import { describe, expect, test } from 'vitest';
import { ClockBounds } from '../../../patronus/time/clock-bounds.js';
import { PageReadings } from '../../../patronus/time/page-readings.js';
import { HostClock, RemoteClock } from '../../../patronus/time/remote-clock.js';
import { Synchronisation } from '../../../patronus/time/synchronisation.js';
import { CLOCK_PAGE_BYTES, ClockWord, pageClock } from '../../../patronus/wire/clock-page.js';
import { random } from '../random.js';
import { SimClock, World } from './world.js';

describe('bounds', () => {
  test('of one sample are as wide as its round trip', () => {
    const bounds = new ClockBounds(0);
    expect(bounds.latest(0)).toBe(Number.POSITIVE_INFINITY);
    expect(bounds.narrow(100, 140, 1100)).toBe(true);
    expect([bounds.earliest(140), bounds.latest(140)]).toEqual([1100, 1140]);
    expect(bounds.offsetNs).toBe(980);
    expect(bounds.epsilonNs(140)).toBe(20);
  });

  test('intersect, and grow with the drift', () => {
    const bounds = new ClockBounds(1000);
    bounds.narrow(0, 0, 500);
    expect(bounds.latest(10_000)).toBe(10_510);
    expect(bounds.earliest(10_000)).toBe(10_490);
    expect(bounds.narrow(10_000, 10_000, 10_505)).toBe(true);
    expect(bounds.epsilonNs(10_000)).toBe(0);
    // Backwards in local time they are as uncertain.
    expect(bounds.latest(9000)).toBe(9506);
  });

  test('take nothing that contradicts them', () => {
    const bounds = new ClockBounds(0);
    bounds.narrow(100, 110, 1000);
    expect(bounds.narrow(200, 210, 2000)).toBe(false);
    expect(bounds.narrow(210, 200, 1095)).toBe(false);
    expect(bounds.narrow(90, 95, 985)).toBe(false);
    expect(bounds.narrow(200, 210, Number.NaN)).toBe(false);
    expect([bounds.low, bounds.high, bounds.at]).toEqual([890, 900, 110]);
  });

  test.each([-1, 1e6, Number.NaN])('a drift of %s millionths is an error', (drift) => {
    expect(() => new ClockBounds(drift)).toThrow(RangeError);
  });
});

describe('readings of a page', () => {
  test('are samples once two newer values were written meanwhile', () => {
    const readings = new PageReadings();
    expect(readings.take(10, 5)).toBe(false);
    expect(readings.take(20, 6)).toBe(false);
    // 7 was taken after 6 was written, and 5 was still the newest at 10.
    expect(readings.take(30, 7)).toBe(true);
    expect(readings.before).toBe(10);
    expect(readings.take(40, 7)).toBe(false);
    expect(readings.take(50, 9)).toBe(true);
    expect(readings.before).toBe(40);
  });

  test('of a page that nobody writes any more are none', () => {
    const readings = new PageReadings();
    for (let began = 0; began < 10; began++) expect(readings.take(began, 3)).toBe(false);
    expect(readings.take(10, 4)).toBe(false);
  });

  test('of a page that began anew do not mix with the old ones', () => {
    const readings = new PageReadings();
    readings.take(0, 100);
    readings.take(1, 103);
    expect(readings.take(2, 1)).toBe(false);
    expect(readings.take(3, 2)).toBe(false);
    expect(readings.take(4, 3)).toBe(true);
    expect(readings.before).toBe(2);
  });

  test('that met the writer are seen', () => {
    const words = new Uint32Array(CLOCK_PAGE_BYTES / 4);
    expect(pageClock(words)).toBeNaN();
    words.set([7, 1], ClockWord.CLOCK);
    words.set([7, 1], ClockWord.COPY);
    words[ClockWord.NUMBER] = 1;
    expect(pageClock(words)).toBe(2 ** 32 + 7);
    words[ClockWord.COPY] = 8;
    expect(pageClock(words)).toBeNaN();
    // No clock shows that.
    words.set([7, 0xffffffff], ClockWord.CLOCK);
    words.set([7, 0xffffffff], ClockWord.COPY);
    expect(pageClock(words)).toBeNaN();
  });
});

describe('the clock of a node', () => {
  test('of this host is the own one, with the error that was allowed for', () => {
    const clock = new HostClock(() => 1000, 50);
    expect([clock.latest(), clock.epsilonNs()]).toEqual([1050, 50]);
    expect(() => new HostClock(() => 0, -1)).toThrow(RangeError);
  });

  test('is not known any more when the own one goes back', () => {
    let now = 1000;
    const clock = new RemoteClock(() => now, 100);
    const round = new ClockBounds(100);
    round.narrow(900, 1000, 5000);
    clock.adopt(round);
    now = 2000;
    expect(clock.latest()).toBeLessThan(6200);
    now = 1999;
    expect(clock.latest()).toBe(Number.POSITIVE_INFINITY);
    expect(clock.jumps).toBe(1);
    now = 3000;
    expect(clock.latest()).toBe(Number.POSITIVE_INFINITY);
    const another = new ClockBounds(100);
    another.narrow(2990, 3000, 7090);
    clock.adopt(another);
    expect(clock.latest()).toBe(7100 + 0.001);
  });
});

describe('synchronisation', () => {
  const world = (stalls: number, seed = 3) =>
    new World({ random: random(seed), node: new SimClock(5e9, 20), client: new SimClock(7e12, -20), stalls });

  const synchronise = (source: World) => {
    const clock = new RemoteClock(source.clientNow, 100);
    return {
      clock,
      synchronisation: new Synchronisation(clock, source, source.clientNow, { driftPpm: 100, intervalMs: 0 }),
    };
  };

  test('settles on the other clock', async () => {
    const source = world(0);
    const { clock, synchronisation } = synchronise(source);
    expect(await synchronisation.settle()).toBe(true);
    expect(Math.abs(clock.estimate() - source.node.at(source.time))).toBeLessThan(clock.epsilonNs());
    expect(clock.epsilonNs()).toBeLessThan(10_000);
  });

  test('asks for a longer look where the way is slow', async () => {
    const source = world(1);
    const asked: number[] = [];
    const publish = source.publish.bind(source);
    source.publish = (durationNs) => {
      asked.push(durationNs);
      return publish(durationNs);
    };
    const { clock, synchronisation } = synchronise(source);
    expect(await synchronisation.settle()).toBe(true);
    expect(Math.max(...asked)).toBeGreaterThan(200e3);
    expect(Math.max(...asked)).toBeLessThanOrEqual(10e6);
    expect(clock.latest()).toBeGreaterThanOrEqual(source.node.at(source.time));
  });

  test('says so where there is no clock to read', async () => {
    const source = world(0);
    source.read = () => undefined;
    const { clock, synchronisation } = synchronise(source);
    expect(await synchronisation.settle()).toBe(false);
    expect(clock.latest()).toBe(Number.POSITIVE_INFINITY);
  });
});
