import { randomInt } from 'node:crypto';
import { createDistribution } from './distribution.js';
import { Keys } from './keys.js';
import { Ledger } from './ledger.js';
import { type RunOptions, type RunSettings, settingsOf } from './options.js';
import { Phase } from './phase.js';
import { Random } from './random.js';
import type { RunResult } from './result.js';
import { InsertSlot, type Run, WorkloadSlot } from './slots.js';
import type { Store } from './store.js';
import { Mix } from './workload.js';

/**
 * Loads the records, then runs the workload. Rejects with a RangeError for options out of range; whatever the store
 * does wrong is in the result. One operation after the other is chosen from the seed; which of them overlap is up to
 * the store.
 */
export async function runWorkload(options: RunOptions): Promise<RunResult> {
  const settings = settingsOf(options);
  const signal = options.signal ?? new AbortController().signal;
  const run = createRun(settings, options.store);
  const base = { settings, findings: run.findings };
  const limits = { concurrency: settings.concurrency, signal, onProgress: options.onProgress };

  let load: Phase | undefined;
  if (settings.load) {
    load = new Phase({ ...limits, name: 'load', operations: settings.records });
    const inserts = load.tally('insert');
    await load.execute(() => new InsertSlot(run, inserts));
    if (load.failures > 0 || signal.aborted) {
      return { ...base, ok: load.failures === 0, interrupted: signal.aborted, load: load.result() };
    }
  }

  const phase = new Phase({
    ...limits,
    name: 'run',
    operations: settings.operations ?? Number.POSITIVE_INFINITY,
    seconds: settings.seconds ?? Number.POSITIVE_INFINITY,
    rate: settings.rate,
  });
  const reads = phase.tally('read');
  const updates = phase.tally('update');
  await phase.execute(() => new WorkloadSlot(run, reads, updates));
  return {
    ...base,
    ok: phase.failures === 0,
    interrupted: signal.aborted,
    ...(load && { load: load.result() }),
    run: phase.result(),
  };
}

function createRun(settings: RunSettings, store: Store): Run {
  const random = new Random(settings.seed);
  return {
    store,
    settings,
    // Not from the seed: the same run a second time writes other values.
    id: randomInt(1, 2 ** 32),
    choice: createDistribution(settings.distribution, settings.records, random),
    mix: new Mix(settings.workload, random),
    keys: new Keys(settings.records),
    ledger: new Ledger(settings.records),
    findings: [],
    inserted: 0,
  };
}
