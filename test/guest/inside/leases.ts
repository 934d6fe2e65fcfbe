import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { openDevice } from '../../../native/index.js';
import {
  AcquireStatus,
  type Lease,
  Patronus,
  PatronusErrorCode,
  PatronusNode,
  type RdmaBuffer,
  RetCode,
  RwFlag,
} from '../../../patronus/index.js';

const LONG_NS = 60e9;
const NODE = {
  listen: 'ib:127.0.0.1:0',
  device: 'ib:rxe0',
  allowUnboundedWindows: true,
  leaseBytes: 65536,
  allocBytes: 8 * 2 ** 20,
  maxLeases: 1024,
  maxClients: 4,
  policy: 'open',
  hugePages: '2MiB',
  numaNode: 0,
} as const;
/** For that, in pages. */
const POOL = '/proc/sys/vm/nr_hugepages';
const POOL_PAGES = 8;
const FREE = '/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages';

/** One host, one clock; and with one processor the node's thread and the client's can't measure it against each other. */
const TIME = { synchronise: false };

/** A memory node and its clients over Soft-RoCE. */
export function leases(): void {
  let node: PatronusNode;
  let client: Patronus;
  let buffer: RdmaBuffer;

  const lease = (write: boolean, offset = 32768, termNs = LONG_NS) =>
    (write ? client.writeLease : client.readLease).call(client, { offset, size: 64, termNs });
  /** Whether the NIC admits a read, whatever the client thinks of its lease. */
  const admits = async (permission: Lease) => {
    const status = await client.read(permission, buffer, 8, 0, RwFlag.NoLocalExpireCheck);
    if (status !== RetCode.Ok) expect(status).toBe(RetCode.RdmaProtectionErr);
    return status === RetCode.Ok;
  };

  describe('memory node over Soft-RoCE', () => {
    test('does not start where nothing is protected, unless it is told to', async () => {
      let error: unknown;
      try {
        await PatronusNode.start({ ...NODE, allowUnboundedWindows: false });
      } catch (thrown) {
        error = thrown;
      }
      expect((error as { code?: string }).code).toBe(PatronusErrorCode.LISTEN);
      expect((error as Error).message).toMatch(
        /ib:rxe0 does not hold accesses to the bounds of memory windows/,
      );
    });
  });

  describe('leases over Soft-RoCE', () => {
    test('the node has its memory from huge pages of a NUMA node, or says that there are none', async () => {
      const device = openDevice(NODE.device);
      expect(() => device.allocMemory(1, { hugePages: '2MiB' })).toThrow(/no huge pages of 2 MiB/);
      device.close();
      writeFileSync(POOL, `${POOL_PAGES}`);
      node = await PatronusNode.start(NODE);
      expect(Number(readFileSync(FREE, 'utf8'))).toBe(POOL_PAGES - 5);
      expect(readFileSync('/proc/self/numa_maps', 'utf8')).toMatch(/ bind:0 .*huge/);
    });

    // One node and one client for all: starting threads takes seconds in the guest.
    test('a client connects', async () => {
      client = await Patronus.connect({ nodes: [node.endpoint], time: TIME });
      buffer = client.getRdmaBuffer(64);
      expect(client.nodes).toHaveLength(1);
    });

    test('a write lease is for reading and writing', async () => {
      const own = await lease(true, 4096);
      buffer.bytes.set([1, 2, 3, 4, 5, 6, 7, 8]);
      expect(await client.write(own, buffer, 8, 16)).toBe(RetCode.Ok);
      buffer.bytes.fill(0);
      expect(await client.read(own, buffer, 8, 16)).toBe(RetCode.Ok);
      expect([...buffer.bytes.subarray(0, 8)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    });

    test('atomics give the old value', async () => {
      const own = await lease(true);
      expect(await client.faa(own, buffer, 0, 5, 0)).toBe(RetCode.Ok);
      expect(await client.cas(own, buffer, 0, 5, 0, 9, 1)).toBe(RetCode.Ok);
      expect(buffer.words[0]).toBe(5);
      expect(await client.read(own, buffer, 8, 0)).toBe(RetCode.Ok);
      expect([...buffer.words.subarray(0, 2)]).toEqual([9, 1]);
    });

    test('a read lease is not for writing, and the next access goes on over the spare', async () => {
      const own = await lease(false);
      for (let i = 0; i < 4; i++) {
        expect(await client.write(own, buffer, 8, 0)).toBe(RetCode.RdmaProtectionErr);
        expect(await client.read(own, buffer, 8, 0)).toBe(RetCode.Ok);
      }
    });

    test('what is outside of the memory is refused', async () => {
      const beyond = await client.getRlease({ offset: 2 ** 40, size: 64, termNs: LONG_NS });
      expect(beyond.status).toBe(AcquireStatus.AddressOutOfRangeErr);
    });

    test('a relinquished lease is over', async () => {
      const own = await lease(false);
      expect(await admits(own)).toBe(true);
      expect(await client.relinquish(own)).toBe(RetCode.Ok);
      expect(await admits(own)).toBe(false);
      expect(await admits(await lease(false))).toBe(true);
    });

    test('a lease whose term is over is refused by the NIC', async () => {
      const { expired } = node.stats();
      const own = await lease(false, 0, 2e9);
      expect(await admits(own)).toBe(true);
      while (own.live || node.stats().expired === expired)
        await new Promise((resolve) => setTimeout(resolve, 5));
      expect(await client.read(own, buffer, 8, 0)).toBe(RetCode.LeaseLocalExpiredErr);
      expect(await admits(own)).toBe(false);
    });

    test('an extended lease lives on', async () => {
      const { expired } = node.stats();
      const own = await lease(false, 0, 4e9);
      const before = own.deadlineNs;
      expect(await client.extend(own, 20e9)).toBe(RetCode.Ok);
      expect(own.deadlineNs).toBeGreaterThanOrEqual(before + 20e9);
      await new Promise((resolve) => setTimeout(resolve, 5000));
      expect(node.stats().expired).toBe(expired);
      expect(await admits(own)).toBe(true);
    });

    test('one client faults all the time, another does not notice', async () => {
      const other = await Patronus.connect({ nodes: [node.endpoint], time: TIME });
      const theirs = await other.writeLease({ offset: 8192, size: 64, termNs: LONG_NS });
      const their = other.getRdmaBuffer(8);
      const own = await lease(false);
      for (let i = 0; i < 20; i++) {
        const [fault, counted] = await Promise.all([
          client.write(own, buffer, 8, 0),
          other.faa(theirs, their, 0, 1, 0),
        ]);
        expect([fault, counted]).toEqual([RetCode.RdmaProtectionErr, RetCode.Ok]);
      }
      expect(await other.read(theirs, their, 8, 0)).toBe(RetCode.Ok);
      expect(their.words[0]).toBe(20);
      await other.close();
    });

    test("a client's leases end with its connection", async () => {
      const other = await Patronus.connect({ nodes: [node.endpoint], time: TIME });
      const { liveLeases } = node.stats();
      await other.readLease({ offset: 0, size: 64, termNs: LONG_NS });
      expect(node.stats().liveLeases).toBe(liveLeases + 1);
      await other.close();
      while (node.stats().liveLeases > liveLeases) await new Promise((resolve) => setTimeout(resolve, 5));
    });

    test('nobody is found where no node listens', async () => {
      let error: unknown;
      try {
        await Patronus.connect({ nodes: [{ nodeId: 0, address: 'ib:127.0.0.1:1' }] });
      } catch (thrown) {
        error = thrown;
      }
      expect((error as { code?: string }).code).toBe(PatronusErrorCode.CONNECT);
    });

    test('the client and the node close', async () => {
      await client.close();
      await node.close();
    });
  });
}
