import type { Distribution } from './distribution.js';
import { KeyBuffer, type Keys } from './keys.js';
import type { Ledger } from './ledger.js';
import type { RunSettings } from './options.js';
import type { Slot } from './phase.js';
import type { Store } from './store.js';
import type { Tally } from './tally.js';
import { isIntact, runOf, sequenceOf, ValueWriter } from './values.js';
import type { Mix } from './workload.js';

const MAX_FINDINGS = 10;

/** What the operations of a run share. */
export interface Run {
  readonly store: Store;
  readonly settings: RunSettings;
  /** Marks the values of this run. */
  readonly id: number;
  readonly choice: Distribution;
  readonly mix: Mix;
  readonly keys: Keys;
  readonly ledger: Ledger;
  /** The first bad reads, in words. */
  readonly findings: string[];
  /** Records that the load phase has begun to write. */
  inserted: number;
}

interface Fault {
  readonly kind: 'misses' | 'corrupt' | 'stale';
  readonly what: string;
}

/** A slot with the two operations that there are, and their buffers. */
abstract class OperationSlot implements Slot {
  endMs = 0;
  protected readonly run: Run;
  readonly #key = new KeyBuffer();
  readonly #writer: ValueWriter;
  // The operation in flight.
  #tally: Tally | undefined;
  #reads = false;
  #record = 0;
  #startMs = 0;
  /** Of a read the floor, of a write the oldest: see Ledger. */
  #bound = 0;

  constructor(run: Run) {
    this.run = run;
    this.#writer = new ValueWriter(run.settings.valueBytes);
  }

  abstract begin(startMs: number): Promise<unknown>;

  protected read(record: number, tally: Tally, startMs: number): Promise<unknown> {
    const { keys, ledger, store } = this.run;
    this.#tally = tally;
    this.#reads = true;
    this.#record = record;
    this.#bound = ledger.floor(record);
    keys.copy(record, this.#key);
    this.#startMs = startMs || performance.now();
    return store.get(this.#key.bytes);
  }

  protected write(record: number, tally: Tally, startMs: number): Promise<unknown> {
    const { keys, ledger, store, id } = this.run;
    this.#tally = tally;
    this.#reads = false;
    this.#record = record;
    const value = this.#writer.make(record, id, ledger.begin(record));
    this.#bound = ledger.oldest(record);
    keys.copy(record, this.#key);
    this.#startMs = startMs || performance.now();
    return store.put(this.#key.bytes, value);
  }

  succeeded(answer: unknown): void {
    this.endMs = performance.now();
    const latencyNs = Math.round((this.endMs - this.#startMs) * 1e6);
    if (this.#reads) {
      this.#verify(answer as Uint8Array | undefined, latencyNs);
    } else {
      this.run.ledger.succeeded(this.#record, this.#bound);
      this.#tally!.succeeded(latencyNs);
    }
  }

  failed(error: unknown): void {
    this.endMs = performance.now();
    this.#tally!.failed(error);
  }

  #verify(value: Uint8Array | undefined, latencyNs: number): void {
    const fault = this.#faultOf(value);
    if (fault === undefined) {
      this.#tally!.succeeded(latencyNs);
      return;
    }
    this.#tally![fault.kind] += 1;
    const { findings, keys } = this.run;
    if (findings.length >= MAX_FINDINGS) return;
    keys.copy(this.#record, this.#key);
    findings.push(`${Buffer.from(this.#key.bytes).toString('latin1')}: ${fault.kind}: ${fault.what}`);
  }

  #faultOf(value: Uint8Array | undefined): Fault | undefined {
    if (value === undefined) return { kind: 'misses', what: 'not found' };
    if (!isIntact(this.#record, value)) {
      return { kind: 'corrupt', what: `${value.length} bytes that were never written for this key` };
    }
    const { id, settings, ledger } = this.run;
    const sequence = sequenceOf(value);
    if (runOf(value) !== id) {
      // Without a load phase other runs may be writing too, and their values are as good as this run's.
      if (!settings.load || this.#bound === 0) return undefined;
      return { kind: 'stale', what: 'a value of another run, which this run had replaced' };
    }
    if (sequence > ledger.issued(this.#record)) {
      return { kind: 'corrupt', what: `write ${sequence}, which was never sent` };
    }
    if (sequence < this.#bound) {
      return { kind: 'stale', what: `write ${sequence}, which a later, acknowledged one had replaced` };
    }
    return undefined;
  }
}

/** The load phase: one record after the other. */
export class InsertSlot extends OperationSlot {
  readonly #inserts: Tally;

  constructor(run: Run, inserts: Tally) {
    super(run);
    this.#inserts = inserts;
  }

  begin(startMs: number): Promise<unknown> {
    const record = this.run.inserted;
    this.run.inserted += 1;
    return this.write(record, this.#inserts, startMs);
  }
}

/** The run phase: the workload's mix on the records that the distribution chooses. */
export class WorkloadSlot extends OperationSlot {
  readonly #reads: Tally;
  readonly #updates: Tally;

  constructor(run: Run, reads: Tally, updates: Tally) {
    super(run);
    this.#reads = reads;
    this.#updates = updates;
  }

  begin(startMs: number): Promise<unknown> {
    const { choice, mix } = this.run;
    const record = choice.next();
    return mix.nextIsRead()
      ? this.read(record, this.#reads, startMs)
      : this.write(record, this.#updates, startMs);
  }
}
