import { describe, expect, test, vi } from 'vitest';
import type { TableContext } from '../../kv/context.js';
import { Get } from '../../kv/get.js';
import type { Put } from '../../kv/put.js';
import { Table } from '../../kv/table.js';
import { ALL_KINDS, codes, expectAllLinearizable, isCaught, ScatteredPut, ScatteredTable } from './runs.js';

// Many seeds, perhaps on a busy machine; KV_TEST_SEEDS asks for more.
vi.setConfig({ testTimeout: 120_000 });

describe('interleaved clients', () => {
  test('one key, three clients', async () => {
    const runs = await expectAllLinearizable(80, {});
    expect(codes(runs)).toEqual(new Set([undefined]));
    expect(runs.some(({ tables }) => tables.some((table) => table.stats().retries > 0))).toBe(true);
  });

  test('two keys, five clients', async () => {
    await expectAllLinearizable(60, { clients: 5, keys: 2, operations: 5 });
  });

  test('every kind of operation', async () => {
    await expectAllLinearizable(80, { clients: 4, operations: 7, keys: 2, kinds: ALL_KINDS });
  });

  test('keys that expire', async () => {
    await expectAllLinearizable(50, {
      clients: 3,
      operations: 7,
      keys: 2,
      kinds: ALL_KINDS,
      ttlMs: 4,
      stepNs: 20_000,
    });
  });

  test('keys that expire while a client stands still', async () => {
    for (let at = 10; at < 60; at += 10) {
      await expectAllLinearizable(25, {
        clients: 3,
        operations: 6,
        kinds: ['get', 'get', 'get', 'put', 'putIfVersion'],
        ttlMs: 4,
        stepNs: 20_000,
        pause: { at, ns: 4e6 },
      });
    }
  });

  test('counters under faults', async () => {
    await expectAllLinearizable(80, {
      clients: 3,
      operations: 6,
      kinds: ['incr', 'incr', 'incr', 'get', 'put', 'del'],
      fault: (_operation, random) =>
        random() < 0.04
          ? (['refuse', 'lose-before', 'lose-after'] as const)[Math.floor(random() * 3)]
          : undefined,
    });
  });

  test('with the usual choice of slots', async () => {
    await expectAllLinearizable(80, { clients: 4, keys: 2, open: (context) => new Table(context) });
  });

  test('leases that end in the middle of operations', async () => {
    // Some 40 accesses in a term: every operation meets its end now and then.
    const runs = await expectAllLinearizable(80, { termMs: 10, stepNs: 250_000, clients: 3 });
    expect(runs.some(({ tables }) => tables.some((table) => table.stats().leaseRenewals > 0))).toBe(true);
  });

  test('blocks reused after the grace period', async () => {
    await expectAllLinearizable(50, { termMs: 10, stepNs: 50_000, operations: 9, clients: 3 });
  });

  test('accesses refused by the NIC', async () => {
    const runs = await expectAllLinearizable(50, {
      fault: (_operation, random) => (random() < 0.05 ? 'refuse' : undefined),
    });
    expect(codes(runs)).toEqual(new Set([undefined]));
    expect(runs.some(({ tables }) => tables.some((table) => table.stats().protectionFaults > 0))).toBe(true);
  });

  test('answers lost, before or after the execution', async () => {
    const runs = await expectAllLinearizable(80, {
      fault: (_operation, random) =>
        random() < 0.05 ? (random() < 0.5 ? 'lose-before' : 'lose-after') : undefined,
    });
    expect(codes(runs)).toContain('ERR_KV_OUTCOME_UNKNOWN');
  });
});

describe('the checks above catch a put', () => {
  test('that commits without looking at the buckets again', async () => {
    class Blind extends ScatteredPut {
      protected override findCandidates(withPending: boolean, except: number): void {
        super.findCandidates(withPending, except);
        if (except >= 0) this.candidateCount = 0;
      }
    }
    class BlindTable extends Table {
      protected override newPut(): Put {
        return new Blind(this.context);
      }
    }
    expect(await isCaught(600, { open: (context) => new BlindTable(context) })).toBe(true);
  });

  test('that looks only at committed slots', async () => {
    class Careless extends ScatteredPut {
      protected override findCandidates(withPending: boolean, except: number): void {
        super.findCandidates(withPending && except < 0, except);
      }
    }
    class CarelessTable extends Table {
      protected override newPut(): Put {
        return new Careless(this.context);
      }
    }
    expect(await isCaught(600, { open: (context) => new CarelessTable(context) })).toBe(true);
  });

  test('that takes a block for the one that the slot points to now', async () => {
    class Trusting extends Get {
      protected override guessedRight(slot: number): boolean {
        const { words } = this;
        return words[slot + 1] !== 0 && super.guessedRight(slot, words[slot]! | 0, words[slot + 1]! | 0);
      }
    }
    class TrustingTable extends Table {
      protected override newGet(): Get {
        return new Trusting(this.context);
      }
    }
    expect(await isCaught(600, { open: (context) => new TrustingTable(context) })).toBe(true);
  });

  test('that reuses replaced blocks at once', async () => {
    const open = (context: TableContext) => {
      context.allocator.retire = (offset, units) => {
        context.allocator.free(offset, units, context.allocator.cycle);
      };
      return new ScatteredTable(context);
    };
    expect(await isCaught(600, { open, operations: 9 })).toBe(true);
  });
});
