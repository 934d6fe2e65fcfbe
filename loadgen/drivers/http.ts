import { type Dispatcher, Pool } from 'undici';
import type { Store } from '../store.js';

/** An answer that does not come within this fails the operation. */
const TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 5_000;
/** What is kept of an error answer. */
const MAX_DETAIL_CHARS = 200;

export interface HttpStoreOptions {
  /** Each carries one request at a time; more requests than connections wait for one. Default 32. */
  readonly connections?: number;
}

/** An answer with a status that is not the operation's; `code` is HTTP_ and the status. */
export class HttpStatusError extends Error {
  readonly code: string;
  readonly status: number;

  constructor(status: number, detail: string) {
    super(detail === '' ? `status ${status}` : `status ${status}: ${detail}`);
    this.name = 'HttpStatusError';
    this.status = status;
    this.code = `HTTP_${status}`;
  }
}

/** A store behind the HTTP API: /v1/kv/{key}, keys percent-encoded, values as raw bytes. */
export class HttpStore implements Store {
  readonly #pool: Pool;
  readonly #prefix: string;

  /** Connects with the first operation. Throws a TypeError for what is not an http: or https: URL. */
  constructor(url: string, options: HttpStoreOptions = {}) {
    const { protocol, origin, pathname } = new URL(url);
    if (protocol !== 'http:' && protocol !== 'https:') throw new TypeError(`not an HTTP URL: ${url}`);
    this.#prefix = `${pathname.replace(/\/+$/, '')}/v1/kv/`;
    this.#pool = new Pool(origin, {
      connections: options.connections ?? 32,
      pipelining: 1,
      headersTimeout: TIMEOUT_MS,
      bodyTimeout: TIMEOUT_MS,
      connectTimeout: CONNECT_TIMEOUT_MS,
    });
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    const { status, body } = await this.#exchange('GET', key, null);
    if (status === 200) return body;
    if (status === 404) return undefined;
    throw new HttpStatusError(status, detailOf(body));
  }

  async put(key: Uint8Array, value: Uint8Array): Promise<void> {
    const { status, body } = await this.#exchange('PUT', key, value);
    if (status < 200 || status > 299) throw new HttpStatusError(status, detailOf(body));
  }

  /** Waits for requests under way. */
  async close(): Promise<void> {
    await this.#pool.close();
  }

  // Pool.dispatch, not Pool.request, whose streams cost the generator another third of its processor time.
  #exchange(method: 'GET' | 'PUT', key: Uint8Array, body: Uint8Array | null): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const path = this.#prefix + encodeKey(key);
      const headers = body === null ? null : BODY_HEADERS;
      this.#pool.dispatch({ method, path, headers, body }, new Collector(resolve, reject));
    });
  }
}

const BODY_HEADERS = { 'content-type': 'application/octet-stream' };

interface Answer {
  readonly status: number;
  readonly body: Uint8Array;
}

/** Gathers one answer. */
class Collector implements Dispatcher.DispatchHandler {
  readonly #resolve: (answer: Answer) => void;
  readonly #reject: (error: Error) => void;
  readonly #chunks: Uint8Array[] = [];
  #status = 0;

  constructor(resolve: (answer: Answer) => void, reject: (error: Error) => void) {
    this.#resolve = resolve;
    this.#reject = reject;
  }

  onRequestStart(): void {}

  onResponseStart(_controller: Dispatcher.DispatchController, status: number): void {
    this.#status = status;
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#chunks.push(chunk);
  }

  onResponseEnd(): void {
    const chunks = this.#chunks;
    this.#resolve({ status: this.#status, body: chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks) });
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#reject(error);
  }
}

const UNRESERVED = /^[\w.~-]+$/;

function encodeKey(key: Uint8Array): string {
  const text = Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1');
  if (UNRESERVED.test(text) && text !== '.' && text !== '..') return text;
  return Array.from(key, (byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
}

function detailOf(body: Uint8Array): string {
  const text = Buffer.from(body).toString().replace(/\s+/g, ' ').trim();
  return text.length > MAX_DETAIL_CHARS ? `${text.slice(0, MAX_DETAIL_CHARS)}...` : text;
}
