import { createDistribution, type Distribution, Zipfian } from '../../loadgen/distribution.js';
import { Random } from '../../loadgen/random.js';
import type { BenchStore } from './stores.js';

/** Shares of YCSB's core workloads; what is left are updates. D reads what was inserted last, F writes what it has read. */
export const YCSB = {
  a: { read: 0.5, insert: 0, modify: 0 },
  b: { read: 0.95, insert: 0, modify: 0 },
  c: { read: 1, insert: 0, modify: 0 },
  d: { read: 0.95, insert: 0.05, modify: 0 },
  f: { read: 0.5, insert: 0, modify: 0.5 },
} as const;
export type YcsbName = keyof typeof YCSB;

/** Operations between two looks at the clock and turns of the event loop. */
export const TURN = 512;

export function keyOf(record: number): string {
  return `user${String(record).padStart(12, '0')}`;
}

/** One store's client of one workload: the same operations for every store, by the same seed. */
export class YcsbClient {
  readonly #store: BenchStore;
  readonly #mix: (typeof YCSB)[YcsbName];
  readonly #random = new Random(1);
  readonly #choice: Distribution;
  readonly #latest: Zipfian;
  readonly #value: Uint8Array;
  readonly #inFlight: number;
  /** Next record to insert, and how many are there for certain. */
  #records: number;
  #there: number;

  constructor(store: BenchStore, workload: YcsbName, records: number, valueBytes: number) {
    this.#store = store;
    this.#mix = YCSB[workload];
    this.#records = records;
    this.#there = records;
    this.#value = new Uint8Array(valueBytes).fill(0x76);
    this.#inFlight = store.inFlight;
    this.#choice = createDistribution('zipfian', records, this.#random);
    this.#latest = new Zipfian(records, this.#random);
  }

  /** Operations per second. Rejects if a record is missing. */
  async run(seconds: number): Promise<number> {
    const startMs = performance.now();
    const endMs = startMs + seconds * 1000;
    let nowMs = startMs;
    let operations = 0;
    while (nowMs < endMs) {
      await this.turn();
      operations += TURN;
      nowMs = performance.now();
    }
    return (operations * 1000) / (nowMs - startMs);
  }

  /** TURN operations and a turn of the event loop. */
  async turn(): Promise<void> {
    for (let i = 0; i < TURN; i += this.#inFlight) {
      if (this.#inFlight === 1) await this.#one();
      else await Promise.all(Array.from({ length: this.#inFlight }, () => this.#one()));
      this.#there = this.#records;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }

  #one(): unknown {
    const draw = this.#random.float();
    const { read, insert, modify } = this.#mix;
    if (insert > 0 && draw >= read) return this.#store.put(keyOf(this.#records++), this.#value);
    const record = insert > 0 ? this.#there - 1 - this.#latest.next() : this.#choice.next();
    const key = keyOf(record);
    if (draw < read) return this.#read(key);
    return modify > 0 ? this.#modify(key) : this.#store.put(key, this.#value);
  }

  async #read(key: string): Promise<void> {
    const length = await this.#store.get(key);
    if (length !== this.#value.length) throw new Error(`${this.#store.name}: ${key} is not as it was put`);
  }

  async #modify(key: string): Promise<void> {
    await this.#read(key);
    await this.#store.put(key, this.#value);
  }
}
