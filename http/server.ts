import { lookup } from 'node:dns/promises';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import type { Kv } from '../kv/index.js';
import { buildApp } from './app.js';

/** Default of how long requests under way may take after close(), until their connections are cut. */
const GRACE_MS = 10_000;
const POLL_MS = 20;

export interface ServerOptions {
  /** Becomes the server's: it is closed with it, also when the server can't start. */
  readonly kv: Kv;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default 8080; 0 takes any free one. */
  readonly port?: number;
  /** How long close() waits for requests under way before it cuts their connections. Default 10,000. */
  readonly graceMs?: number;
  /** Is told of errors that clients see only as ERR_HTTP_INTERNAL. */
  readonly onInternalError?: (error: unknown) => void;
}

/** A server that listens. */
export interface Server extends AsyncDisposable {
  /** An address that reaches it from this machine, without a slash at the end: http://127.0.0.1:8080 */
  readonly url: string;
  readonly port: number;
  /**
   * Stops accepting connections, ends idle ones, answers the requests under way (at most graceMs long) and closes the
   * store. Calling it again waits for the same end.
   */
  close(): Promise<void>;
}

/** Starts the server; rejects with the error of listen(2), such as EADDRINUSE, if it can't. */
export async function startServer(options: ServerOptions): Promise<Server> {
  const { kv, host = '127.0.0.1', port = 8080, graceMs = GRACE_MS, onInternalError } = options;
  const app = buildApp(onInternalError === undefined ? { kv } : { kv, onInternalError });
  const sockets = trackSockets(app);
  let cut = false;
  app.addHook('preClose', async () => {
    // Node.js, told to close, also ends connections whose last answer is not quite sent.
    while (!cut && someUnsent(sockets)) await setTimeout(POLL_MS);
  });
  try {
    // Fastify would listen on several addresses for a name such as localhost, each with a server of its own.
    await app.listen({ host: (await lookup(host)).address, port });
  } catch (error) {
    await app.close();
    await kv.close();
    throw error;
  }

  async function closeInOrder(): Promise<void> {
    const cutTimer = globalThis.setTimeout(() => {
      cut = true;
      app.server.closeAllConnections();
    }, graceMs);
    // Connections that have never sent anything don't count as idle for Node.js.
    const silentTimer = setInterval(() => {
      for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
    }, POLL_MS);
    try {
      await app.close();
    } finally {
      clearTimeout(cutTimer);
      clearInterval(silentTimer);
    }
    await kv.close();
  }

  const address = app.server.address() as AddressInfo;
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closed ??= closeInOrder();
    return closed;
  };
  return { url: urlOf(address), port: address.port, close, [Symbol.asyncDispose]: close };
}

/** The open connections of the app. */
function trackSockets(app: FastifyInstance): ReadonlySet<Socket> {
  const sockets = new Set<Socket>();
  app.server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  return sockets;
}

function someUnsent(sockets: ReadonlySet<Socket>): boolean {
  for (const socket of sockets) if (socket.writableLength > 0) return true;
  return false;
}

function urlOf({ address, family, port }: AddressInfo): string {
  if (address === '0.0.0.0') return `http://127.0.0.1:${port}`;
  if (address === '::') return `http://[::1]:${port}`;
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}
