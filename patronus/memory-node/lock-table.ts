const NONE = -1;

/**
 * The exclusive locks that leases hold, by key: a hash table with open addressing in typed arrays, twice as large as
 * the number of locks that there can be. A key is any safe non-negative integer. Clients choose the keys, so
 * the hash has a secret: nobody can make others' look-ups slow.
 */
export class LockTable {
  private readonly keys: Float64Array;
  /** The lease that holds the lock; NONE = the place is empty. */
  private readonly holders: Int32Array;
  /** Of a lease: the place of its lock, NONE without one. */
  private readonly placeOf: Int32Array;
  private readonly mask: number;
  private readonly secret: number;

  /** `leases`: how many can be alive, each with one lock at most. */
  constructor(leases: number, secret = Math.floor(Math.random() * 2 ** 32)) {
    const places = 2 ** Math.ceil(Math.log2(2 * leases));
    this.keys = new Float64Array(places);
    this.holders = new Int32Array(places).fill(NONE);
    this.placeOf = new Int32Array(leases).fill(NONE);
    this.mask = places - 1;
    this.secret = secret;
  }

  /** Take the lock with this key for a lease that has none; false if another lease holds it. */
  take(key: number, lease: number): boolean {
    let place = this.home(key);
    while (this.holders[place] !== NONE) {
      if (this.keys[place] === key) return false;
      place = (place + 1) & this.mask;
    }
    this.put(place, key, lease);
    return true;
  }

  /** Whether some lease holds the lock with this key. */
  held(key: number): boolean {
    let place = this.home(key);
    while (this.holders[place] !== NONE) {
      if (this.keys[place] === key) return true;
      place = (place + 1) & this.mask;
    }
    return false;
  }

  /** Release what the lease holds, if anything. */
  release(lease: number): void {
    let hole = this.placeOf[lease]!;
    if (hole === NONE) return;
    this.placeOf[lease] = NONE;
    // Close the gap: what could not be at its own place because of this one moves up.
    let place = hole;
    for (;;) {
      place = (place + 1) & this.mask;
      const holder = this.holders[place]!;
      if (holder === NONE) break;
      const home = this.home(this.keys[place]!);
      if (((place - home) & this.mask) < ((place - hole) & this.mask)) continue;
      this.put(hole, this.keys[place]!, holder);
      hole = place;
    }
    this.holders[hole] = NONE;
  }

  private put(place: number, key: number, lease: number): void {
    this.keys[place] = key;
    this.holders[place] = lease;
    this.placeOf[lease] = place;
  }

  private home(key: number): number {
    let hash = Math.imul((key >>> 0) ^ this.secret, 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 15) ^ Math.floor(key / 4294967296), 0x85ebca6b) ^ this.secret;
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    return (hash ^ (hash >>> 16)) & this.mask;
  }
}
