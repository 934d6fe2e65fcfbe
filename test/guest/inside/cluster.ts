/**
 * The parts of two guests on one network: a memory node and memcached on one, a client on the other. two-guests.test.ts
 * boots them, kills them when they say that it is time, and boots others in their place.
 */
import { spawn } from 'node:child_process';
import { writeSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import {
  AcquireFlag,
  AcquireStatus,
  type Lease,
  memcachedKeeper,
  Patronus,
  PatronusErrorCode,
  PatronusNode,
  type RdmaBuffer,
  RetCode,
  RwFlag,
} from '../../../patronus/index.js';

/** Of the guest with the memory node. */
const HOST = '10.0.0.1';
const MEMCACHED_PORT = 11_211;
const LONG_NS = 600e9;
const LOCK_KEY = 77;
/** For what waits for another guest to boot. */
const BOOT_MS = 300_000;
/** What clients see while their node is away. */
const AWAY: readonly unknown[] = [
  PatronusErrorCode.CONNECT,
  PatronusErrorCode.DISCONNECTED,
  PatronusErrorCode.KEEPER_UNAVAILABLE,
  PatronusErrorCode.TIMEOUT,
];

/** A line that begins with this tells the host what has been reached. */
export const REACHED = '@reached ';

function reached(what: string): void {
  writeSync(1, `${REACHED}${what}\n`);
}

function keeperOfCluster() {
  return memcachedKeeper(`${HOST}:${MEMCACHED_PORT}`, { expirySeconds: 4 });
}

/** A memory node and memcached; until its guest is killed it says how many clients and leases there are. */
export async function clusterNode(): Promise<void> {
  spawn(
    'memcached',
    ['-u', 'root', '-l', HOST, '-p', `${MEMCACHED_PORT}`, '-U', '0', '-t', '1', '-m', '16'],
    {
      stdio: 'inherit',
    },
  );
  await untilIt(listens);
  const node = await PatronusNode.start({
    nodeId: 1,
    listen: `ib:${HOST}:7471`,
    allowUnboundedWindows: true,
    allocBytes: 8 * 2 ** 20,
    maxLeases: 1024,
    maxClients: 4,
    keeper: keeperOfCluster(),
  });
  reached('node');
  for (let said = ''; ; await pause(50)) {
    const { connections, liveLeases } = node.stats();
    const now = `${connections} connections, ${liveLeases} leases`;
    if (now !== said) reached(now);
    said = now;
  }
}

/** A client that uses the node, outlives it, meets the next one, and is killed with a lease and a lock in its hands. */
export function clusterClient(): void {
  let client: Patronus;
  let buffer: RdmaBuffer;
  let kept: Lease;
  const admits = async (permission: Lease) => {
    const status = await client.read(permission, buffer, 8, 0, RwFlag.NoLocalExpireCheck);
    if (status !== RetCode.Ok) expect(status).toBe(RetCode.RdmaProtectionErr);
    return status === RetCode.Ok;
  };

  describe('client on another host', () => {
    test(
      'finds the node through the keeper, and its clock',
      async () => {
        client = await connectWhenThere();
        buffer = client.getRdmaBuffer(64);
        expect(client.nodes).toMatchObject([{ nodeId: 1 }]);
        expect(client.epsilonNs).toBeLessThan(1e9);
        reached(`clock known to ${Math.round(client.epsilonNs / 1000)} us`);
      },
      BOOT_MS,
    );

    test('a granted lease is for reading, writing and atomics', async () => {
      kept = await client.writeLease({ offset: 4096, size: 64, termNs: LONG_NS });
      buffer.bytes.set([1, 2, 3, 4, 5, 6, 7, 8]);
      expect(await client.write(kept, buffer, 8, 16)).toBe(RetCode.Ok);
      buffer.bytes.fill(0);
      expect(await client.read(kept, buffer, 8, 16)).toBe(RetCode.Ok);
      expect([...buffer.bytes.subarray(0, 8)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
      expect(await client.faa(kept, buffer, 0, 5, 0)).toBe(RetCode.Ok);
      expect(await client.cas(kept, buffer, 0, 5, 0, 9, 1)).toBe(RetCode.Ok);
      expect(buffer.words[0]).toBe(5);
    });

    test('what a lease does not grant is refused, and the next access goes on over the spare', async () => {
      const own = await client.readLease({ offset: 0, size: 64, termNs: LONG_NS });
      for (let i = 0; i < 4; i++) {
        expect(await client.write(own, buffer, 8, 0)).toBe(RetCode.RdmaProtectionErr);
        expect(await client.read(own, buffer, 8, 0)).toBe(RetCode.Ok);
      }
      const beyond = await client.getRlease({ offset: 2 ** 40, size: 64, termNs: LONG_NS });
      expect(beyond.status).toBe(AcquireStatus.AddressOutOfRangeErr);
    });

    test('a relinquished lease is over', async () => {
      const own = await client.readLease({ offset: 0, size: 64, termNs: LONG_NS });
      expect(await admits(own)).toBe(true);
      expect(await client.relinquish(own)).toBe(RetCode.Ok);
      expect(await admits(own)).toBe(false);
    });

    test('a lease ends with its term, one that was extended does not', async () => {
      const short = await client.readLease({ offset: 0, size: 64, termNs: 5e9 });
      const extended = await client.readLease({ offset: 0, size: 64, termNs: 5e9 });
      expect(await client.extend(extended, 300e9)).toBe(RetCode.Ok);
      expect(await admits(short)).toBe(true);
      await untilIt(() => !short.live);
      expect(await client.read(short, buffer, 8, 0)).toBe(RetCode.LeaseLocalExpiredErr);
      // The client is careful: it gives a lease up before the node ends it.
      await untilIt(async () => !(await admits(short)));
      expect(extended.live).toBe(true);
      expect(await admits(extended)).toBe(true);
    });

    test("the end of the node's host is an error with a code, within bounded time", async () => {
      reached('node is to be killed');
      let status: number;
      do {
        status = await client.read(kept, buffer, 8, 0);
      } while (status === RetCode.Ok);
      expect([RetCode.OutcomeUnknown, RetCode.RdmaExecutionErr]).toContain(status);
      await untilIt(() => !kept.live);
      expect(await client.read(kept, buffer, 8, 0)).not.toBe(RetCode.Ok);
    });

    test(
      'the next node is found, its memory is new and the old leases are over',
      async () => {
        reached('node is to come back');
        const own = await whenThere(() => client.writeLease({ offset: 4096, size: 64, termNs: LONG_NS }));
        expect(await client.read(own, buffer, 8, 16)).toBe(RetCode.Ok);
        expect([...buffer.bytes.subarray(0, 8)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
        expect(await client.write(own, buffer, 8, 16)).toBe(RetCode.Ok);
        expect(kept.live).toBe(false);
        expect(await client.read(kept, buffer, 8, 16)).not.toBe(RetCode.Ok);
      },
      BOOT_MS,
    );

    test(
      'it takes a lock and is killed',
      async () => {
        const lock = { offset: 0, size: 64, termNs: LONG_NS, flags: AcquireFlag.WithConflictDetect };
        await client.writeLease({ ...lock, lockKey: LOCK_KEY });
        expect((await client.getWlease({ ...lock, lockKey: LOCK_KEY })).status).toBe(AcquireStatus.LockedErr);
        reached('client is to be killed');
        await pause(BOOT_MS);
      },
      BOOT_MS,
    );
  });
}

/** The client that comes after the one that was killed. */
export function clusterHeir(): void {
  describe('client that comes later', () => {
    test(
      'gets the lock of the one that was killed, and the node serves it',
      async () => {
        const client = await connectWhenThere();
        const lease = await client.writeLease({
          offset: 0,
          size: 64,
          termNs: LONG_NS,
          flags: AcquireFlag.WithConflictDetect,
          lockKey: LOCK_KEY,
        });
        const buffer = client.getRdmaBuffer(8);
        expect(await client.faa(lease, buffer, 0, 1, 0)).toBe(RetCode.Ok);
        expect(await client.relinquish(lease)).toBe(RetCode.Ok);
        await client.close();
      },
      BOOT_MS,
    );
  });
}

function connectWhenThere(): Promise<Patronus> {
  return whenThere(() => Patronus.connect({ keeper: keeperOfCluster() }));
}

/** Try until it works; only errors that say that the node is away are waited out. */
async function whenThere<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      const { code } = error as { code?: unknown };
      if (!AWAY.includes(code)) throw error;
      reached(`${code}: ${(error as Error).message}`);
    }
    await pause(500);
  }
}

async function untilIt(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await pause(20);
}

function listens(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(MEMCACHED_PORT, HOST, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
