import { setTimeout as pause } from 'node:timers/promises';
import memjs from 'memjs';
import { PatronusError, PatronusErrorCode } from '../errors.js';
import { MAX_VALUE_BYTES, type Store } from './store.js';

export interface MemcachedOptions {
  readonly host: string;
  readonly port: number;
  /** For one attempt, ms. */
  readonly timeoutMs: number;
}

/** Attempts at one operation, and the pause after the first; each further one is twice as long. */
const ATTEMPTS = 4;
const PAUSE_MS = 50;
const MAX_ANSWER_BYTES = MAX_VALUE_BYTES + 65536;

type Client = InstanceType<typeof memjs.Client>;

/** memjs collects what comes until an answer is whole. What is no memcached may send for ever. */
class BoundedServer extends memjs.Server {
  override responseHandler(bytes: Buffer): void {
    if (this.responseBuffer.length + bytes.length > MAX_ANSWER_BYTES) {
      this.responseBuffer = Buffer.alloc(0);
      this.error(new Error('an answer is too long'));
      return;
    }
    try {
      super.responseHandler(bytes);
    } catch (cause) {
      this.error(new Error('an answer is none of memcached', { cause }));
    }
  }
}

/**
 * A memcached server, over one connection. After any failure the connection is given up and the next attempt makes a
 * new one: memjs neither bounds the wait for an answer nor gets back into step with a peer that sent half of one.
 */
export class MemcachedStore implements Store {
  private readonly options: MemcachedOptions;
  private server: BoundedServer | undefined;
  private client: Client | undefined;
  private closed = false;

  constructor(options: MemcachedOptions) {
    this.options = options;
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    const { value } = await this.attempt((client) => client.get(key));
    return value ?? undefined;
  }

  async set(key: string, value: Uint8Array, expires: number): Promise<void> {
    await this.attempt((client) => client.set(key, value, { expires }));
  }

  add(key: string, value: Uint8Array, expires: number): Promise<boolean> {
    return this.attempt((client) => client.add(key, value, { expires }));
  }

  touch(key: string, expires: number): Promise<boolean> {
    return this.attempt((client) => client.touch(key, expires));
  }

  async delete(key: string): Promise<void> {
    await this.attempt((client) => client.delete(key));
  }

  close(): void {
    this.closed = true;
    this.disconnect(this.client, new Error('closed'));
  }

  private async attempt<T>(operation: (client: Client) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      if (this.closed) throw new PatronusError(PatronusErrorCode.CLOSED, 'the keeper is closed');
      const client = this.connect();
      try {
        return await this.inTime(operation(client));
      } catch (cause) {
        this.disconnect(client, new Error('the connection was given up', { cause }));
        if (attempt === ATTEMPTS) throw this.unavailable(cause);
      }
      await pause(PAUSE_MS * 2 ** (attempt - 1));
    }
  }

  private async inTime<T>(answer: Promise<T>): Promise<T> {
    const { timeoutMs } = this.options;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    });
    try {
      return await Promise.race([answer, late]);
    } finally {
      clearTimeout(timer);
      // Should it fail after all: nobody waits for it.
      answer.catch(() => {});
    }
  }

  private connect(): Client {
    if (this.client !== undefined) return this.client;
    const { host, port, timeoutMs } = this.options;
    // The time-out is the one above; memjs measures its own from the last byte that came.
    const timeout = (2 * timeoutMs) / 1000;
    this.server = new BoundedServer(host, port, undefined, undefined, { timeout, conntimeout: timeout });
    this.client = new memjs.Client([this.server], { retries: 1, timeout, logger: { log: () => {} } });
    return this.client;
  }

  private disconnect(client: Client | undefined, reason: Error): void {
    if (client === undefined || client !== this.client) return;
    const { server } = this;
    this.client = undefined;
    this.server = undefined;
    server?.error(reason);
  }

  private unavailable(cause: unknown): PatronusError {
    const { host, port } = this.options;
    const why = cause instanceof Error ? cause.message : String(cause);
    const message = `memcached at ${host}:${port} can't be used: ${why}`;
    return new PatronusError(PatronusErrorCode.KEEPER_UNAVAILABLE, message, { cause });
  }
}
