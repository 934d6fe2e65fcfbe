const NONE = -1;
const WORD_BYTES = 4;
const KEY_BYTES = 8;
/** Of the memory, bytes before the keys. */
const HEAD_BYTES = 8;

const FREE = 0;
const TAKEN = 1;
const WAITED_FOR = 2;

/** Bytes of a table for so many leases, each with one lock at most. */
export function lockBytes(leases: number): number {
  return HEAD_BYTES + placesFor(leases) * (KEY_BYTES + WORD_BYTES) + leases * WORD_BYTES;
}

/**
 * The exclusive locks that leases hold, by key: a hash table with open addressing in typed arrays, twice as large as
 * the number of locks that there can be. A key is any safe non-negative integer. Clients choose the keys, so
 * the hash has a secret: nobody can make others' look-ups slow.
 *
 * Several threads can use the memory, each through a table of its own; all but `holds` under a guard.
 */
export class LockTable {
  private readonly guard: Int32Array;
  private readonly keys: Float64Array;
  /** The lease that holds the lock; NONE = the place is empty. Here one more, since the memory begins as zeros. */
  private readonly holders: Int32Array;
  /** Of a lease: the place of its lock, NONE without one; one more as well. */
  private readonly places: Int32Array;
  private readonly mask: number;
  private readonly secret: number;

  /** `leases`: as lockBytes() was told. */
  constructor(memory: SharedArrayBuffer, leases: number, secret: number) {
    const places = placesFor(leases);
    this.guard = new Int32Array(memory, 0, 1);
    this.keys = new Float64Array(memory, HEAD_BYTES, places);
    const holders = HEAD_BYTES + places * KEY_BYTES;
    this.holders = new Int32Array(memory, holders, places);
    this.places = new Int32Array(memory, holders + places * WORD_BYTES, leases);
    this.mask = places - 1;
    this.secret = secret;
  }

  /** Take the lock with this key for a lease that has none: NONE, or the lease that holds it. */
  take(key: number, lease: number): number {
    this.enter();
    let place = this.home(key);
    let holder = this.holders[place]! - 1;
    while (holder !== NONE && this.keys[place] !== key) {
      place = (place + 1) & this.mask;
      holder = this.holders[place]! - 1;
    }
    if (holder === NONE) this.put(place, key, lease);
    this.leave();
    return holder;
  }

  /** Whether the lease has a lock. Only the thread that takes and releases for this lease may ask. */
  holds(lease: number): boolean {
    return this.places[lease] !== 0;
  }

  /** The lock of one lease becomes that of another, which has none. */
  pass(from: number, to: number): void {
    this.enter();
    const place = this.places[from]! - 1;
    this.places[from] = 0;
    this.put(place, this.keys[place]!, to);
    this.leave();
  }

  /** Release what the lease holds, if anything. */
  release(lease: number): void {
    if (!this.holds(lease)) return;
    this.enter();
    let hole = this.places[lease]! - 1;
    this.places[lease] = 0;
    // Close the gap: what could not be at its own place because of this one moves up.
    let place = hole;
    for (;;) {
      place = (place + 1) & this.mask;
      const holder = this.holders[place]! - 1;
      if (holder === NONE) break;
      const home = this.home(this.keys[place]!);
      if (((place - home) & this.mask) < ((place - hole) & this.mask)) continue;
      this.put(hole, this.keys[place]!, holder);
      hole = place;
    }
    this.holders[hole] = 0;
    this.leave();
  }

  private put(place: number, key: number, lease: number): void {
    this.keys[place] = key;
    this.holders[place] = lease + 1;
    this.places[lease] = place + 1;
  }

  private home(key: number): number {
    let hash = Math.imul((key >>> 0) ^ this.secret, 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 15) ^ Math.floor(key / 4294967296), 0x85ebca6b) ^ this.secret;
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    return (hash ^ (hash >>> 16)) & this.mask;
  }

  /** Nobody is within for longer than a look-up takes; but it may have lost its core. */
  private enter(): void {
    const { guard } = this;
    let found = Atomics.compareExchange(guard, 0, FREE, TAKEN);
    while (found !== FREE) {
      if (found === WAITED_FOR || Atomics.compareExchange(guard, 0, TAKEN, WAITED_FOR) !== FREE) {
        Atomics.wait(guard, 0, WAITED_FOR);
      }
      found = Atomics.compareExchange(guard, 0, FREE, WAITED_FOR);
    }
  }

  private leave(): void {
    if (Atomics.exchange(this.guard, 0, FREE) === WAITED_FOR) Atomics.notify(this.guard, 0, 1);
  }
}

function placesFor(leases: number): number {
  return 2 ** Math.ceil(Math.log2(2 * leases));
}
