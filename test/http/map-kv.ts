import {
  type DelOptions,
  type Kv,
  type KvEntry,
  KvError,
  KvErrorCode,
  type KvStats,
  type PutOptions,
  type PutResult,
} from '../../kv/index.js';

/** A Kv over a JavaScript Map, for tests of the front end alone: it counts, and fails when told to. */
export class MapKv implements Kv {
  readonly maxKeyBytes = 4096;
  readonly maxValueBytes = 1 << 20;
  readonly #entries = new Map<string, KvEntry>();
  #lastVersion = 0;
  #closed = false;
  /** Thrown by every operation while it is set. */
  failure: unknown;
  /** Every operation waits for it before it begins. */
  gate: Promise<void> = Promise.resolve();
  gets = 0;
  puts = 0;
  dels = 0;

  async #begin(key: Uint8Array): Promise<string> {
    const name = Buffer.from(key).toString('latin1');
    if (name.length < 1 || name.length > this.maxKeyBytes) throw new RangeError('key length');
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
    if (this.#closed) throw new KvError(KvErrorCode.CLOSED, 'closed');
    return name;
  }

  async getEntry(key: Uint8Array): Promise<KvEntry | undefined> {
    const name = await this.#begin(key);
    this.gets++;
    const entry = this.#entries.get(name);
    return entry && { value: Uint8Array.from(entry.value), version: entry.version };
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return (await this.getEntry(key))?.value;
  }

  async has(key: Uint8Array): Promise<boolean> {
    return this.#entries.has(await this.#begin(key));
  }

  async put(key: Uint8Array, value: Uint8Array, options?: PutOptions): Promise<PutResult> {
    if (value.length > this.maxValueBytes) throw new RangeError('value length');
    const copy = Uint8Array.from(value);
    const name = await this.#begin(key);
    this.puts++;
    const old = this.#entries.get(name);
    const wanted = options?.ifVersion;
    if ((old && options?.ifAbsent) || (wanted !== undefined && old?.version !== wanted)) {
      return { outcome: 'refused', version: old?.version };
    }
    const version = (++this.#lastVersion).toString(16);
    this.#entries.set(name, { value: copy, version });
    return { outcome: old ? 'replaced' : 'created', version };
  }

  async del(key: Uint8Array, options?: DelOptions): Promise<boolean> {
    const name = await this.#begin(key);
    this.dels++;
    const wanted = options?.ifVersion;
    if (wanted !== undefined && this.#entries.get(name)?.version !== wanted) return false;
    return this.#entries.delete(name);
  }

  getMany(): never {
    throw new Error('not part of the double');
  }
  putMany(): never {
    throw new Error('not part of the double');
  }
  incr(): never {
    throw new Error('not part of the double');
  }
  scan(): never {
    throw new Error('not part of the double');
  }
  usage(): never {
    throw new Error('not part of the double');
  }

  stats(): KvStats {
    const { gets, puts, dels } = this;
    return {
      subtables: 0,
      slots: 0,
      gets,
      puts,
      dels,
      splits: 0,
      retries: 0,
      leaseRenewals: 0,
      protectionFaults: 0,
      collections: 0,
    };
  }

  get closed(): boolean {
    return this.#closed;
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
