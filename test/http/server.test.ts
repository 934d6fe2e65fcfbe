import { createServer } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Server, startServer } from '../../http/index.js';
import { MapKv } from './map-kv.js';
import { RawClient } from './raw-client.js';

const HOST = 'Host: localhost\r\n';
/** Longer than any test may take: who waits for it fails. */
const FOREVER_MS = 600_000;

describe('startServer', () => {
  it('listens on any free port and says where', async () => {
    await using server = await startServer({ kv: new MapKv(), port: 0 });
    expect(server.url).toBe(`http://127.0.0.1:${server.port}`);
    expect((await fetch(`${server.url}/v1/health`)).status).toBe(200);
  });

  it.each([
    ['localhost', /^http:\/\/(127\.0\.0\.1|\[::1\]):\d+$/],
    ['0.0.0.0', /^http:\/\/127\.0\.0\.1:\d+$/],
  ])('on %s, can be reached by its URL', async (host, pattern) => {
    await using server = await startServer({ kv: new MapKv(), host, port: 0 });
    expect(server.url).toMatch(pattern);
    expect((await fetch(`${server.url}/v1/health`)).status).toBe(200);
  });

  it('rejects and closes the store if the port is in use', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    try {
      const kv = new MapKv();
      const { port } = other.address() as { port: number };
      await expect(startServer({ kv, port })).rejects.toMatchObject({ code: 'EADDRINUSE' });
      expect(kv.closed).toBe(true);
    } finally {
      other.close();
    }
  });
});

describe('close', () => {
  let kv: MapKv;
  let server: Server;
  let clients: RawClient[];

  beforeEach(async () => {
    kv = new MapKv();
    server = await startServer({ kv, port: 0, graceMs: FOREVER_MS });
    clients = [];
  });

  afterEach(async () => {
    for (const client of clients) client.close();
    await server.close();
  });

  async function connected(): Promise<RawClient> {
    const client = await RawClient.open(server.port);
    clients.push(client);
    return client;
  }

  /** Makes the store wait in every operation. Returns what lets them go on. */
  function holdStore(): () => void {
    let letGo = (): void => {};
    kv.gate = new Promise((resolve) => {
      letGo = resolve;
    });
    return letGo;
  }

  it('closes the store last and refuses connections then', async () => {
    await server.close();
    expect(kv.closed).toBe(true);
    await expect(RawClient.open(server.port)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await server.close();
  });

  it('ends connections that are idle or have never said anything', async () => {
    const idle = await connected();
    idle.send(`PUT /v1/kv/k HTTP/1.1\r\n${HOST}Content-Length: 1\r\n\r\nx`);
    expect((await idle.answer())?.headers.get('connection')).toBe('keep-alive');
    const silent = await connected();
    await server.close();
    expect(await idle.end()).toHaveLength(0);
    expect(await silent.end()).toHaveLength(0);
  });

  it('answers requests under way, and ends their connections after it', async () => {
    const letGo = holdStore();
    const methods = ['GET', 'HEAD', 'PUT', 'POST', 'DELETE'];
    const underWay = await Promise.all(
      methods.map(async (method) => {
        const client = await connected();
        client.send(`${method} /v1/kv/${method} HTTP/1.1\r\n${HOST}\r\n`);
        return client;
      }),
    );
    const upload = await connected();
    upload.send(`PUT /v1/kv/upload HTTP/1.1\r\n${HOST}Content-Length: 2\r\n\r\na`);
    await setTimeout(50);
    const closed = server.close();
    await setTimeout(50);
    expect(kv.closed).toBe(false);
    letGo();
    upload.send('b');
    const answers = await Promise.all(
      underWay.map((client, i) => client.answer({ toHead: methods[i] === 'HEAD' })),
    );
    expect(answers.map((answer) => answer?.status)).toEqual([404, 404, 201, 201, 404]);
    for (const answer of answers) expect(answer?.headers.get('connection')).toBe('close');
    expect((await upload.answer())?.status).toBe(201);
    await closed;
    for (const client of [...underWay, upload]) expect(await client.end()).toHaveLength(0);
    expect(kv.puts).toBe(3);
    expect(kv.closed).toBe(true);
  });

  it('finishes an answer that the client reads slowly', async () => {
    const value = Buffer.alloc(kv.maxValueBytes, 'v');
    await kv.put(Buffer.from('k'), value);
    const slow = await connected();
    const count = 20;
    slow.pause();
    slow.send(`GET /v1/kv/k HTTP/1.1\r\n${HOST}\r\n`.repeat(count));
    await setTimeout(100);
    const closed = server.close();
    await setTimeout(100);
    slow.resume();
    // The answer under way comes whole; it may be the last.
    expect((await slow.answer())?.body.equals(value)).toBe(true);
    for (;;) {
      const answer = await slow.answer();
      if (answer === undefined) break;
      expect(answer.body.equals(value)).toBe(true);
    }
    expect(await slow.end()).toHaveLength(0);
    await closed;
  });

  it('cuts what is not done within the grace time', async () => {
    await server.close();
    kv = new MapKv();
    server = await startServer({ kv, port: 0, graceMs: 100 });
    const letGo = holdStore();
    const stuck = await connected();
    stuck.send(`GET /v1/kv/k HTTP/1.1\r\n${HOST}\r\n`);
    const half = await connected();
    half.send('GET /v1/kv/k HTT');
    await setTimeout(50);
    await server.close();
    expect(await stuck.end()).toHaveLength(0);
    expect(await half.end()).toHaveLength(0);
    expect(kv.closed).toBe(true);
    letGo();
  });
});
