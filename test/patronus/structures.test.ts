/** The data structures of a memory node, against models. */
import { expect, test } from 'vitest';
import { Access, openDevice } from '../../native/index.js';
import { Allocations } from '../../patronus/memory-node/allocations.js';
import { SPAN_BYTES } from '../../patronus/memory-node/allocator.js';
import { DeadlineHeap } from '../../patronus/memory-node/deadline-heap.js';
import { LeaseTable, NONE } from '../../patronus/memory-node/lease-table.js';
import { LockTable, lockBytes } from '../../patronus/memory-node/lock-table.js';
import { policies } from '../../patronus/memory-node/policy.js';
import { RequestQueue } from '../../patronus/memory-node/request-queue.js';
import {
  latenessQuantile,
  readStats,
  recordLateness,
  STATS_LENGTH,
} from '../../patronus/memory-node/stats.js';
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
      heap.deadline[lease] = deadline;
      heap.push(lease);
    } else {
      model.delete(lease);
      heap.remove(lease);
    }
    const earliest = Math.min(Number.POSITIVE_INFINITY, ...model.values());
    expect(heap.earliestNs).toBe(earliest);
    if (model.size > 0) expect(model.get(heap.earliestLease)).toBe(earliest);
  }
});

test('an owner is known by all of its number, which over some links has more than 32 bits', () => {
  const memory = { buffer: new ArrayBuffer(0), byteLength: 0, publish: () => 0, close: () => {} };
  const allocations = new Allocations(
    memory,
    0,
    { offset: 0, bytes: 4 * SPAN_BYTES, shares: [] },
    policies.open,
  );
  const owner = 2 ** 32;
  for (const size of [64, SPAN_BYTES]) {
    const piece = allocations.allocate(0, size, owner, false);
    const offset = allocations.offsetOf(piece);
    expect(allocations.pieceAt(offset, size)).toBe(piece);
    expect(allocations.freeable(offset, owner + 2 ** 32)).toBe(NONE);
    expect(allocations.freeable(offset, owner)).toBe(piece);
    expect(allocations.keep(offset, owner + 2 ** 32)).toBe(false);
    expect(allocations.keep(offset, owner)).toBe(true);
  }
});

test.each([1, 2, 3, 4])('pieces never overlap, and only true frees count, seed %i', (seed) => {
  const next = random(seed);
  const base = 4 * SPAN_BYTES;
  const spans = 32;
  const share = 20;
  const memory = { buffer: new ArrayBuffer(0), byteLength: 0, publish: () => 0, close: () => {} };
  const shares = [{ hint: 7, bytes: (spans - share) * SPAN_BYTES }];
  const part = { offset: base, bytes: spans * SPAN_BYTES, shares };
  const allocations = new Allocations(memory, base, part, policies.open);
  const pieces = new Map<number, { size: number; owner: number; kept: boolean; users: number }>();
  /** Freed while leases were in them: not free yet. */
  const leaving = new Map<number, { size: number; piece: number; users: number }>();
  const units = new Uint8Array((spans * SPAN_BYTES) / 64);
  const unitsOf = (address: number, size: number) =>
    units.subarray((address - base) / 64, (address - base) / 64 + Math.ceil(size / 64));
  const free = (address: number, owner: number) => {
    const piece = allocations.freeable(address, owner);
    if (piece !== NONE) allocations.free(piece);
    return piece !== NONE;
  };
  let refused = 0;
  for (let step = 0; step < 20_000; step++) {
    const owner = 1 + Math.floor(next() * 3);
    const choice = next();
    const places = [...pieces.keys()];
    const address = places[Math.floor(next() * places.length)];
    if (choice < 0.5) {
      const size = 1 + Math.floor(next() ** 6 * 6 * SPAN_BYTES);
      const hint = next() < 0.5 ? 0 : 7;
      const kept = next() < 0.3;
      const piece = allocations.allocate(hint, size, owner, kept);
      if (piece === NONE) {
        refused++;
        continue;
      }
      const at = allocations.offsetOf(piece);
      expect(at % 64).toBe(0);
      expect(at).toBeGreaterThanOrEqual(base + (hint === 0 ? 0 : share * SPAN_BYTES));
      expect(at + size).toBeLessThanOrEqual(base + (hint === 0 ? share : spans) * SPAN_BYTES);
      expect(allocations.fits(piece, size)).toBe(true);
      expect(allocations.fits(piece, 4 * size + SPAN_BYTES)).toBe(false);
      const range = unitsOf(at, size);
      expect(range.every((unit) => unit === 0)).toBe(true);
      range.fill(1);
      pieces.set(at, { size, owner, kept, users: 0 });
    } else if (choice < 0.6) {
      // Wrong: anywhere, or inside a piece, or a stranger's.
      const wild = Math.floor(base - 1000 + next() * (spans + 1) * SPAN_BYTES);
      const there = pieces.get(wild);
      if (there === undefined || (there.owner !== owner && !there.kept))
        expect(free(wild, owner)).toBe(false);
    } else if (address === undefined) {
      // Nothing to use or to free.
    } else if (choice < 0.75) {
      const piece = allocations.pieceAt(address + pieces.get(address)!.size - 1, 1);
      expect(allocations.offsetOf(piece)).toBe(address);
      allocations.use(piece);
      pieces.get(address)!.users++;
    } else {
      const piece = pieces.get(address)!;
      const id = allocations.pieceAt(address, piece.size);
      if (!piece.kept) expect(free(address, (piece.owner % 3) + 1)).toBe(false);
      if (!pieces.has(address + 64) && !leaving.has(address + 64))
        expect(free(address + 64, piece.owner)).toBe(false);
      expect(free(address, piece.owner)).toBe(true);
      expect(free(address, piece.owner)).toBe(false);
      expect(allocations.pieceAt(address, 1)).toBe(NONE);
      pieces.delete(address);
      if (piece.users > 0) leaving.set(address, { size: piece.size, piece: id, users: piece.users });
      else unitsOf(address, piece.size).fill(0);
    }
    if (leaving.size > 20) {
      const [at, { size, piece, users }] = leaving.entries().next().value!;
      for (let i = 0; i < users; i++) allocations.unuse(piece);
      unitsOf(at, size).fill(0);
      leaving.delete(at);
    }
  }
  expect(refused).toBeGreaterThan(0);
  for (const { piece, users } of leaving.values()) for (let i = 0; i < users; i++) allocations.unuse(piece);
  for (const [at, { users }] of pieces) {
    const piece = allocations.pieceAt(at, 1);
    for (let i = 0; i < users; i++) allocations.unuse(piece);
  }
  // The owners go, one after the other; what was to be kept stays.
  for (const owner of [1, 2, 3]) {
    for (let span = 0; span < spans; span += 5) allocations.sweep(owner, span, span + 5);
    for (const [at, piece] of pieces) {
      if (piece.kept) continue;
      expect(allocations.pieceAt(at, 1) === NONE).toBe(piece.owner <= owner);
    }
  }
  for (const [at, { kept }] of pieces) if (kept) expect(free(at, 99)).toBe(true);
  expect(allocations.allocatedBytes).toBe(0);
  expect(free(Number.NaN, 1)).toBe(false);
  expect(allocations.allocate(0, Number.NaN, 1, false)).toBe(NONE);
  expect(allocations.hasHint(7)).toBe(true);
  expect(allocations.hasHint(6)).toBe(false);
});

test.each([1, 2])('a lock has one holder, whatever else comes and goes, seed %i', (seed) => {
  const next = random(seed);
  const leases = 50;
  const locks = new LockTable(new SharedArrayBuffer(lockBytes(leases)), leases, seed);
  const holders = new Map<number, number>();
  const keys = new Map<number, number>();
  for (let step = 0; step < 30_000; step++) {
    const lease = Math.floor(next() * leases);
    if (keys.has(lease)) {
      locks.release(lease);
      holders.delete(keys.get(lease)!);
      keys.delete(lease);
    } else {
      const key = Math.floor(next() * 60) * (next() < 0.5 ? 1 : 2 ** 40);
      expect(locks.take(key, lease)).toBe(holders.get(key) ?? NONE);
      if (!holders.has(key)) {
        holders.set(key, lease);
        keys.set(lease, key);
      }
    }
  }
  for (let lease = 0; lease < leases; lease++) locks.release(lease);
  for (let lease = 0; lease < leases; lease++) expect(locks.take(lease, lease)).toBe(NONE);
});

test('requests are taken in turns, a few of each client', () => {
  const queue = new RequestQueue(4, 3);
  const taken = () => {
    const order: string[] = [];
    while (queue.take()) order.push(`${queue.slot}:${queue.buffer}`);
    return order.join(' ');
  };
  for (let i = 0; i < 64; i++) queue.push(1, i, 64);
  queue.push(3, 9, 12);
  queue.push(0, 5, 64);
  for (let i = 0; i < 4; i++) {
    queue.take();
    expect([queue.slot, queue.buffer]).toEqual(
      [
        [1, 0],
        [1, 1],
        [1, 2],
        [3, 9],
      ][i],
    );
  }
  expect(queue.byteLen).toBe(12);
  queue.clear(1);
  expect(taken()).toBe('0:5');
  for (let round = 0; round < 100; round++) {
    for (const slot of [2, 0]) for (let i = 0; i < 5; i++) queue.push(slot, i, 64);
    expect(taken()).toBe('2:0 2:1 2:2 0:0 0:1 0:2 2:3 2:4 0:3 0:4');
  }
});

test('a window whose tags are used up makes way for another', () => {
  const device = openDevice();
  const pd = device.allocPd();
  const memory = device.allocMemory(4096);
  pd.regMr(memory, 0, 4096, Access.LOCAL_WRITE | Access.MW_BIND);
  const pool = new WindowPool(pd, 1, true);
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
  const table = new LeaseTable(3, 4, 1);
  const begin = (connection: number) => {
    const index = table.candidate();
    if (index !== NONE) table.begin(connection);
    return index;
  };
  const first = begin(1);
  const generation = table.generation[first]!;
  expect(table.owned(first, generation, 1)).toBe(true);
  expect(table.owned(first, generation, 2)).toBe(false);
  expect(table.owned(first, generation + 1, 1)).toBe(false);
  expect(table.owned(99, 0, 1)).toBe(false);
  table.release(first);
  expect(table.owned(first, generation, 1)).toBe(false);
  // Not before its windows are unbound.
  const others = [begin(2), begin(2), begin(3)];
  expect(others).not.toContain(first);
  expect(begin(2)).toBe(NONE);
  table.settle();
  expect(begin(2)).toBe(NONE);
  table.release(others[0]!);
  expect(begin(2)).toBe(first);
  expect(table.owned(first, generation, 2)).toBe(false);
  const visited: number[] = [];
  for (let index = table.anyOf(2); index !== NONE; index = table.anyOf(2)) {
    visited.push(index);
    table.release(index);
  }
  expect(visited.sort()).toEqual([first, others[1]].sort());
  expect(table.live).toBe(1);
  expect(table.anyOf(3)).toBe(others[2]);
});

test('lateness is counted in ranges that hold it', () => {
  const next = random(3);
  const record = (counters: Float64Array, lateness: number) =>
    recordLateness(counters, Float64Array.of(lateness), new Float64Array(1), 0);
  for (let i = 0; i < 300; i++) {
    const counters = new Float64Array(STATS_LENGTH);
    const lateness = 10 ** (next() * 10);
    record(counters, lateness);
    const [bucket] = readStats([counters]).lateness;
    expect(bucket!.count).toBe(1);
    expect(bucket!.belowNs).toBeGreaterThan(lateness);
    expect(bucket!.belowNs).toBeLessThanOrEqual(lateness * 1.25 + 250);
    expect(latenessQuantile(readStats([counters]), 0.99)).toBe(bucket!.belowNs);
  }
  const counters = new Float64Array(STATS_LENGTH);
  for (let i = 0; i < 100; i++) record(counters, i < 99 ? 600 : 1e12);
  const stats = readStats([counters]);
  expect([latenessQuantile(stats, 0.99), latenessQuantile(stats, 1)]).toEqual([
    750,
    Number.POSITIVE_INFINITY,
  ]);
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
