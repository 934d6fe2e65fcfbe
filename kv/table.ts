import type { PatronusClient } from '../patronus/index.js';
import {
  type Kv,
  type KvEntry,
  KvError,
  KvErrorCode,
  type KvStats,
  type PutOptions,
  type PutResult,
} from './api.js';
import { TableContext } from './context.js';
import { Del } from './del.js';
import { toKvError } from './errors.js';
import { Get } from './get.js';
import { MAX_KEY_BYTES, SLOTS_PER_GROUP } from './layout.js';
import { DONE, type Operation, type Step } from './operation.js';
import { realPacing } from './pacing.js';
import { Put } from './put.js';

/** Operations under way at a time; more wait for their turn, with copies of their arguments. */
const MAX_UNDER_WAY = 1024;

function checkKey(key: Uint8Array): void {
  if (!(key instanceof Uint8Array)) throw new TypeError('key must be a Uint8Array');
  if (key.length < 1 || key.length > MAX_KEY_BYTES) {
    throw new RangeError(`a key has 1 to ${MAX_KEY_BYTES} bytes, not ${key.length}`);
  }
}

/** A handle on a table; the operations themselves are in the classes of their names. */
export class Table implements Kv {
  readonly maxKeyBytes = MAX_KEY_BYTES;
  readonly maxValueBytes: number;
  protected readonly context: TableContext;
  readonly #freeGets: Get[] = [];
  readonly #freePuts: Put[] = [];
  readonly #freeDels: Del[] = [];
  /** Beginnings of the operations that wait, from #nextWaiting on. */
  #waiting: (() => void)[] = [];
  #nextWaiting = 0;
  #beginning = false;
  #underWay = 0;
  #gets = 0;
  #puts = 0;
  #dels = 0;
  #idle: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  constructor(context: TableContext) {
    this.context = context;
    this.maxValueBytes = context.superblock.maxValueBytes;
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
    checkKey(key);
    if (!(value instanceof Uint8Array)) throw new TypeError('value must be a Uint8Array');
    if (value.length > this.maxValueBytes) {
      throw new RangeError(`a value has at most ${this.maxValueBytes} bytes, not ${value.length}`);
    }
    const ifAbsent = options?.ifAbsent === true;
    this.#puts++;
    if (this.#mustWait) {
      const keyCopy = key.slice();
      const valueCopy = value.slice();
      return this.#later(() => this.#put(keyCopy, valueCopy, ifAbsent));
    }
    return this.#put(key, value, ifAbsent);
  }

  del(key: Uint8Array): Promise<boolean> {
    checkKey(key);
    this.#dels++;
    if (this.#mustWait) {
      const copy = key.slice();
      return this.#later(() => this.#del(copy));
    }
    return this.#del(key);
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
    };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
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
    for (const pool of [this.#freeGets, this.#freePuts, this.#freeDels]) {
      for (const operation of pool.splice(0)) operation.dispose();
    }
    await this.context.keeper.close();
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

  #put(key: Uint8Array, value: Uint8Array, ifAbsent: boolean): Promise<PutResult> {
    const operation = this.#freePuts.pop() ?? this.newPut();
    operation.start(key, value, ifAbsent);
    return this.#run(operation, resultOfPut, this.#freePuts);
  }

  #del(key: Uint8Array): Promise<boolean> {
    const operation = this.#freeDels.pop() ?? new Del(this.context);
    operation.start(key);
    return this.#run(operation, resultOfDel, this.#freeDels);
  }

  /** Runs an operation as far as it goes without waiting: mostly to its end. */
  #run<O extends Operation, T>(operation: O, resultOf: (operation: O) => T, pool: O[]): Promise<T> {
    this.#underWay++;
    let failed = false;
    let result: unknown;
    try {
      let step = operation.begin();
      while (step !== DONE) {
        if (typeof step !== 'number') return this.#runOn(operation, resultOf, pool, step);
        step = operation.step(step);
      }
      result = resultOf(operation);
    } catch (error) {
      failed = true;
      result = operation.failure(error);
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
      while (step !== DONE) step = operation.step(typeof step === 'number' ? step : await step);
      return resultOf(operation);
    } catch (error) {
      throw operation.failure(error);
    } finally {
      this.#end(operation, pool);
    }
  }

  #end<O extends Operation>(operation: O, pool: O[]): void {
    operation.finish();
    pool.push(operation);
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

function resultOfDel(operation: Del): boolean {
  return operation.existed;
}

/**
 * Opens the table in the memory of the client's first node. The Patronus client stays the caller's, to be closed after the
 * store. Rejects with ERR_KV_BAD_TABLE if there is no table of this version.
 */
export async function openTable(client: PatronusClient): Promise<Kv> {
  try {
    return new Table(await TableContext.open(client, realPacing));
  } catch (error) {
    throw toKvError(error);
  }
}
