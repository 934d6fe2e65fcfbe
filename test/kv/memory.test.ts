import { describe, expect, test } from 'vitest';
import { TableContext } from '../../kv/context.js';
import { createTable } from '../../kv/create.js';
import { classUnits, FreeLists } from '../../kv/free-lists.js';
import { PIECE_BYTES } from '../../kv/layout.js';
import { LeaseKeeper } from '../../kv/leases.js';
import { Limbo } from '../../kv/limbo.js';
import { UnitMap } from '../../kv/unit-map.js';
import { fakeNode, jumping } from './fake-patronus.js';
import { seeded } from './random.js';

const MS = 1e6;
const TERM = 1000 * MS;

describe('size classes', () => {
  test('are exact up to 255 units and waste at most an eighth above', () => {
    for (let units = 1; units < 20_000; units++) {
      const size = classUnits(units);
      expect(size).toBeGreaterThanOrEqual(units);
      expect(size).toBeLessThanOrEqual(units <= 255 ? units : units * 1.125 + 1);
      expect(classUnits(size)).toBe(size);
    }
  });
});

describe('free lists', () => {
  test('never hand out a unit twice, and lose none', () => {
    const random = seeded(11);
    const lists = new FreeLists();
    const total = 40_000;
    const owner = new Int32Array(total).fill(-1);
    const held: { offset: number; units: number }[] = [];
    lists.add(0, total);
    let out = 0;
    for (let i = 0; i < 5000; i++) {
      if (random() < 0.55) {
        const units = classUnits(Math.ceil(random() < 0.9 ? random() * 40 : random() * 2000));
        let offset = lists.take(units);
        if (offset < 0) offset = lists.split(units);
        if (offset < 0 && lists.merge()) offset = Math.max(lists.take(units), lists.split(units));
        if (offset < 0) continue;
        for (let unit = offset / 64; unit < offset / 64 + units; unit++) {
          if (owner[unit] !== -1) throw new Error(`unit ${unit} was handed out already`);
          owner[unit] = i;
        }
        held.push({ offset, units });
        out += units;
      } else if (held.length > 0) {
        const [{ offset, units }] = held.splice(Math.floor(random() * held.length), 1) as [(typeof held)[0]];
        owner.fill(-1, offset / 64, offset / 64 + units);
        lists.add(offset, units);
        out -= units;
      }
      expect(lists.freeUnits + out).toBe(total);
    }
    for (const { offset, units } of held) lists.add(offset, units);
    lists.merge();
    const whole = classUnits(32_768);
    expect(Math.max(lists.take(whole), lists.split(whole))).toBeGreaterThanOrEqual(0);
  });
});

describe('map of units', () => {
  test('tells what is not marked, of its pieces alone', () => {
    const random = seeded(4);
    const [base, pieces, perPiece] = [65536, 20, PIECE_BYTES / 64];
    for (let round = 0; round < 20; round++) {
      const isMine = Array.from({ length: pieces }, () => random() < 0.6);
      const mine = isMine.flatMap((is, i) =>
        is ? [{ offset: base + i * PIECE_BYTES, bytes: PIECE_BYTES }] : [],
      );
      const map = new UnitMap(base, pieces * PIECE_BYTES, mine);
      const marked = new Uint8Array(pieces * perPiece);
      for (let i = 0; i < 10 ** (round % 4); i++) {
        const units = Math.ceil(random() * (random() < 0.1 ? 3000 : 10));
        const first = Math.floor(random() * (marked.length - units));
        map.mark(base + first * 64, units);
        marked.fill(1, first, first + units);
      }
      const free = new Uint8Array(marked.length);
      let end = -1;
      for (const { offset, units } of map.unmarked()) {
        const first = (offset - base) / 64;
        // In order, and joined.
        expect(first).toBeGreaterThan(end);
        end = first + units;
        free.fill(1, first, end);
      }
      marked.forEach((is, unit) => {
        const wanted = isMine[Math.floor(unit / perPiece)]! && is === 0;
        if ((free[unit] === 1) !== wanted) throw new Error(`unit ${unit} of round ${round}`);
        if (map.isMarked(base + unit * 64) !== (is === 1 && isMine[Math.floor(unit / perPiece)]!))
          throw new Error(`mark of unit ${unit} of round ${round}`);
      });
      for (const { offset, bytes } of mine) {
        const first = (offset - base) / 64;
        expect(map.isUsed(offset, bytes)).toBe(marked.subarray(first, first + perPiece).includes(1));
      }
    }
  });
});

describe('limbo', () => {
  test('is a queue of any length', () => {
    const limbo = new Limbo();
    let pushed = 0;
    let shifted = 0;
    const random = seeded(5);
    for (let i = 0; i < 20_000; i++) {
      if (random() < 0.6) {
        limbo.push(pushed * 64, pushed % 100, pushed);
        pushed++;
      } else if (limbo.count > 0) {
        expect([limbo.headOffset, limbo.headUnits, limbo.headUntilNs]).toEqual([
          shifted * 64,
          shifted % 100,
          shifted,
        ]);
        limbo.shift();
        shifted++;
      }
      expect(limbo.count).toBe(pushed - shifted);
    }
  });
});

describe('allocator', () => {
  const GRACE = TERM * 1.125;
  /** In a node that has so much room beside the index. */
  const make = async (bytes: number) => {
    const node = fakeNode(PIECE_BYTES + bytes);
    await createTable(node.connect(), { groups: 2, termMs: TERM / MS, maxValueBytes: 1024 });
    const client = node.connect();
    const { allocator } = await TableContext.open(client, jumping(node));
    return { node, client, allocator };
  };

  test('an unlinked block comes back after the grace period, not before', async () => {
    const { node, allocator } = await make(64 * 1024);
    const { offset } = await allocator.wait(1024);
    allocator.retire(offset, 1024, 0);
    expect(allocator.take(1024, node.clockNs)).toBe(-1);
    node.clockNs += GRACE - 1;
    expect(allocator.take(1024, node.clockNs)).toBe(-1);
    node.clockNs += 1;
    expect(allocator.take(1024, node.clockNs)).toBe(offset);
  });

  test('waits for unlinked blocks when the node is full; without any it fails at once', async () => {
    const { node, allocator } = await make(64 * 1024);
    const { offset } = await allocator.wait(1024);
    const before = node.clockNs;
    await expect(allocator.wait(1)).rejects.toMatchObject({ code: 'ERR_KV_NO_MEMORY' });
    expect(node.clockNs).toBe(before);
    allocator.retire(offset, 1024, 0);
    expect((await allocator.wait(512)).offset).toBe(offset);
    expect(node.clockNs).toBeGreaterThanOrEqual(before + GRACE);
    expect(allocator.take(512, node.clockNs)).toBe(offset + 512 * 64);
  });

  test('small freed blocks make room for a large one', async () => {
    const { node, allocator } = await make(1024 * 1024);
    const small: number[] = [];
    for (;;) {
      try {
        const offset = allocator.take(1, node.clockNs);
        small.push(offset >= 0 ? offset : (await allocator.wait(1)).offset);
      } catch {
        break;
      }
    }
    expect(small).toHaveLength(16 * 1024);
    for (const offset of small) allocator.free(offset, 1, 0);
    expect((await allocator.wait(classUnits(8000))).offset).toBeGreaterThanOrEqual(0);
  });

  test('blocks of random sizes that are replaced again and again do not take more and more memory', async () => {
    const random = seeded(3);
    const { node, allocator } = await make(256 * 1024 * 1024);
    const blocks: { offset: number; units: number }[] = [];
    // 10,000 of 3 units in the middle, and 3,000 that rest: 2.6 MiB.
    for (let i = 0; i < 600_000; i++) {
      node.clockNs += TERM / 3000;
      const units = classUnits(Math.ceil(random() * (random() < 0.002 ? 320 : 5)));
      const taken = allocator.take(units, node.clockNs);
      const block = { offset: taken >= 0 ? taken : (await allocator.wait(units)).offset, units };
      const index = Math.floor(random() * 10_000);
      const old = blocks[index];
      if (old !== undefined) allocator.retire(old.offset, old.units, 0);
      blocks[index] = block;
    }
    expect(node.allocatedBytes).toBeLessThanOrEqual(PIECE_BYTES + 4 * 1024 * 1024);
  });

  test('pieces not used yet come back when the client closes, or dies', async () => {
    for (const end of ['close', 'die'] as const) {
      const { node, client, allocator } = await make(16 * 1024 * 1024);
      const before = node.allocatedBytes;
      await allocator.wait(1);
      expect(node.allocatedBytes).toBe(before + 4 * 64 * 1024);
      if (end === 'close') await allocator.close();
      else client.die();
      // The one in use stays: a slot may lead to it.
      expect(node.allocatedBytes).toBe(before + 64 * 1024);
    }
  });

  test('pieces that a lost connection has given back are not used', async () => {
    const { node, client, allocator } = await make(16 * 1024 * 1024);
    await allocator.wait(1024);
    client.reconnect();
    const other = node.connect();
    const taken = (await other.alloc({ size: 64 * 1024 })).address!.offset;
    await other.keepAllocation({ nodeId: 0, offset: taken });
    for (let i = 0; i < 10; i++) expect((await allocator.wait(1024)).offset).not.toBe(taken);
    expect(node.allocated.has(taken)).toBe(true);
  });

  test('pieces that a lost connection has given back are not freed, once others have them', async () => {
    const { node, client, allocator } = await make(16 * 1024 * 1024);
    await allocator.wait(1024);
    client.reconnect();
    const other = node.connect();
    for (let i = 0; i < 8; i++) await other.alloc({ size: PIECE_BYTES, keep: true });
    const { size } = node.allocated;
    await allocator.close();
    expect(node.allocated.size).toBe(size);
  });

  test('those who wait are served in their order', async () => {
    const { node, allocator } = await make(64 * 1024);
    const { offset } = await allocator.wait(1024);
    allocator.retire(offset, 1024, 0);
    const order: number[] = [];
    const waits = [1, 2, 3].map((n) => allocator.wait(100).then(() => order.push(n)));
    expect(allocator.take(100, node.clockNs + 2 * GRACE)).toBe(-1);
    await Promise.all(waits);
    expect(order).toEqual([1, 2, 3]);
  });
});

describe('leases', () => {
  test('are renewed when used in the second half of the term, and only then', async () => {
    const node = fakeNode();
    const keeper = new LeaseKeeper(node.connect(), jumping(node), TERM);
    const cell = keeper.cell(0, 64, false);
    expect(cell.take(node.clockNs)).toBeUndefined();
    await cell.acquire();
    const first = cell.take(node.clockNs)!;
    node.clockNs += TERM / 2 - 1;
    cell.release(cell.take(node.clockNs)!);
    expect(node.grants).toBe(1);
    node.clockNs += 1;
    cell.release(cell.take(node.clockNs)!);
    await new Promise((resolve) => setImmediate(resolve));
    expect(node.grants).toBe(2);
    expect(keeper.renewals).toBe(1);
    const second = cell.take(node.clockNs)!;
    expect(second).not.toBe(first);
    // The old one goes when its last user has gone.
    expect(first.lease.live).toBe(true);
    cell.release(first);
    expect(first.lease.live).toBe(false);
    cell.release(second);
    node.clockNs += 100 * TERM;
    await new Promise((resolve) => setImmediate(resolve));
    expect(node.grants).toBe(2);
    expect(cell.take(node.clockNs)).toBeUndefined();
    await cell.acquire();
    expect(keeper.renewals).toBe(2);
    await keeper.close();
    expect([...node.liveLeases].filter((lease) => lease.live)).toEqual([]);
  });
});
