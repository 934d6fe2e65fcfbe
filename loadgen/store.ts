/**
 * What the generator drives: a `Kv` is one, {@link HttpStore} another. The arguments stay as they are until the promise
 * is settled. A failed operation rejects; the error's string `code`, if it has one, is what it is counted under.
 */
export interface Store {
  /** `undefined`: the key is not there. */
  get(key: Uint8Array): Promise<Uint8Array | undefined>;
  put(key: Uint8Array, value: Uint8Array): Promise<unknown>;
}
