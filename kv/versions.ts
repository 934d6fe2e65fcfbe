import { AcquireStatus, RetCode } from '../patronus/index.js';
import { KvError, KvErrorCode } from './api.js';
import { SB_VERSION_BYTES, SB_VERSION_OFFSET } from './layout.js';
import type { LeaseKeeper } from './leases.js';

/** Numbers taken from the shared counter at a time. */
const BLOCK = 65536;
const ATTEMPTS = 5;

/** Version numbers of writes: unique among all clients of the table, growing for each client. */
export class Versions {
  readonly #keeper: LeaseKeeper;
  #next = 0;
  #end = 0;
  #refilling: Promise<RetCode> | undefined;

  constructor(keeper: LeaseKeeper) {
    this.#keeper = keeper;
  }

  /** The next number, >= 1, or 0: await refill() and ask again. */
  take(): number {
    return this.#next < this.#end ? ++this.#next : 0;
  }

  refill(): Promise<RetCode> {
    this.#refilling ??= this.#refill().finally(() => {
      this.#refilling = undefined;
    });
    return this.#refilling;
  }

  /** An addition whose outcome is unknown is simply made again: numbers may be skipped, but are never given twice. */
  async #refill(): Promise<RetCode> {
    const { client, termNs } = this.#keeper;
    const buffer = client.getRdmaBuffer(8);
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const { status, lease } = await client.getWlease({
          offset: SB_VERSION_OFFSET,
          size: SB_VERSION_BYTES,
          termNs,
        });
        if (status !== AcquireStatus.Success) continue;
        const done = await client.faa(lease!, buffer, 0, BLOCK, 0);
        await client.relinquish(lease!).catch(() => undefined);
        if (done !== RetCode.Ok) continue;
        this.#next = buffer.words[0]! + buffer.words[1]! * 0x1_0000_0000;
        this.#end = this.#next + BLOCK;
        return RetCode.Ok;
      }
      throw new KvError(KvErrorCode.UNAVAILABLE, 'The memory node lets no version number be taken');
    } finally {
      client.putRdmaBuffer(buffer);
    }
  }
}

export function versionText(version: number): string {
  // toString() is several times as fast for integers of 31 bits as for larger ones.
  return Math.floor(version / 0x1000000).toString(16) + (version % 0x1000000).toString(16).padStart(6, '0');
}
