import type { TableContext } from './context.js';
import { scanPage } from './scan.js';

const PAUSE_MS = 1000;
/** Keys that are looked at between two pauses. */
const PAGE_KEYS = 10_000;

/**
 * Takes expired keys away that nobody asks for, so that their memory comes back. It walks over the table as long as it
 * meets keys with an expiry, page by page with pauses; a handle that never sees one does nothing.
 */
export class Sweeper {
  readonly #context: TableContext;
  /** Removes the key if it has expired. */
  readonly #remove: (key: Uint8Array) => Promise<unknown>;
  #cursor: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #page: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(context: TableContext, remove: (key: Uint8Array) => Promise<unknown>) {
    this.#context = context;
    this.#remove = remove;
  }

  /** Begins walks if there is something to sweep. Cheap: called after every operation. */
  wake(): void {
    if (this.#timer !== undefined || this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#page = this.sweep().then(
        () => this.#next(),
        () => this.#next(),
      );
    }, PAUSE_MS);
    this.#timer.unref();
  }

  /** One page. */
  async sweep(): Promise<void> {
    const context = this.#context;
    if (this.#cursor === undefined) context.expirySeen = false;
    const cursor = this.#cursor;
    const page = await scanPage(
      context,
      cursor === undefined ? { limit: PAGE_KEYS } : { limit: PAGE_KEYS, cursor },
    );
    this.#cursor = page.cursor;
    for (const key of page.expired) await this.#remove(key);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#page;
  }

  #next(): void {
    this.#timer = undefined;
    if (this.#context.expirySeen || this.#cursor !== undefined) this.wake();
  }
}
