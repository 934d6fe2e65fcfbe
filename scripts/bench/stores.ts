import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { open as openLmdb } from 'lmdb';
import memjs from 'memjs';
import { type Kv, type KvProtection, openEmbedded } from '../../kv/index.js';
import { isInstalled } from './process.js';

/** A store as the benchmark uses it. */
export interface BenchStore extends AsyncDisposable {
  readonly name: string;
  /** Operations that its client keeps under way: 1 where the work is done in the call. */
  readonly inFlight: number;
  /** The value's length, or undefined. */
  get(key: string): Promise<number | undefined> | number | undefined;
  put(key: string, value: Uint8Array): unknown;
}

export const STORES = ['map', 'region', 'block', 'mr', 'none', 'lmdb', 'memcached', 'redis'] as const;
export type StoreName = (typeof STORES)[number];

const START_MS = 5000;
const PIPELINED = 64;
const HOST = '127.0.0.1';
const PORTS = { memcached: 21_211, redis: 26_379 } as const;

/** Whether the store can run here: two of them are programs of their own. */
export function isThere(name: StoreName): boolean {
  if (name === 'memcached') return isInstalled('memcached');
  return name !== 'redis' || isInstalled('redis-server');
}

/** `bytes`: memory for what it will hold. */
export function openStore(name: StoreName, bytes: number): Promise<BenchStore> {
  switch (name) {
    case 'map':
      return Promise.resolve(new MapStore());
    case 'lmdb':
      return openLmdbStore(bytes);
    case 'memcached':
      return openMemcached(bytes);
    case 'redis':
      return openRedis();
    default:
      return openKv(name, bytes);
  }
}

/** A put copies the value, as all stores do. */
class MapStore implements BenchStore {
  readonly name = 'map';
  readonly inFlight = 1;
  readonly #map = new Map<string, Uint8Array>();

  get(key: string): number | undefined {
    return this.#map.get(key)?.length;
  }

  put(key: string, value: Uint8Array): void {
    this.#map.set(key, Uint8Array.from(value));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#map.clear();
  }
}

async function openKv(protection: KvProtection, memoryBytes: number): Promise<BenchStore> {
  return kvStore(`patronus-kv, ${protection}`, await openEmbedded({ memoryBytes, protection }));
}

/** Closing it closes the handle. */
export function kvStore(name: string, kv: Kv): BenchStore {
  return {
    name,
    inFlight: 1,
    get: async (key) => (await kv.get(Buffer.from(key, 'latin1')))?.length,
    put: (key, value) => kv.put(Buffer.from(key, 'latin1'), value),
    [Symbol.asyncDispose]: () => kv.close(),
  };
}

/** In memory as far as the kernel keeps it there; commits are not waited for by the disk. */
async function openLmdbStore(mapSize: number): Promise<BenchStore> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-lmdb-'));
  const db = openLmdb({ path: folder, encoding: 'binary', mapSize, noSync: true });
  return {
    name: 'lmdb',
    inFlight: PIPELINED,
    get: (key) => db.getBinaryFast(key)?.length,
    put: (key, value) => db.put(key, value),
    async [Symbol.asyncDispose]() {
      await db.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function openMemcached(bytes: number): Promise<BenchStore> {
  const megabytes = String(Math.ceil(bytes / 2 ** 20));
  const port = String(PORTS.memcached);
  const user = process.getuid?.() === 0 ? ['-u', 'root'] : [];
  const server = await startServer(
    'memcached',
    ['-l', HOST, '-p', port, '-m', megabytes, ...user],
    PORTS.memcached,
  );
  const client = new memjs.Client(
    [new memjs.Server(HOST, PORTS.memcached, undefined, undefined, { timeout: 10 })],
    {},
  );
  return {
    name: 'memcached (memjs)',
    inFlight: PIPELINED,
    get: async (key) => (await client.get(key)).value?.length,
    put: (key, value) => client.set(key, Buffer.from(value), { expires: 0 }),
    async [Symbol.asyncDispose]() {
      client.close();
      await stop(server);
    },
  };
}

async function openRedis(): Promise<BenchStore> {
  const port = String(PORTS.redis);
  const quiet = ['--save', '', '--appendonly', 'no', '--bind', HOST, '--port', port];
  const server = await startServer('redis-server', quiet, PORTS.redis);
  const client = new Redis({ host: HOST, port: PORTS.redis, enableAutoPipelining: true });
  return {
    name: 'redis (ioredis)',
    inFlight: PIPELINED,
    get: async (key) => (await client.getBuffer(key))?.length,
    put: (key, value) => client.set(key, Buffer.from(value)),
    async [Symbol.asyncDispose]() {
      client.disconnect();
      await stop(server);
    },
  };
}

/** Resolves when the server accepts connections. */
async function startServer(program: string, args: readonly string[], port: number): Promise<ChildProcess> {
  const child = spawn(program, args, { stdio: 'ignore' });
  const giveUp = performance.now() + START_MS;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`${program} ended at once; is port ${port} in use?`);
    if (await accepts(port)) return child;
    if (performance.now() > giveUp) {
      child.kill('SIGKILL');
      throw new Error(`${program} does not listen on port ${port}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: HOST, port });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null) return;
  const exited = once(server, 'exit');
  server.kill('SIGKILL');
  await exited;
}
