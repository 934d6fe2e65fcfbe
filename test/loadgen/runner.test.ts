import { describe, expect, it } from 'vitest';
import {
  type Progress,
  type RunOptions,
  type RunResult,
  runWorkload,
  type Store,
} from '../../loadgen/index.js';
import {
  CorruptingStore,
  ForgetfulStore,
  FullStore,
  LosingStore,
  MapStore,
  MixingStore,
  ReorderingStore,
} from './stores.js';

function runOn(store: Store, options: Partial<RunOptions> = {}): Promise<RunResult> {
  return runWorkload({ store, workload: 'a', records: 1000, operations: 20_000, concurrency: 4, ...options });
}

describe('a right store', () => {
  it.each(['a', 'b', 'c'] as const)('passes workload %s', async (workload) => {
    const result = await runOn(new MapStore(), { workload });
    expect(result.ok).toBe(true);
    expect(result.interrupted).toBe(false);
    expect(result.findings).toEqual([]);
    expect(result.load?.operations).toBe(1000);
    expect(result.run?.operations).toBe(20_000);
    const { read, update } = result.run!.byType;
    expect((read?.operations ?? 0) + (update?.operations ?? 0)).toBe(20_000);
    expect(update === undefined).toBe(workload === 'c');
    expect(read!.latency.maxUs).toBeGreaterThan(0);
    expect(read!.latency.p50Us).toBeLessThanOrEqual(read!.latency.p99Us);
  });

  it.each(['uniform', 'zipfian'] as const)(
    'passes, slow and with overlapping writes, %s',
    async (distribution) => {
      const options = { records: 20, operations: 5000, concurrency: 64, distribution };
      const result = await runOn(new ReorderingStore(), options);
      expect(result.findings).toEqual([]);
      expect(result.ok).toBe(true);
    },
  );

  it.each([16, 17, 5000])('passes with values of %i bytes', async (valueBytes) => {
    const result = await runOn(new MapStore(), { valueBytes, operations: 2000 });
    expect(result.ok).toBe(true);
  });

  it('passes with the data of earlier runs, loaded or not', async () => {
    const store = new MapStore();
    await runOn(store);
    const second = await runOn(store, { load: false, valueBytes: 64 });
    expect(second.ok).toBe(true);
    expect(second.load).toBeUndefined();
    expect((await runOn(store)).ok).toBe(true);
  });

  it('passes with two generators at once on the same data', async () => {
    const store = new ReorderingStore();
    await runOn(store, { operations: 1 });
    const results = await Promise.all(
      [1, 2].map((seed) => runOn(store, { load: false, seed, operations: 2000 })),
    );
    expect(results.map((result) => result.findings)).toEqual([[], []]);
  });

  it('chooses the same operations for a seed', async () => {
    const calls = async (seed: number): Promise<string[]> => {
      const log: string[] = [];
      const store = new (class extends MapStore {
        override async get(key: Uint8Array): Promise<Uint8Array | undefined> {
          log.push(`get ${Buffer.from(key)}`);
          return super.get(key);
        }
        override async put(key: Uint8Array, value: Uint8Array): Promise<unknown> {
          log.push(`put ${Buffer.from(key)}`);
          return super.put(key, value);
        }
      })();
      await runOn(store, { seed, operations: 500 });
      return log;
    };
    expect(await calls(3)).toEqual(await calls(3));
    expect(await calls(3)).not.toEqual(await calls(4));
  });
});

describe('a wrong store', () => {
  const flip = (value: Uint8Array): Uint8Array => {
    value[value.length - 1]! ^= 0x10;
    return value;
  };
  it.each([
    ['flips a bit', flip],
    ['cuts values', (value: Uint8Array) => value.subarray(0, value.length - 1)],
    ['empties values', () => new Uint8Array(0)],
    ['zeroes values', (value: Uint8Array) => new Uint8Array(value.length)],
  ])('that %s is caught each time', async (_, corrupt) => {
    const store = new CorruptingStore(corrupt);
    const result = await runOn(store);
    expect(result.ok).toBe(false);
    expect(store.corrupted).toBeGreaterThan(50);
    const { read } = result.run!.byType;
    expect(read).toMatchObject({ corrupt: store.corrupted, stale: 0, misses: 0, errors: [] });
    expect(result.findings).toHaveLength(10);
    expect(result.findings[0]).toMatch(/^user\d{19}: corrupt: /);
  });

  it('that mixes up keys is caught', async () => {
    const store = new MixingStore();
    const result = await runOn(store);
    expect(store.mixed).toBeGreaterThan(50);
    expect(result.run!.byType.read!.corrupt).toBe(store.mixed);
  });

  it('that loses updates is caught', async () => {
    const result = await runOn(new ForgetfulStore());
    expect(result.ok).toBe(false);
    expect(result.run!.byType.read).toMatchObject({ corrupt: 0, misses: 0 });
    expect(result.run!.byType.read!.stale).toBeGreaterThan(1000);
    expect(result.findings[0]).toContain('stale');
  });

  it('that keeps an earlier run instead of this one is caught', async () => {
    const store = new ForgetfulStore();
    await runOn(store, { workload: 'c', operations: 1 });
    const result = await runOn(store, { workload: 'c', operations: 500 });
    expect(result.run!.byType.read!.stale).toBe(500);
  });

  it('that loses keys is caught', async () => {
    const result = await runOn(new LosingStore(900), { workload: 'c', distribution: 'uniform' });
    expect(result.ok).toBe(false);
    const { misses, operations } = result.run!.byType.read!;
    expect(misses + operations).toBe(20_000);
    expect(misses).toBeGreaterThan(1500);
    expect(misses).toBeLessThan(2500);
  });

  it('that fails updates is counted by code', async () => {
    const result = await runOn(new FullStore(1500), { operations: 4000 });
    expect(result.ok).toBe(false);
    const { update, read } = result.run!.byType;
    expect(update!.operations).toBe(500);
    expect(update!.errors).toMatchObject([{ code: 'ERR_KV_NO_MEMORY', message: 'the memory node is full' }]);
    expect(update!.operations + update!.errors[0]!.count + read!.operations).toBe(4000);
    expect(read).toMatchObject({ misses: 0, corrupt: 0, stale: 0, errors: [] });
  });

  it('that fails the load phase ends the run there', async () => {
    const result = await runOn(new FullStore(600));
    expect(result.ok).toBe(false);
    expect(result.run).toBeUndefined();
    expect(result.load!.operations).toBe(600);
    expect(result.load!.byType.insert!.errors).toMatchObject([{ code: 'ERR_KV_NO_MEMORY', count: 400 }]);
  });

  it('that throws instead of rejecting is counted', async () => {
    const result = await runOn({
      get: () => Promise.resolve(undefined),
      put: () => {
        throw new TypeError('no');
      },
    });
    expect(result.load!.byType.insert!.errors).toEqual([{ code: 'TypeError', count: 1000, message: 'no' }]);
  });
});

describe('limits', () => {
  it('ends when aborted, with what there is, though the store never leaves the thread', async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 300);
    const result = await runWorkload({
      store: new MapStore(),
      workload: 'a',
      records: 100,
      seconds: 60,
      concurrency: 8,
      signal: abort.signal,
    });
    expect(result.interrupted).toBe(true);
    expect(result.ok).toBe(true);
    expect(result.run!.operations).toBeGreaterThan(0);
    expect(result.run!.elapsedSeconds).toBeLessThan(20);
  });

  it('ends in a wait for the schedule when aborted', async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 100);
    const options = { rate: 0.01, operations: 100, signal: abort.signal };
    const result = await runOn(new MapStore(), options);
    expect(result.interrupted).toBe(true);
    expect(result.run!.operations).toBe(1);
  });

  it('runs for the seconds given and reports progress', async () => {
    const progress: Progress[] = [];
    const result = await runWorkload({
      store: new MapStore(),
      workload: 'b',
      records: 100,
      seconds: 1.5,
      onProgress: (one) => progress.push(one),
    });
    expect(result.run!.elapsedSeconds).toBeGreaterThanOrEqual(1.5);
    const last = progress.at(-1)!;
    expect(last.phase).toBe('run');
    expect(last.operations).toBeGreaterThan(0);
    expect(last.operations).toBeLessThanOrEqual(result.run!.operations);
    expect(last.p99Us).toBeGreaterThan(0);
    expect(last.failures).toBe(0);
  });

  it('starts no operation before its time in the schedule', async () => {
    const starts: number[] = [];
    const store = new (class extends MapStore {
      override get(key: Uint8Array): Promise<Uint8Array | undefined> {
        starts.push(performance.now());
        return super.get(key);
      }
    })();
    await runOn(store, { workload: 'c', rate: 200, operations: 60, concurrency: 3 });
    expect(starts).toHaveLength(60);
    // The schedule began before the first start: the i-th operation is due i * 5 ms later.
    expect(starts[59]! - starts[0]!).toBeGreaterThan(59 * 5 - 50);
  });

  it('counts the wait for a stalled store in the latency of all that were due', async () => {
    let gets = 0;
    const store = new (class extends MapStore {
      override async get(key: Uint8Array): Promise<Uint8Array | undefined> {
        gets += 1;
        if (gets === 1) await new Promise((resolve) => setTimeout(resolve, 400));
        return super.get(key);
      }
    })();
    const options = { workload: 'c', rate: 100, operations: 40, concurrency: 1 } as const;
    const result = await runOn(store, options);
    // 40 operations, due in 400 ms, of which the first takes all: their waits fall from 400 ms to 0.
    const { latency, operations } = result.run!.byType.read!;
    expect(operations).toBe(40);
    expect(latency.p50Us).toBeGreaterThan(150_000);
    expect(latency.p90Us).toBeGreaterThan(300_000);
  });
});

describe('options', () => {
  it.each([
    [{ records: 0 }, /records/],
    [{ records: 1.5 }, /records/],
    [{ valueBytes: 15 }, /valueBytes/],
    [{ concurrency: 0 }, /concurrency/],
    [{ rate: -1 }, /rate/],
    [{ operations: 0 }, /operations/],
    [{ operations: 1, seconds: 1 }, /exclude/],
    [{ seed: Number.NaN }, /seed/],
    [{ workload: 'z' as 'a' }, /workload/],
    [{ distribution: 'normal' as 'uniform' }, /distribution/],
  ])('refuses %o', async (wrong, message) => {
    const run = runWorkload({ store: new MapStore(), workload: 'a', ...wrong });
    await expect(run).rejects.toThrow(RangeError);
    await expect(run).rejects.toThrow(message);
  });
});
