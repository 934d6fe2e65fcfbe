import { setTimeout as pause } from 'node:timers/promises';
import { PatronusError, PatronusErrorCode } from '../errors.js';
import type { BarrierOptions, Keeper } from './api.js';
import { Barrier } from './barrier.js';
import { InProcessStore } from './in-process-store.js';
import { Membership } from './membership.js';
import { MemcachedStore } from './memcached-store.js';
import { decodeValue, encodeValue, MAX_MEMBERS, type Member, type MemberKind } from './records.js';
import type { Store } from './store.js';

export interface KeeperOptions {
  /** Keeps several clusters at one memcached apart. 1 to 64 letters, digits, - and _. Default `patronus`. */
  readonly cluster?: string;
  /** Seconds after which a member that died is gone: at least 2. Default 6. */
  readonly expirySeconds?: number;
  /** For one attempt at one operation of memcached, ms. Default 1000; there are at most four attempts. */
  readonly timeoutMs?: number;
}

const DEFAULT_EXPIRY_SECONDS = 6;
const DEFAULT_TIMEOUT_MS = 1000;
const DEFAULT_WAIT_MS = 30_000;
const VALUE_EXPIRY_SECONDS = 86_400;
// With all that comes before and behind it a key stays below the 250 bytes of memcached.
const MAX_KEY_BYTES = 100;
const LEAST_PAUSE_MS = 10;
const MOST_PAUSE_MS = 200;
const MARK = Uint8Array.of(1);

/** A keeper at a memcached server, `HOST:PORT`. The server need not be there yet: only the calls need it. */
export function memcachedKeeper(server: string, options: KeeperOptions = {}): Keeper {
  const match = /^(\[[\da-fA-F:.]+\]|[\w.-]+):(\d{1,5})$/.exec(server);
  const port = Number(match?.[2]);
  if (match === null || port < 1 || port > 65_535) {
    throw new RangeError(`a memcached server is HOST:PORT, such as 127.0.0.1:11211, not ${server}`);
  }
  const host = match[1]!.replace(/^\[|\]$/g, '');
  const timeoutMs = integer('timeoutMs', options.timeoutMs ?? DEFAULT_TIMEOUT_MS, 1, 60_000);
  return new StoreKeeper(new MemcachedStore({ host, port, timeoutMs }), options);
}

/** A keeper for nodes and clients of this thread: those with the same cluster name see each other. */
export function inProcessKeeper(options: KeeperOptions = {}): Keeper {
  return new StoreKeeper(new InProcessStore(clusterName(options)), options);
}

export class StoreKeeper implements Keeper {
  private readonly store: Store;
  private readonly prefix: string;
  private readonly membership: Membership;
  private readonly absenceMs: number;
  private closed = false;

  constructor(store: Store, options: KeeperOptions) {
    this.store = store;
    this.prefix = `patronus/${clusterName(options)}/`;
    const expiry = options.expirySeconds ?? DEFAULT_EXPIRY_SECONDS;
    const expirySeconds = integer('expirySeconds', expiry, 2, 3600);
    this.membership = new Membership(store, this.prefix, expirySeconds);
    this.absenceMs = (expirySeconds * 1000) / 2;
  }

  get member(): Member | undefined {
    return this.membership.member;
  }

  async joinAsNode(nodeId: number, address: string): Promise<Member> {
    this.checkOpen();
    return this.membership.join('node', integer('nodeId', nodeId, 0, MAX_MEMBERS - 1), address);
  }

  async joinAsClient(): Promise<Member> {
    this.checkOpen();
    return this.membership.join('client', undefined, undefined);
  }

  async members(kind: MemberKind): Promise<Member[]> {
    this.checkOpen();
    return this.membership.list(kind);
  }

  async put(key: string, value: Uint8Array): Promise<void> {
    this.checkOpen();
    await this.store.set(this.keyOf('value', key), encodeValue(value), VALUE_EXPIRY_SECONDS);
  }

  async tryGet(key: string): Promise<Uint8Array | undefined> {
    this.checkOpen();
    const bytes = await this.store.get(this.keyOf('value', key));
    return bytes && decodeValue(bytes, key);
  }

  async get(key: string, timeoutMs = DEFAULT_WAIT_MS): Promise<Uint8Array> {
    const deadline = performance.now() + timeoutMs;
    for (let pauseMs = LEAST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, MOST_PAUSE_MS)) {
      const value = await this.tryGet(key);
      if (value !== undefined) return value;
      if (performance.now() + pauseMs >= deadline) {
        const message = `no value for ${key} within ${timeoutMs} ms`;
        throw new PatronusError(PatronusErrorCode.TIMEOUT, message);
      }
      await pause(pauseMs);
    }
  }

  keeperBarrier(name: string, count: number, options: BarrierOptions = {}): Promise<void> {
    return this.barrier('all', ['node', 'client'], name, count, options);
  }

  serverBarrier(name: string, count: number, options: BarrierOptions = {}): Promise<void> {
    return this.barrier('node', ['node'], name, count, options);
  }

  clientBarrier(name: string, count: number, options: BarrierOptions = {}): Promise<void> {
    return this.barrier('client', ['client'], name, count, options);
  }

  async finished(key: string): Promise<void> {
    this.checkOpen();
    await this.store.set(this.keyOf('finished', key), encodeValue(MARK), VALUE_EXPIRY_SECONDS);
  }

  async shouldExit(key: string): Promise<boolean> {
    this.checkOpen();
    const bytes = await this.store.get(this.keyOf('finished', key));
    return bytes !== undefined && decodeValue(bytes, key).length > 0;
  }

  leave(): Promise<void> {
    return this.membership.leave();
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.leave();
    this.store.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async barrier(
    group: string,
    kinds: readonly MemberKind[],
    name: string,
    count: number,
    options: BarrierOptions,
  ): Promise<void> {
    this.checkOpen();
    integer('count', count, 1, MAX_MEMBERS);
    const { member } = this;
    if (member === undefined || !kinds.includes(member.kind)) {
      throw new TypeError(`only members of the cluster (${kinds.join(', ')}) come to this barrier`);
    }
    const prefix = `${this.keyOf(`barrier/${group}`, name)}/`;
    const { store, membership, absenceMs } = this;
    const { timeoutMs = DEFAULT_WAIT_MS } = options;
    await new Barrier({ store, membership, prefix, name, kinds, count, timeoutMs, absenceMs }).wait();
  }

  private keyOf(space: string, key: string): string {
    const bytes = typeof key === 'string' ? Buffer.byteLength(key) : 0;
    if (bytes < 1 || bytes > MAX_KEY_BYTES) {
      throw new RangeError(`a key or name has 1 to ${MAX_KEY_BYTES} bytes, not ${bytes}`);
    }
    // memcached's keys have no blanks and control characters.
    return `${this.prefix}${space}/${Buffer.from(key).toString('base64url')}`;
  }

  private checkOpen(): void {
    if (this.closed) throw new PatronusError(PatronusErrorCode.CLOSED, 'the keeper is closed');
  }
}

function clusterName(options: KeeperOptions): string {
  const { cluster = 'patronus' } = options;
  if (!/^[\w-]{1,64}$/.test(cluster)) {
    throw new RangeError(`a cluster's name is 1 to 64 letters, digits, - and _, not ${cluster}`);
  }
  return cluster;
}

function integer(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${name} must be an integer from ${least} to ${most}, not ${value}`);
  }
  return value;
}
