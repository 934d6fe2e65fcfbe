/**
 * Two hosts: two virtual machines with Soft-RoCE on one network, a memory node and memcached on one, a client on the
 * other (test/guest/inside/cluster.ts). Each is killed and another one takes its place. Takes minutes of processor time, so
 * it runs when asked for only: npm run test:two-guests.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { buildGuest, Guest } from './guest.js';

const LIMIT_MS = 900_000;
const NODE = '10.0.0.1';
const CLIENT = '10.0.0.2';

const wanted = process.env.TWO_GUESTS === '1';
const built = wanted ? await buildGuest() : undefined;
const missing = wanted ? built!.unavailable : 'takes minutes; npm run test:two-guests runs it';

describe.runIf(missing !== undefined)('two guests', () => {
  test('are not booted', ({ skip }) => {
    process.stdout.write(`two Soft-RoCE guests: skipped: ${missing}\n`);
    skip(missing);
  });
});

describe.runIf(missing === undefined)('two guests', () => {
  const network = mkdtempSync(join(tmpdir(), 'guests-'));
  const guests: Guest[] = [];

  /** Ethernet frames go as datagrams from one socket to the other; while nobody is there they are lost. */
  function boot(part: string, address: string): Guest {
    const [own, other] = [address, address === NODE ? CLIENT : NODE].map((name) => join(network, name));
    const wire = `dgram,id=wire,local.type=unix,local.path=${own},remote.type=unix,remote.path=${other}`;
    const device = `virtio-net-pci,netdev=wire,mac=52:54:00:00:00:0${address.at(-1)}`;
    rmSync(own!, { force: true });
    const guest = new Guest([part, address, '-netdev', wire, '-device', device], LIMIT_MS);
    guests.push(guest);
    return guest;
  }

  function reportResults(guest: Guest): void {
    for (const { title, status, ms } of guest.results)
      process.stdout.write(`${title}: ${status}, ${ms} ms\n`);
  }

  afterAll(async () => {
    for (const guest of guests) await guest.kill();
    rmSync(network, { recursive: true });
  });

  test(
    'leases work between hosts, and each side outlives the other',
    async () => {
      expect(built).toMatchObject({ code: 0 });
      let node = boot('cluster-node', NODE);
      const client = boot('cluster-client', CLIENT);

      await client.reaches('node is to be killed');
      await node.reaches('1 connections, 3 leases');
      await node.kill();
      await client.reaches('node is to come back');
      node = boot('cluster-node', NODE);

      await client.reaches('client is to be killed');
      await node.reaches('1 connections, 2 leases');
      const before = node.lineCount;
      await client.kill();
      reportResults(client);
      expect(client.results.filter(({ status }) => status !== 'passed')).toEqual([]);
      expect(client.results).toHaveLength(7);

      // Its leases and its connection end although it never said that it goes.
      await node.reaches('0 connections, 0 leases', before);
      const heir = boot('cluster-heir', CLIENT);
      await heir.ended;
      reportResults(heir);
      expect(heir.messages).toMatch(/^guest-end 0$/m);
      expect(heir.results).toHaveLength(1);
      await node.kill();
      for (const { messages } of guests) expect(messages).not.toMatch(/Kernel panic|BUG:|Oops|guest-end 1/);
    },
    LIMIT_MS,
  );
});
