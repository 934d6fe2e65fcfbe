import { randomFillSync } from 'node:crypto';

/** Of a client: its identity, low half first, and its secret. */
const WORDS = 4;
const SECRET = 2;

export function introductionBytes(clients: number): number {
  return clients * WORDS * Int32Array.BYTES_PER_ELEMENT;
}

/**
 * Who the clients of a node are, for all its directories. A client's link vouches for it to each directory by itself, as
 * somebody new. So directory 0 tells it a secret of 64 bits, by which the others know it for the same one.
 */
export class Introductions {
  private readonly words: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.words = new Int32Array(memory);
  }

  /** Directory 0 has a new client. */
  add(slot: number, identity: number): void {
    const at = slot * WORDS;
    Atomics.store(this.words, at, identity | 0);
    Atomics.store(this.words, at + 1, Math.floor(identity / 2 ** 32));
    const [low, high] = randomFillSync(new Int32Array(2)) as unknown as [number, number];
    Atomics.store(this.words, at + SECRET, low);
    // Zero means that there is no client.
    Atomics.store(this.words, at + SECRET + 1, high | 1);
  }

  remove(slot: number): void {
    Atomics.store(this.words, slot * WORDS + SECRET + 1, 0);
  }

  /** Write the client's secret into two words. */
  tell(slot: number, into: Uint32Array, at: number): void {
    into[at] = this.words[slot * WORDS + SECRET]!;
    into[at + 1] = this.words[slot * WORDS + SECRET + 1]!;
  }

  /** The identity of the client with the secret in these two words; 0 if there is none. */
  identityOf(words: Uint32Array, from: number): number {
    const low = words[from]! | 0;
    const high = words[from + 1]! | 0;
    if (high === 0) return 0;
    for (let at = 0; at < this.words.length; at += WORDS) {
      if (Atomics.load(this.words, at + SECRET) !== low) continue;
      const identity = (Atomics.load(this.words, at) >>> 0) + Atomics.load(this.words, at + 1) * 2 ** 32;
      // Last: the place was its own until then.
      if (Atomics.load(this.words, at + SECRET + 1) === high) return identity;
    }
    return 0;
  }
}
