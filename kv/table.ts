import type { Batch, PatronusClient } from '../patronus/index.js';
import {
  type DelOptions,
  type Kv,
  type KvEntry,
  KvError,
  KvErrorCode,
  type KvProtection,
  type KvStats,
  type KvUsage,
  type KvVersion,
  type OpenOptions,
  type PutOptions,
  type PutRequest,
  type PutResult,
  type ScanOptions,
  type ScanPage,
} from './api.js';
import { MAX_META_BYTES } from './block.js';
import { TableContext } from './context.js';
import { Del } from './del.js';
import { toKvError } from './errors.js';
import { Get } from './get.js';
import { Incr } from './incr.js';
import { MAX_KEY_BYTES, SLOTS_PER_GROUP } from './layout.js';
import { GetGroup, GROUP, GROUPS, runTogether, SINGLES, Single } from './many.js';
import { DONE, type Operation, type Step } from './operation.js';
import { realPacing } from './pacing.js';
import { Put } from './put.js';
import { measure, scanPage } from './scan.js';
import { Sweeper } from './sweeper.js';

/** Operations under way at a time; more wait for their turn, with copies of their arguments. */
const MAX_UNDER_WAY = 1024;
const PROTECTIONS: readonly KvProtection[] = ['region', 'block', 'mr', 'none'];
/** Some 3000 years: dates stay below 2^48 ms. */
const MAX_TTL_MS = 1e14;

/** Throws for what is no key. */
export function checkKey(key: Uint8Array): void {
  if (!(key instanceof Uint8Array)) throw new TypeError('key must be a Uint8Array');
  if (key.length < 1 || key.length > MAX_KEY_BYTES) {
    throw new RangeError(`a key has 1 to ${MAX_KEY_BYTES} bytes, not ${key.length}`);
  }
}

function checkVersion(version: KvVersion): void {
  if (typeof version !== 'string') throw new TypeError('ifVersion must be a string');
}

function checkOptions({ ifVersion, ifAbsent, ttlMs, meta }: PutOptions): void {
  if (ifVersion !== undefined) {
    checkVersion(ifVersion);
    if (ifAbsent) throw new TypeError('ifAbsent and ifVersion exclude each other');
  }
  if (ttlMs !== undefined && !(Number.isInteger(ttlMs) && ttlMs >= 1 && ttlMs <= MAX_TTL_MS)) {
    throw new RangeError(`ttlMs must be an integer from 1 to ${MAX_TTL_MS}, not ${ttlMs}`);
  }
  if (meta === undefined) return;
  if (!(meta instanceof Uint8Array)) throw new TypeError('meta must be a Uint8Array');
  if (meta.length > MAX_META_BYTES) {
    throw new RangeError(`meta has at most ${MAX_META_BYTES} bytes, not ${meta.length}`);
  }
}

/** A handle on a table; the operations themselves are in the classes of their names. */
export class Table implements Kv {
  readonly maxKeyBytes = MAX_KEY_BYTES;
  readonly maxValueBytes: number;
  readonly context: TableContext;
  readonly #freeGets: Get[] = [];
  readonly #freePuts: Put[] = [];
  readonly #freeDels: Del[] = [];
  readonly #freeIncrs: Incr[] = [];
  readonly #sweeper: Sweeper;
  readonly #freeBatches: Batch[] = [];
  /** Beginnings of the operations that wait, from #nextWaiting on. */
  #waiting: (() => void)[] = [];
  #nextWaiting = 0;
  #beginning = false;
  #underWay = 0;
  #gets = 0;
  #puts = 0;
  #dels = 0;
  #idle: (() => void) | undefined;
  readonly #onUnavailable: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  /** `onUnavailable` is called whenever an operation fails because the memory node can't be used. */
  constructor(context: TableContext, onUnavailable?: () => void) {
    this.context = context;
    this.#onUnavailable = onUnavailable;
    this.maxValueBytes = context.superblock.maxValueBytes;
    this.#sweeper = new Sweeper(context, (key) => this.sweep(key));
  }

  get(key: Uint8Array): Promise<Uint8Array | undefined> {
    checkKey(key);
    this.#gets++;
    if (this.#mustWait) {
      const copy = key.slice();
      return this.#later(() => this.#get(copy, false, valueIn));
    }
    return this.#get(key, false, valueIn);
  }

  getEntry(key: Uint8Array): Promise<KvEntry | undefined> {
    checkKey(key);
    this.#gets++;
    if (this.#mustWait) {
      const copy = key.slice();
      return this.#later(() => this.#get(copy, false, entryIn));
    }
    return this.#get(key, false, entryIn);
  }

  has(key: Uint8Array): Promise<boolean> {
    checkKey(key);
    this.#gets++;
    if (this.#mustWait) {
      const copy = key.slice();
      return this.#later(() => this.#get(copy, true, presenceIn));
    }
    return this.#get(key, true, presenceIn);
  }

  put(key: Uint8Array, value: Uint8Array, options?: PutOptions): Promise<PutResult> {
    this.#checkPut(key, value, options);
    this.#puts++;
    if (this.#mustWait) {
      const copy = copyOf(options === undefined ? { key, value } : { key, value, options });
      return this.#later(() => this.#put(copy.key, copy.value, copy.options));
    }
    return this.#put(key, value, options);
  }

  del(key: Uint8Array, options?: DelOptions): Promise<boolean> {
    checkKey(key);
    const ifVersion = options?.ifVersion;
    if (ifVersion !== undefined) checkVersion(ifVersion);
    this.#dels++;
    if (this.#mustWait) {
      const copy = key.slice();
      return this.#later(() => this.#del(copy, ifVersion, false));
    }
    return this.#del(key, ifVersion, false);
  }

  async getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]> {
    for (const key of keys) checkKey(key);
    const results: (Uint8Array | undefined | Promise<Uint8Array | undefined>)[] = new Array(keys.length);
    let from = 0;
    let rest = keys;
    const next = (): GetGroup | undefined => {
      while (from < keys.length) {
        const first = from;
        from = Math.min(first + GROUP, keys.length);
        if (!this.#mustWait && this.#underWay + GROUP <= MAX_UNDER_WAY) {
          return this.#getGroup(rest, first, from, results);
        }
        for (let i = first; i < from; i++) results[i] = heldBack(this.get(rest[i]!));
      }
      return undefined;
    };
    // The caller may change the keys as soon as this function waits for anything.
    await runTogether(GROUPS, next, () => {
      if (rest === keys && from < keys.length) rest = keys.map((key) => key.slice());
    });
    return Promise.all(results);
  }

  async putMany(requests: readonly PutRequest[]): Promise<PutResult[]> {
    for (const { key, value, options } of requests) this.#checkPut(key, value, options);
    const pool = this.#freePuts;
    const results: Promise<PutResult>[] = new Array(requests.length);
    let from = 0;
    let rest = requests;
    const next = (): Single | undefined => {
      while (from < requests.length && this.#mustWait) {
        const { key, value, options } = rest[from]!;
        results[from++] = heldBack(this.put(key, value, options));
      }
      if (from === requests.length) return undefined;
      const index = from++;
      const { key, value, options } = rest[index]!;
      this.#puts++;
      const operation = pool.pop() ?? this.newPut();
      operation.start(key, value, options);
      this.#underWay++;
      return new Single(operation, (step) => {
        results[index] = heldBack(this.#goOn(operation, resultOfPut, pool, step));
      });
    };
    await runTogether(SINGLES, next, () => {
      if (rest === requests && from < requests.length) rest = requests.map(copyOf);
    });
    const settled = await Promise.allSettled(results);
    return settled.map((result) => {
      if (result.status === 'rejected') throw result.reason;
      return result.value;
    });
  }

  incr(key: Uint8Array, delta: number | bigint = 1): Promise<bigint> {
    checkKey(key);
    if (typeof delta !== 'bigint' && !Number.isSafeInteger(delta)) {
      throw new TypeError('delta must be an integer');
    }
    const addend = BigInt(delta);
    this.#puts++;
    if (this.#mustWait) {
      const copy = key.slice();
      return this.#later(() => this.#incr(copy, addend));
    }
    return this.#incr(key, addend);
  }

  async scan(options: ScanOptions = {}): Promise<ScanPage> {
    const page = await this.#walking(() => scanPage(this.context, options));
    return { keys: page.keys, cursor: page.cursor };
  }

  usage(): Promise<KvUsage> {
    return this.#walking(() => measure(this.context));
  }

  stats(): KvStats {
    const { context } = this;
    const { subtables } = context.directory;
    return {
      subtables,
      slots: subtables * context.superblock.groups * SLOTS_PER_GROUP,
      gets: this.#gets,
      puts: this.#puts,
      dels: this.#dels,
      splits: context.splitter.splits,
      retries: context.retries,
      leaseRenewals: context.keeper.renewals,
      protectionFaults: context.protectionFaults,
      collections: context.collector.collections,
    };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Removes the key if it has expired. */
  protected sweep(key: Uint8Array): Promise<boolean> {
    return this.#del(key, undefined, true);
  }

  protected newGet(): Get {
    return new Get(this.context);
  }

  protected newPut(): Put {
    return new Put(this.context);
  }

  async #close(): Promise<void> {
    if (this.#underWay > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await this.#sweeper.close();
    await this.context.splitter.settled();
    await this.context.collector.stop();
    for (const pool of [this.#freeGets, this.#freePuts, this.#freeDels, this.#freeIncrs]) {
      for (const operation of pool.splice(0)) operation.dispose();
    }
    await this.context.allocator.close();
    await this.context.collector.leave();
    await this.context.keeper.close();
  }

  #checkPut(key: Uint8Array, value: Uint8Array, options: PutOptions | undefined): void {
    checkKey(key);
    if (!(value instanceof Uint8Array)) throw new TypeError('value must be a Uint8Array');
    if (value.length > this.maxValueBytes) {
      throw new RangeError(`a value has at most ${this.maxValueBytes} bytes, not ${value.length}`);
    }
    if (options !== undefined) checkOptions(options);
  }

  get #mustWait(): boolean {
    return this.#underWay >= MAX_UNDER_WAY || this.#closing !== undefined;
  }

  /** Rejects when closed. */
  #later<T>(begin: () => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) {
      return Promise.reject(new KvError(KvErrorCode.CLOSED, 'The store is closed'));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push(() => {
        try {
          resolve(begin());
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  #get<T>(key: Uint8Array, presenceOnly: boolean, resultOf: (operation: Get) => T): Promise<T> {
    const operation = this.#freeGets.pop() ?? this.newGet();
    operation.start(key, presenceOnly);
    return this.#run(operation, resultOf, this.#freeGets);
  }

  #put(key: Uint8Array, value: Uint8Array, options: PutOptions | undefined): Promise<PutResult> {
    const operation = this.#freePuts.pop() ?? this.newPut();
    operation.start(key, value, options);
    return this.#run(operation, resultOfPut, this.#freePuts);
  }

  #del(key: Uint8Array, ifVersion: KvVersion | undefined, onlyExpired: boolean): Promise<boolean> {
    const operation = this.#freeDels.pop() ?? new Del(this.context);
    operation.start(key, ifVersion, onlyExpired);
    return this.#run(operation, resultOfDel, this.#freeDels);
  }

  #incr(key: Uint8Array, delta: bigint): Promise<bigint> {
    const operation = this.#freeIncrs.pop() ?? new Incr(this.context);
    operation.startIncr(key, delta);
    return this.#run(operation, resultOfIncr, this.#freeIncrs);
  }

  /** Gets of some keys that share batches. What becomes of each is in `results` when it is known. */
  #getGroup(
    keys: readonly Uint8Array[],
    from: number,
    to: number,
    results: (Uint8Array | undefined | Promise<Uint8Array | undefined>)[],
  ): GetGroup {
    const pool = this.#freeGets;
    const gets: Get[] = [];
    for (let i = from; i < to; i++) {
      const operation = pool.pop() ?? this.newGet();
      operation.start(keys[i]!, false);
      gets.push(operation);
    }
    this.#underWay += gets.length;
    this.#gets += gets.length;
    const batch = this.#freeBatches.pop() ?? this.context.client.createBatch();
    let left = gets.length;
    return new GetGroup(gets, batch, (operation, step) => {
      results[from + gets.indexOf(operation)] =
        step === DONE ? this.#taken(operation) : heldBack(this.#goOn(operation, valueIn, pool, step));
      if (--left === 0) this.#freeBatches.push(batch);
    });
  }

  /** The value of a get that has come to its end. */
  #taken(operation: Get): Uint8Array | undefined {
    try {
      return valueIn(operation);
    } finally {
      this.#end(operation, this.#freeGets);
    }
  }

  async #walking<T>(walk: () => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) throw new KvError(KvErrorCode.CLOSED, 'The store is closed');
    this.#underWay++;
    try {
      return await walk();
    } catch (error) {
      throw this.#noted(toKvError(error));
    } finally {
      this.#oneLess();
    }
  }

  /** Runs an operation as far as it goes without waiting: mostly to its end. */
  #run<O extends Operation, T>(operation: O, resultOf: (operation: O) => T, pool: O[]): Promise<T> {
    this.#underWay++;
    let step: Step;
    try {
      step = operation.begin();
    } catch (error) {
      const reason = this.#noted(operation.failure(error));
      this.#end(operation, pool);
      return Promise.reject(reason);
    }
    return this.#goOn(operation, resultOf, pool, step);
  }

  #goOn<O extends Operation, T>(
    operation: O,
    resultOf: (operation: O) => T,
    pool: O[],
    first: Step,
  ): Promise<T> {
    let failed = false;
    let result: unknown;
    try {
      let step = first;
      while (step !== DONE) {
        if (typeof step !== 'number') return this.#runOn(operation, resultOf, pool, step);
        step = operation.step(step);
      }
      result = resultOf(operation);
    } catch (error) {
      failed = true;
      result = this.#noted(operation.failure(error));
    }
    this.#end(operation, pool);
    return failed ? Promise.reject(result) : Promise.resolve(result as T);
  }

  async #runOn<O extends Operation, T>(
    operation: O,
    resultOf: (operation: O) => T,
    pool: O[],
    first: Step,
  ): Promise<T> {
    try {
      let step = first;
      while (step !== DONE) {
        step = typeof step === 'number' ? operation.step(step) : operation.stepAfterWait(await step);
      }
      return resultOf(operation);
    } catch (error) {
      throw this.#noted(operation.failure(error));
    } finally {
      this.#end(operation, pool);
    }
  }

  /** What callers see. */
  #noted(error: unknown): unknown {
    if (error instanceof KvError && error.code === KvErrorCode.UNAVAILABLE) this.#onUnavailable?.();
    return error;
  }

  #end<O extends Operation>(operation: O, pool: O[]): void {
    operation.finish();
    pool.push(operation);
    if (this.context.expirySeen) this.#sweeper.wake();
    this.#oneLess();
  }

  #oneLess(): void {
    this.#underWay--;
    if (this.#waiting.length > 0) this.#beginWaiting();
    if (this.#underWay === 0) this.#idle?.();
  }

  /** An operation begun here may end here too: the loop, not the recursion, takes the next one then. */
  #beginWaiting(): void {
    if (this.#beginning) return;
    this.#beginning = true;
    while (this.#underWay < MAX_UNDER_WAY && this.#nextWaiting < this.#waiting.length) {
      this.#waiting[this.#nextWaiting++]!();
    }
    this.#beginning = false;
    if (this.#nextWaiting < this.#waiting.length) return;
    this.#waiting = [];
    this.#nextWaiting = 0;
  }
}

function copyOf({ key, value, options }: PutRequest): PutRequest {
  const copy = { key: key.slice(), value: value.slice() };
  if (options === undefined) return copy;
  return {
    ...copy,
    options: options.meta === undefined ? options : { ...options, meta: options.meta.slice() },
  };
}

/** A promise that is looked at later: until then its rejection is not an unhandled one. */
function heldBack<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

function valueIn(operation: Get): Uint8Array | undefined {
  return operation.found ? operation.value() : undefined;
}

function entryIn(operation: Get): KvEntry | undefined {
  return operation.found ? operation.entry() : undefined;
}

function presenceIn(operation: Get): boolean {
  return operation.found;
}

function resultOfPut(operation: Put): PutResult {
  return operation.result();
}

function resultOfIncr(operation: Incr): bigint {
  return operation.sum();
}

function resultOfDel(operation: Del): boolean {
  return operation.existed;
}

/**
 * Opens the table in the memory of the client's first node, and of no other node. The Patronus client stays the caller's, to be
 * closed after the store. Rejects with ERR_KV_BAD_TABLE if there is no table of this version,
 * with a RangeError for a protection that does not exist.
 */
export function openTable(client: PatronusClient, options: OpenOptions = {}): Promise<Kv> {
  return openShard(client, options);
}

/** The same for a store that wants to know when the memory node can't be used. */
export async function openShard(
  client: PatronusClient,
  options: OpenOptions,
  onUnavailable?: () => void,
): Promise<Table> {
  const protection = options.protection ?? 'region';
  if (!PROTECTIONS.includes(protection)) {
    throw new RangeError(`protection must be one of ${PROTECTIONS.join(', ')}, not ${protection}`);
  }
  try {
    return new Table(await TableContext.open(client, realPacing, protection), onUnavailable);
  } catch (error) {
    throw toKvError(error);
  }
}
