/** The public surface of the key-value store. Keys are 1..4096 bytes; values 0..maxValueBytes. */

/**
 * Names one state of one key: a token that was handed out for a value never matches a later one again. Opaque; a short
 * string of [0-9a-f.].
 */
export type KvVersion = string;

export interface KvEntry {
  readonly value: Uint8Array;
  readonly version: KvVersion;
  /** What was put with the value, if anything was. */
  readonly meta?: Uint8Array;
  /** When the key expires, ms since 1970, if it does. */
  readonly expiresAtMs?: number;
}

export interface PutOptions {
  /** Write only if the key is absent. */
  readonly ifAbsent?: boolean;
  /** Write only if the key's value is the one that this version names. Never matches a counter. */
  readonly ifVersion?: KvVersion;
  /**
   * The key is absent once so many ms (>= 1) have passed, by the clocks of the hosts that use it. Default: it stays; a put
   * without it also ends what an earlier one has asked for.
   */
  readonly ttlMs?: number;
  /** Up to 255 bytes that getEntry() returns with the value, for what the value means (a content type). */
  readonly meta?: Uint8Array;
}

/** `refused`: the condition did not hold; nothing was written. */
export type PutResult =
  | { readonly outcome: 'created' | 'replaced'; readonly version: KvVersion }
  /** The version of what is there; undefined: the key is absent. */
  | { readonly outcome: 'refused'; readonly version: KvVersion | undefined };

export interface DelOptions {
  /** Delete only the value that this version names. Never matches a counter. */
  readonly ifVersion?: KvVersion;
}

export interface PutRequest {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly options?: PutOptions;
}

export interface ScanOptions {
  /** Where the last page ended. Default: the beginning. */
  readonly cursor?: string;
  /** Only keys that begin with these bytes. */
  readonly prefix?: Uint8Array;
  /** A page ends when it has so many keys or a few more; 1 to 10,000, default 100. */
  readonly limit?: number;
}

export interface ScanPage {
  readonly keys: Uint8Array[];
  /** For the next page; undefined: this was the last. A page can be empty and not be the last. */
  readonly cursor: string | undefined;
}

/** What is in the table, all clients' work. */
export interface KvUsage {
  readonly records: number;
  /** Of the blocks of all records: keys, values, headers, rounded up to 64. */
  readonly bytes: number;
  /** Of all subtables and the directory. */
  readonly indexBytes: number;
  readonly subtables: number;
  readonly slots: number;
  /** Slots in use over all slots. */
  readonly loadFactor: number;
}

export interface KvStats {
  readonly subtables: number;
  readonly slots: number;
  readonly gets: number;
  readonly puts: number;
  readonly dels: number;
  /** Subtables that this handle has split. */
  readonly splits: number;
  /** Attempts of operations, and steps of splits and scans, that were made again: a lost race, an ended lease. */
  readonly retries: number;
  /** Leases acquired again: their term was running out or had ended, or the NIC refused an access under them. */
  readonly leaseRenewals: number;
  /** Of those, and of steps of splits and scans: how many the NIC has ended by refusing an access. */
  readonly protectionFaults: number;
  /** Collections of memory that clients had when they died, brought to their end by this handle. */
  readonly collections: number;
}

/**
 * A key-value store. Bad arguments throw TypeError or RangeError; what can happen in operation rejects with a KvError
 * whose `code` is in KvErrorCode. The returned bytes belong to the caller; arguments are copied before the first await.
 *
 * A store may lie on several memory nodes; each key is on one of them, for good. While a node can't be used, operations on its
 * keys reject with ERR_KV_UNAVAILABLE and the others go on; they work again, with the same handle, when the node can be reached
 * again. A node that has started anew has lost its keys: they are absent then.
 */
export interface Kv extends AsyncDisposable {
  readonly maxKeyBytes: number;
  readonly maxValueBytes: number;
  get(key: Uint8Array): Promise<Uint8Array | undefined>;
  getEntry(key: Uint8Array): Promise<KvEntry | undefined>;
  has(key: Uint8Array): Promise<boolean>;
  put(key: Uint8Array, value: Uint8Array, options?: PutOptions): Promise<PutResult>;
  /** Whether the key was there, and the condition held: what is deleted was. */
  del(key: Uint8Array, options?: DelOptions): Promise<boolean>;
  /**
   * As get() of each key; the reads of many keys share their rounds. Rejects if one of them fails, so also if one of several
   * memory nodes can't be used.
   */
  getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]>;
  /**
   * As put() of each; in no order, not atomic. Rejects with the failure of one of them if any fails, when all have ended: those
   * on other memory nodes have been written.
   */
  putMany(requests: readonly PutRequest[]): Promise<PutResult[]>;
  /**
   * Add to a counter, a signed 64-bit number that wraps around, and return what it is then. Additions of any number of
   * clients at the same time all count. An absent key begins at 0. As a value a counter is its decimal digits; its
   * version changes with it. Rejects with ERR_KV_NOT_A_COUNTER if the key holds what was put() there.
   */
  incr(key: Uint8Array, delta?: number | bigint): Promise<bigint>;
  /**
   * Walk over the keys, page by page, in no order. A key that is there from the first page to the last is found, whatever else
   * happens meanwhile; it may be found more than once if the table grows. A page costs a bounded number of
   * reads. Rejects with a RangeError for what is no cursor, with ERR_KV_UNAVAILABLE while the memory node that the page
   * is on can't be used.
   */
  scan(options?: ScanOptions): Promise<ScanPage>;
  /** Reads the whole index: 8 bytes and more for each record. Rejects while a memory node can't be used. */
  usage(): Promise<KvUsage>;
  /** This handle's own figures. */
  stats(): KvStats;
  /** Waits for operations under way; later ones reject with ERR_KV_CLOSED. */
  close(): Promise<void>;
}

export const KvErrorCode = {
  /** The index can't grow any further. */
  TABLE_FULL: 'ERR_KV_TABLE_FULL',
  /** The memory node has no memory left for the block. */
  NO_MEMORY: 'ERR_KV_NO_MEMORY',
  /** The memory node can't be reached. */
  UNAVAILABLE: 'ERR_KV_UNAVAILABLE',
  /** Too many attempts lost against other writers or failing leases; nothing was changed. */
  CONTENTION: 'ERR_KV_CONTENTION',
  /** The outcome can't be known: the connection was lost after the request was sent. */
  OUTCOME_UNKNOWN: 'ERR_KV_OUTCOME_UNKNOWN',
  /** incr() of a key whose value was put(). */
  NOT_A_COUNTER: 'ERR_KV_NOT_A_COUNTER',
  CLOSED: 'ERR_KV_CLOSED',
  /** The memory does not hold a table of this version. */
  BAD_TABLE: 'ERR_KV_BAD_TABLE',
} as const;
export type KvErrorCode = (typeof KvErrorCode)[keyof typeof KvErrorCode];

export class KvError extends Error {
  readonly code: KvErrorCode;
  constructor(code: KvErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'KvError';
    this.code = code;
  }
}

/**
 * How a handle's accesses are protected; to measure what protection costs.
 * `region`: memory windows, one to read everything, one to write each subtable and each piece of 2 MiB for blocks.
 * `block`: as region, but every block is read under a lease of its own.
 * `mr`: as region, with memory regions in place of windows.
 * `none`: with the key of all memory, which the memory node has to give away (`bypass`).
 */
export type KvProtection = 'region' | 'block' | 'mr' | 'none';

export interface OpenOptions {
  /** Default `region`. */
  readonly protection?: KvProtection;
}

/** For opening a store that is made if it is not there. */
export interface StoreOptions extends OpenOptions {
  /** Of a store that is made: the largest value, at most 64 MiB, default 16 MiB. One that is there keeps its own. */
  readonly maxValueBytes?: number;
}

/** Where the memory is: one of the two ways. */
export interface RemoteOptions extends StoreOptions {
  /** Addresses of memory nodes of other processes, such as `unix:PATH`; their ids differ. */
  readonly memoryNode?: string | readonly string[];
  /** HOST:PORT of a memcached that keeps the members of a cluster: all its memory nodes. */
  readonly memcached?: string;
  /** With memcached. Default `patronus`. */
  readonly cluster?: string;
}

export interface EmbeddedOptions extends StoreOptions {
  /** Memory nodes, 1 to 16, each with a thread and an equal part of the memory. Default 1. */
  readonly memoryNodes?: number;
  /** Bytes of all memory nodes together, >= 4 MiB for each. Default 256 MiB. */
  readonly memoryBytes?: number;
}
