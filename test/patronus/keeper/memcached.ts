/** A real memcached on a loopback port of its own, and a server that lies. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { userInfo } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { stopProcess } from '../stop-process.js';

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

export class Memcached implements AsyncDisposable {
  readonly port: number;
  private child: ChildProcess | undefined;

  private constructor(port: number) {
    this.port = port;
  }

  static async start(): Promise<Memcached> {
    const memcached = new Memcached(await freePort());
    await memcached.restart();
    return memcached;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** On the same port, with nothing in it. */
  async restart(): Promise<void> {
    await this.stop();
    // Root has to be named, too.
    const user = ['-u', userInfo().username];
    const options = [...user, '-l', '127.0.0.1', '-p', String(this.port), '-U', '0', '-m', '16', '-t', '1'];
    this.child = spawn('memcached', options, { stdio: 'ignore' });
    await once(this.child, 'spawn');
    for (let i = 0; i < 500; i++) {
      if (await answers(this.port)) return;
      await pause(10);
    }
    throw new Error('memcached does not listen');
  }

  /** Until resume() it takes connections and answers nothing. */
  pause(): Promise<void> {
    return stopProcess(this.child!);
  }

  resume(): void {
    this.child!.kill('SIGCONT');
  }

  async stop(): Promise<void> {
    const { child } = this;
    this.child = undefined;
    if (child === undefined) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** Answers whatever it is sent with what `lie` makes of it. */
export class LyingServer implements AsyncDisposable {
  readonly port: number;
  private readonly server: Server;
  private readonly sockets: Set<Socket>;

  private constructor(port: number, server: Server, sockets: Set<Socket>) {
    this.port = port;
    this.server = server;
    this.sockets = sockets;
  }

  static async start(lie: (socket: Socket, request: Buffer) => void): Promise<LyingServer> {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('data', (request) => lie(socket, request));
      socket.on('close', () => sockets.delete(socket));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new LyingServer((server.address() as { port: number }).port, server, sockets);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
    await once(this.server, 'close');
  }
}
