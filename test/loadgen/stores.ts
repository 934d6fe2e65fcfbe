import { KvError, KvErrorCode } from '../../kv/api.js';
import type { Store } from '../../loadgen/index.js';

/** A store that does everything right. The doubles that extend it go wrong in one way each. */
export class MapStore implements Store {
  protected readonly values = new Map<string, Uint8Array>();

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return this.values.get(name(key));
  }

  async put(key: Uint8Array, value: Uint8Array): Promise<unknown> {
    this.values.set(name(key), Uint8Array.from(value));
    return undefined;
  }
}

/** Changes what every 100th get returns. */
export class CorruptingStore extends MapStore {
  readonly #corrupt: (value: Uint8Array) => Uint8Array;
  #gets = 0;
  corrupted = 0;

  constructor(corrupt: (value: Uint8Array) => Uint8Array) {
    super();
    this.#corrupt = corrupt;
  }

  override async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    const value = await super.get(key);
    this.#gets += 1;
    if (value === undefined || this.#gets % 100 !== 0) return value;
    this.corrupted += 1;
    return this.#corrupt(Uint8Array.from(value));
  }
}

/** Every 100th get returns the value of another key. */
export class MixingStore extends MapStore {
  #gets = 0;
  mixed = 0;

  override async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    this.#gets += 1;
    if (this.#gets % 100 !== 0) return super.get(key);
    for (const [other, value] of this.values) {
      if (other === name(key)) continue;
      this.mixed += 1;
      return value;
    }
    return undefined;
  }
}

/** Acknowledges puts of keys that are there, and keeps the old value. */
export class ForgetfulStore extends MapStore {
  override async put(key: Uint8Array, value: Uint8Array): Promise<unknown> {
    return this.values.has(name(key)) ? undefined : super.put(key, value);
  }
}

/** Holds no more than `capacity` keys: forgets further ones. */
export class LosingStore extends MapStore {
  readonly #capacity: number;

  constructor(capacity: number) {
    super();
    this.#capacity = capacity;
  }

  override async put(key: Uint8Array, value: Uint8Array): Promise<unknown> {
    return this.values.size >= this.#capacity && !this.values.has(name(key))
      ? undefined
      : super.put(key, value);
  }
}

/** Has no memory from the put number `after` on. */
export class FullStore extends MapStore {
  #left: number;

  constructor(after: number) {
    super();
    this.#left = after;
  }

  override async put(key: Uint8Array, value: Uint8Array): Promise<unknown> {
    this.#left -= 1;
    if (this.#left < 0) throw new KvError(KvErrorCode.NO_MEMORY, 'the memory node is full');
    return super.put(key, value);
  }
}

/**
 * Answers some turns of the event loop later. Puts of one key overlap, and the one that was begun first is stored last:
 * a store may do that.
 */
export class ReorderingStore extends MapStore {
  #turns = 0;

  override async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    const held = Uint8Array.from(key);
    await turns(2);
    return super.get(held);
  }

  override async put(key: Uint8Array, value: Uint8Array): Promise<unknown> {
    this.#turns = (this.#turns + 7) % 5;
    await turns(this.#turns);
    await super.put(key, value);
    await turns(5 - this.#turns);
    return undefined;
  }
}

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i += 1) await new Promise((resolve) => setImmediate(resolve));
}

function name(key: Uint8Array): string {
  return Buffer.from(key).toString('latin1');
}
