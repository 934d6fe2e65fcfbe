/** The data structures of a memory node, against models. */
import { expect, test } from 'vitest';
import { Access, openDevice } from '../../native/index.js';
import { Allocator, SPAN_BYTES } from '../../patronus/memory-node/allocator.js';
import { DeadlineHeap } from '../../patronus/memory-node/deadline-heap.js';
import { LeaseTable } from '../../patronus/memory-node/lease-table.js';
import { WindowPool } from '../../patronus/memory-node/window-pool.js';
import { getNumber, putNumber } from '../../patronus/wire/messages.js';
import { random } from './random.js';

test.each([1, 2, 3])('deadlines come out as from a sorted list, seed %i', (seed) => {
  const next = random(seed);
  const heap = new DeadlineHeap(200);
  const model = new Map<number, number>();
  for (let step = 0; step < 20_000; step++) {
    const lease = Math.floor(next() * 200);
    if (next() < 0.5 && !model.has(lease)) {
      const deadline = Math.floor(next() * 1000);
      model.set(lease, deadline);
      heap.push(lease, deadline);
    } else {
      model.delete(lease);
      heap.remove(lease);
    }
    const earliest = Math.min(Number.POSITIVE_INFINITY, ...model.values());
    expect(heap.earliestNs).toBe(earliest);
    if (model.size > 0) expect(model.get(heap.earliestLease)).toBe(earliest);
  }
});

test.each([1, 2, 3, 4])('pieces never overlap, and only true frees count, seed %i', (seed) => {
  const next = random(seed);
  const base = 4 * SPAN_BYTES;
  const spans = 32;
  const allocator = new Allocator(base, spans * SPAN_BYTES);
  const pieces = new Map<number, { size: number; owner: number }>();
  const units = new Uint8Array((spans * SPAN_BYTES) / 64);
  const unitsOf = (address: number, size: number) =>
    units.subarray((address - base) / 64, (address - base) / 64 + Math.ceil(size / 64));
  let refused = 0;
  for (let step = 0; step < 20_000; step++) {
    const owner = 1 + Math.floor(next() * 3);
    if (next() < 0.55) {
      const size = 1 + Math.floor(next() ** 6 * 6 * SPAN_BYTES);
      const address = allocator.allocate(size, owner);
      if (address < 0) {
        refused++;
        continue;
      }
      expect(address % 64).toBe(0);
      expect(address).toBeGreaterThanOrEqual(base);
      expect(address + size).toBeLessThanOrEqual(base + spans * SPAN_BYTES);
      const range = unitsOf(address, size);
      expect(range.every((unit) => unit === 0)).toBe(true);
      range.fill(1);
      pieces.set(address, { size, owner });
    } else if (next() < 0.3) {
      // Wrong: anywhere, or inside a piece, or a stranger's.
      const address = Math.floor(base - 1000 + next() * (spans + 1) * SPAN_BYTES);
      if (pieces.get(address)?.owner !== owner) expect(allocator.free(address, owner)).toBe(false);
    } else {
      const places = [...pieces.keys()];
      const address = places[Math.floor(next() * places.length)];
      if (address === undefined) continue;
      const piece = pieces.get(address)!;
      expect(allocator.free(address, (piece.owner % 3) + 1)).toBe(false);
      if (!pieces.has(address + 64)) expect(allocator.free(address + 64, piece.owner)).toBe(false);
      expect(allocator.free(address, piece.owner)).toBe(true);
      expect(allocator.free(address, piece.owner)).toBe(false);
      unitsOf(address, piece.size).fill(0);
      pieces.delete(address);
    }
  }
  expect(refused).toBeGreaterThan(0);
  for (const [address, { owner }] of pieces) expect(allocator.free(address, owner)).toBe(true);
  expect(allocator.allocatedBytes).toBe(0);
  expect(allocator.free(Number.NaN, 1)).toBe(false);
  expect(allocator.allocate(Number.NaN, 1)).toBe(-1);
});

test('a window whose tags are used up makes way for another', () => {
  const device = openDevice();
  const pd = device.allocPd();
  const memory = device.allocMemory(4096);
  pd.regMr(memory, 0, 4096, Access.LOCAL_WRITE | Access.MW_BIND);
  const pool = new WindowPool(pd, 1);
  const keys = new Set<number>();
  const indices = new Set<number>();
  for (let i = 0; i < 1000; i++) {
    const window = pool.take();
    expect(pool.take()).toBe(-1);
    const rkey = pool.nextRkey(window);
    expect(pool.rkey(window)).toBe(rkey);
    expect(rkey & 0xff).not.toBe(0);
    keys.add(rkey);
    indices.add(rkey >>> 8);
    pool.give(window);
  }
  expect(keys.size).toBe(1000);
  expect(indices.size).toBe(4);
  pool.close();
  device.close();
});

test('an index of the lease table names one lease at a time', () => {
  const table = new LeaseTable(3);
  const first = table.take();
  table.connection[first] = 1;
  const generation = table.generation[first]!;
  expect(table.owned(first, generation, 1)).toBe(true);
  expect(table.owned(first, generation, 2)).toBe(false);
  expect(table.owned(first, generation + 1, 1)).toBe(false);
  expect(table.owned(99, 0, 1)).toBe(false);
  table.release(first);
  expect(table.owned(first, generation, 1)).toBe(false);
  for (let i = 0; i < 3; i++) table.connection[table.take()] = 2;
  expect(table.full).toBe(true);
  expect(table.owned(first, generation, 2)).toBe(false);
  const visited: number[] = [];
  table.forEachOf(2, (index) => {
    visited.push(index);
    table.release(index);
  });
  expect(visited).toHaveLength(3);
  expect(table.live).toBe(0);
});

test('numbers travel whole up to 2^53, and not beyond', () => {
  const words = new Uint32Array(4);
  for (const value of [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 48 + 5, Number.MAX_SAFE_INTEGER]) {
    putNumber(words, 1, value);
    expect(getNumber(words, 1)).toBe(value);
  }
  words[2] = 0x200000;
  expect(getNumber(words, 1)).toBeNaN();
});
