/** The public surface of the key-value store. Keys are 1..4096 bytes; values 0..maxValueBytes. */

/** Names one write of one key: never equal for two different writes. Opaque; a short string of [0-9a-f]. */
export type KvVersion = string;

export interface KvEntry {
  readonly value: Uint8Array;
  readonly version: KvVersion;
}

export interface PutOptions {
  /** Write only if the key is absent. */
  readonly ifAbsent?: boolean;
}

export interface PutResult {
  /** `refused`: ifAbsent was asked for and the key is there; nothing was written. */
  readonly outcome: 'created' | 'replaced' | 'refused';
  /** Of the value that is stored now: this write's, or with `refused` the one that is there. */
  readonly version: KvVersion;
}

export interface KvStats {
  readonly subtables: number;
  readonly slots: number;
  readonly gets: number;
  readonly puts: number;
  readonly dels: number;
  /** Subtables that this handle has split. */
  readonly splits: number;
  /** Operations begun again: a lost race, an ended lease. */
  readonly retries: number;
  /** Leases acquired again because their term was running out. */
  readonly leaseRenewals: number;
  /** Accesses that the NIC refused. */
  readonly protectionFaults: number;
}

/**
 * A key-value store. Bad arguments throw TypeError or RangeError; what can happen in operation rejects with a KvError
 * whose `code` is in KvErrorCode. The returned bytes belong to the caller; arguments are copied before the first await.
 */
export interface Kv extends AsyncDisposable {
  readonly maxKeyBytes: number;
  readonly maxValueBytes: number;
  get(key: Uint8Array): Promise<Uint8Array | undefined>;
  getEntry(key: Uint8Array): Promise<KvEntry | undefined>;
  has(key: Uint8Array): Promise<boolean>;
  put(key: Uint8Array, value: Uint8Array, options?: PutOptions): Promise<PutResult>;
  /** Whether the key was there. */
  del(key: Uint8Array): Promise<boolean>;
  stats(): KvStats;
  /** Waits for operations under way; later ones reject with ERR_KV_CLOSED. */
  close(): Promise<void>;
}

export const KvErrorCode = {
  /** The bucket pair that the key belongs in has no free slot. */
  TABLE_FULL: 'ERR_KV_TABLE_FULL',
  /** The memory node has no memory left for the block. */
  NO_MEMORY: 'ERR_KV_NO_MEMORY',
  /** The memory node can't be reached. */
  UNAVAILABLE: 'ERR_KV_UNAVAILABLE',
  /** Too many attempts lost against other writers or failing leases; nothing was changed. */
  CONTENTION: 'ERR_KV_CONTENTION',
  /** The outcome can't be known: the connection was lost after the request was sent. */
  OUTCOME_UNKNOWN: 'ERR_KV_OUTCOME_UNKNOWN',
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

export interface EmbeddedOptions {
  /** Bytes of the memory node, >= 4 MiB; the index takes about an eighth. Default 256 MiB. */
  readonly memoryBytes?: number;
}
