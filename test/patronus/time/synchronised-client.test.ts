import { expect, test } from 'vitest';
import { Patronus, PatronusNode } from '../../../patronus/index.js';

const LONG_NS = 60e9;

test('a client whose clock is years off keeps to the terms of the node', async () => {
  await using node = await PatronusNode.start();
  for (const skew of [1e17, -1e6]) {
    let rate = 1;
    const origin = Number(process.hrtime.bigint());
    const now = () => (Number(process.hrtime.bigint()) - origin) * rate + origin + skew;
    const time = { synchronise: true, driftPpm: 1200, intervalMs: 5, now };
    await using client = await Patronus.connect({ nodes: [node.endpoint], time });
    expect(client.epsilonNs).toBeGreaterThan(0);
    expect(client.epsilonNs).toBeLessThan(1e9);

    const long = await client.writeLease({ offset: 0, size: 8, termNs: LONG_NS });
    expect(long.live).toBe(true);
    expect(await long.faa(0, 1n)).toBeTypeOf('bigint');
    const short = await client.writeLease({ offset: 0, size: 8, termNs: 30e6 });
    while (short.live) await new Promise((resolve) => setImmediate(resolve));
    await expect(short.read(0, 8)).rejects.toMatchObject({ code: 'ERR_PATRONUS_LEASE_EXPIRED' });
    // The own clock goes back: nothing is known until it has been compared again.
    const jumped = now();
    rate = 0.5;
    expect(now()).toBeLessThan(jumped);
    expect(long.live).toBe(false);
    rate = 1;
    while (!long.live) await new Promise((resolve) => setTimeout(resolve, 1));
    await long.relinquish();
  }
});

test('clients and nodes of one host read the same clock', async () => {
  await using node = await PatronusNode.start();
  await using exact = await Patronus.connect({ nodes: [node.endpoint] });
  await using careful = await Patronus.connect({ nodes: [node.endpoint], time: { epsilonNs: 50e9 } });
  expect([exact.epsilonNs, careful.epsilonNs]).toEqual([0, 50e9]);
  const request = { offset: 0, size: 8, termNs: 40e9 };
  expect((await exact.readLease(request)).live).toBe(true);
  expect((await careful.readLease(request)).live).toBe(false);
});
