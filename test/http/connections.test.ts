import { createHash } from 'node:crypto';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { buildApp } from '../../http/index.js';
import { HttpErrorCode, problem } from '../../http/problems.js';
import type { Kv } from '../../kv/index.js';
import { BACKENDS } from './backends.js';
import { MapKv } from './map-kv.js';
import { type RawAnswer, RawClient } from './raw-client.js';

const HOST = 'Host: localhost\r\n';

describe.each(BACKENDS)('connections over $name', ({ open }) => {
  let kv: Kv;
  let app: FastifyInstance;
  let port: number;
  let client: RawClient;

  beforeEach(async () => {
    kv = await open();
    app = buildApp({ kv });
    await app.listen({ host: '127.0.0.1', port: 0 });
    port = (app.server.address() as AddressInfo).port;
    client = await RawClient.open(port);
  });

  // Whatever a test did to its connection: the server still serves others.
  afterEach(async () => {
    client.close();
    const other = await RawClient.open(port);
    other.send(`PUT /v1/kv/afterwards HTTP/1.1\r\n${HOST}Content-Length: 2\r\n\r\nok`);
    expect((await other.answer())?.status).toBe(201);
    other.send(`GET /v1/kv/afterwards HTTP/1.1\r\n${HOST}\r\n`);
    expect((await other.answer())?.body.toString()).toBe('ok');
    other.close();
    await app.close();
    await kv.close();
  });

  function expectProblem(answer: RawAnswer | undefined, code: HttpErrorCode): void {
    expect(answer).toBeDefined();
    expect(JSON.parse(answer!.body.toString())).toEqual(problem(code));
    expect(answer!.status).toBe(problem(code).status);
    expect(answer!.headers.get('content-type')).toBe('application/problem+json');
    expect(answer!.headers.get('connection')).toBe('close');
  }

  describe('malformed requests', () => {
    it.each([
      ['no HTTP at all', 'hello, is anybody there?\r\n\r\n'],
      ['an unknown method', `FROB /v1/kv/k HTTP/1.1\r\n${HOST}\r\n`],
      ['an unknown version', `GET /v1/kv/k HTTP/3.7\r\n${HOST}\r\n`],
      ['a space in the target', `GET /v1/kv/a b HTTP/1.1\r\n${HOST}\r\n`],
      ['a raw byte in the target', Buffer.from(`GET /v1/kv/\xfc HTTP/1.1\r\n${HOST}\r\n`, 'latin1')],
      ['a header without a colon', `GET /v1/kv/k HTTP/1.1\r\n${HOST}nonsense\r\n\r\n`],
      ['a control character in a header', `GET /v1/kv/k HTTP/1.1\r\n${HOST}X: a\u0001b\r\n\r\n`],
      ['two lengths', `PUT /v1/kv/k HTTP/1.1\r\n${HOST}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`],
      ['a negative length', `PUT /v1/kv/k HTTP/1.1\r\n${HOST}Content-Length: -1\r\n\r\nab`],
      [
        'a length and chunks',
        `PUT /v1/kv/k HTTP/1.1\r\n${HOST}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      ],
      [
        'a bad chunk size',
        `PUT /v1/kv/k HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\nxyz\r\n`,
      ],
      ['a TLS handshake', Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03])],
    ])('%s is answered with 400, the connection ends and nothing is stored', async (_what, bytes) => {
      client.send(bytes);
      expectProblem(await client.answer(), HttpErrorCode.MALFORMED_REQUEST);
      expect(await client.end()).toHaveLength(0);
      expect(kv.stats().puts).toBe(0);
    });

    it('a header that is too large is answered with 431', async () => {
      client.send(`GET /v1/kv/k HTTP/1.1\r\n${HOST}X-Large: ${'x'.repeat(100_000)}`);
      expectProblem(await client.answer(), HttpErrorCode.HEADERS_TOO_LARGE);
      expect(await client.end()).toHaveLength(0);
    });

    it('a target that is too large is answered with 431', async () => {
      client.send(`GET /v1/kv/${'x'.repeat(100_000)}`);
      expectProblem(await client.answer(), HttpErrorCode.HEADERS_TOO_LARGE);
      expect(await client.end()).toHaveLength(0);
    });

    it('HTTP/1.1 without Host is answered with 400', async () => {
      client.send('GET /v1/kv/k HTTP/1.1\r\n\r\n');
      expect((await client.end()).toString()).toMatch(/^HTTP\/1\.1 400 /);
    });
  });

  describe('bodies that do not arrive', () => {
    it.each([
      ['of a declared length', `PUT /v1/kv/k HTTP/1.1\r\n${HOST}Content-Length: 10\r\n\r\nhalf`],
      ['in chunks', `PUT /v1/kv/k HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n`],
    ])('a body %s, half-closed before its end, is answered with 400 and not stored', async (_what, bytes) => {
      client.send(bytes);
      client.halfClose();
      expectProblem(await client.answer(), HttpErrorCode.MALFORMED_REQUEST);
      expect(await client.end()).toHaveLength(0);
      expect(kv.stats().puts).toBe(0);
    });

    it('aborted uploads are not stored', async () => {
      const uploads = await Promise.all(Array.from({ length: 20 }, () => RawClient.open(port)));
      for (const upload of uploads) {
        upload.send(
          `PUT /v1/kv/aborted HTTP/1.1\r\n${HOST}Content-Length: 1000\r\nExpect: 100-continue\r\n\r\npart`,
        );
      }
      // An answer on a later connection shows that the server has read the uploads by now.
      client.send(`GET /v1/kv/aborted HTTP/1.1\r\n${HOST}\r\n`);
      expect((await client.answer())?.status).toBe(404);
      for (const upload of uploads) upload.abort();
      client.send(`GET /v1/kv/aborted HTTP/1.1\r\n${HOST}\r\n`);
      expect((await client.answer())?.status).toBe(404);
      expect(kv.stats().puts).toBe(0);
    });

    it('a body over the limit is refused before it has arrived, and the connection goes on after it', async () => {
      const length = kv.maxValueBytes + 1;
      client.send(`PUT /v1/kv/k HTTP/1.1\r\n${HOST}Content-Length: ${length}\r\n\r\n`);
      const refused = await client.answer();
      expect(refused?.status).toBe(413);
      client.send(Buffer.alloc(length));
      client.send(`GET /v1/kv/k HTTP/1.1\r\n${HOST}\r\n`);
      expect((await client.answer())?.status).toBe(404);
    });
  });

  describe('well-formed requests', () => {
    it('pipelined, are answered in order', async () => {
      const count = 200;
      let bytes = '';
      for (let i = 0; i < count; i++) {
        const body = createHash('sha256')
          .update(String(i))
          .digest('hex')
          .repeat(1 + (i % 50));
        bytes += `PUT /v1/kv/key-${i} HTTP/1.1\r\n${HOST}Content-Length: ${body.length}\r\n\r\n${body}`;
        bytes += `GET /v1/kv/key-${i} HTTP/1.1\r\n${HOST}\r\n`;
      }
      client.send(bytes);
      for (let i = 0; i < count; i++) {
        expect((await client.answer())?.status).toBe(201);
        const got = await client.answer();
        expect(got?.status).toBe(200);
        const body = createHash('sha256')
          .update(String(i))
          .digest('hex')
          .repeat(1 + (i % 50));
        expect(got?.body.toString() === body, `value ${i}`).toBe(true);
      }
    });

    it('that come byte by byte are understood', async () => {
      for (const byte of `PUT /v1/kv/%41 HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n`) {
        client.send(byte);
        await new Promise(setImmediate);
      }
      expect((await client.answer())?.status).toBe(201);
      client.send(`GET /v1/kv/A HTTP/1.1\r\n${HOST}\r\n`);
      expect((await client.answer())?.body.toString()).toBe('abc');
    });

    it('HEAD keeps the connection', async () => {
      client.send(`PUT /v1/kv/k HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nvalue`);
      await client.answer();
      for (let i = 0; i < 3; i++) {
        client.send(`HEAD /v1/kv/k HTTP/1.1\r\n${HOST}\r\n`);
        const head = await client.answer({ toHead: true });
        expect(head?.status).toBe(200);
        expect(head?.headers.get('content-length')).toBe('5');
        client.send(`HEAD /v1/kv/absent HTTP/1.1\r\n${HOST}\r\n`);
        expect((await client.answer({ toHead: true }))?.status).toBe(404);
      }
      client.send(`GET /v1/kv/k HTTP/1.1\r\n${HOST}\r\n`);
      expect((await client.answer())?.body.toString()).toBe('value');
    });

    it('may expect 100-continue, or what nobody knows', async () => {
      const head = `PUT /v1/kv/k HTTP/1.1\r\n${HOST}Content-Length: 5\r\nExpect:`;
      client.send(`${head} 100-continue\r\n\r\n`);
      client.send('value');
      expect((await client.answer())?.status).toBe(201);
      client.send(`${head} a miracle\r\n\r\nvalue`);
      expect((await client.answer())?.status).toBe(204);
    });

    it('may have a target in absolute form', async () => {
      client.send(`PUT http://example.org/v1/kv/a/../%62 HTTP/1.1\r\n${HOST}Content-Length: 1\r\n\r\nx`);
      expect((await client.answer())?.status).toBe(201);
      client.send(`GET HTTP://example.org:80/v1/kv/a/../b HTTP/1.1\r\n${HOST}\r\n`);
      expect((await client.answer())?.body.toString()).toBe('x');
      client.send(`GET http://example.org HTTP/1.1\r\n${HOST}\r\n`);
      expect((await client.answer())?.headers.get('content-type')).toBe('text/plain; charset=utf-8');
      client.send(`OPTIONS * HTTP/1.1\r\n${HOST}\r\n`);
      expect((await client.answer())?.headers.get('content-type')).toBe('application/problem+json');
    });

    it('of HTTP/1.0 are answered, then the connection ends', async () => {
      client.send('PUT /v1/kv/k HTTP/1.0\r\nContent-Length: 1\r\n\r\nx');
      expect((await client.answer())?.status).toBe(201);
      expect(await client.end()).toHaveLength(0);
    });

    it('with a body where none belongs leave it unread', async () => {
      for (const target of ['GET /v1/kv/k', 'DELETE /v1/kv/k', 'PUT /nowhere', 'PATCH /v1/kv/k']) {
        client.send(`${target} HTTP/1.1\r\n${HOST}Content-Length: 3\r\n\r\nabc`);
        expect([404, 405]).toContain((await client.answer())?.status);
      }
    });
  });
});

describe('pipelining behind a request under way', () => {
  let kv: MapKv;
  let app: FastifyInstance;
  let client: RawClient;
  let letGo: () => void;
  let serverSide: Socket;

  beforeEach(async () => {
    kv = new MapKv();
    kv.gate = new Promise((resolve) => {
      letGo = resolve;
    });
    app = buildApp({ kv });
    app.server.once('connection', (socket: Socket) => {
      serverSide = socket;
    });
    await app.listen({ host: '127.0.0.1', port: 0 });
    client = await RawClient.open((app.server.address() as AddressInfo).port);
  });

  afterEach(async () => {
    client.close();
    await app.close();
  });

  it('a malformed request is not answered in its place', async () => {
    client.send(`PUT /v1/kv/k HTTP/1.1\r\n${HOST}Content-Length: 1\r\n\r\nxnonsense\r\n\r\n`);
    // A 400 here would pass for the answer to the PUT, which is carried out.
    expect(await client.end()).toHaveLength(0);
    letGo();
    expect(Buffer.from((await kv.get(Buffer.from('k')))!).toString()).toBe('x');
  });

  it('a flood of requests is taken in only as far as it is answered', async () => {
    const count = 30_000;
    client.send(`DELETE /v1/kv/k HTTP/1.1\r\n${HOST}\r\n`.repeat(count));
    let takenBytes: number;
    do {
      takenBytes = serverSide.bytesRead;
      await setTimeout(100);
    } while (takenBytes === 0 || serverSide.bytesRead > takenBytes);
    expect(takenBytes).toBeLessThan(512 * 1024);
    letGo();
    for (let i = 0; i < count; i++) {
      const answer = await client.answer();
      if (answer?.status !== 404) expect.fail(`answer ${i} is ${answer?.status}`);
    }
    expect(kv.dels).toBe(count);
  });

  it('what waits is never begun if the connection ends', async () => {
    client.send(`PUT /v1/kv/first HTTP/1.1\r\n${HOST}Content-Length: 1\r\n\r\nx`);
    client.send(`PUT /v1/kv/second HTTP/1.1\r\n${HOST}Content-Length: 1\r\n\r\ny`);
    while (serverSide.bytesRead < 100) await setTimeout(5);
    serverSide.destroy();
    await client.end();
    letGo();
    await app.close();
    expect(kv.puts).toBe(1);
  });
});
