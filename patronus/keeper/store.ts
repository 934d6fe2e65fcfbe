/**
 * Where a keeper keeps things: bytes by key, with an expiry. The operations of memcached that are needed, no more.
 * Those of a store that others share reject with ERR_PATRONUS_KEEPER_UNAVAILABLE if it can't be reached.
 */
export interface Store {
  get(key: string): Promise<Uint8Array | undefined>;
  /** Expiries are in seconds, whole ones, from 1. */
  set(key: string, value: Uint8Array, expirySeconds: number): Promise<void>;
  /** Store if the key is absent; whether it was. May be false, too, when this very call was repeated on the way. */
  add(key: string, value: Uint8Array, expirySeconds: number): Promise<boolean>;
  /** Put off the expiry; whether the key is there. */
  touch(key: string, expirySeconds: number): Promise<boolean>;
  delete(key: string): Promise<void>;
  close(): void;
}

/** A value as large as memcached takes with room to spare. */
export const MAX_VALUE_BYTES = 512 * 1024;
