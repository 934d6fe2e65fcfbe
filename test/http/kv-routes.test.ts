import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { Pool } from 'undici';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { buildApp } from '../../http/index.js';
import { HttpErrorCode, type ProblemCode, problem } from '../../http/problems.js';
import type { Kv } from '../../kv/index.js';
import { BACKENDS } from './backends.js';

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: Buffer;
}

interface Sent {
  readonly headers?: Record<string, string>;
  readonly body?: Uint8Array | string | AsyncIterable<Uint8Array>;
}

describe.each(BACKENDS)('/v1/kv/{key} over $name', ({ open }) => {
  let kv: Kv;
  let app: FastifyInstance;
  let client: Pool;

  beforeEach(async () => {
    kv = await open();
    app = buildApp({ kv });
    await app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = app.server.address() as AddressInfo;
    client = new Pool(`http://127.0.0.1:${port}`, { connections: 32 });
  });

  afterEach(async () => {
    await client.close();
    await app.close();
    await kv.close();
  });

  async function send(method: string, path: string, { headers, body }: Sent = {}): Promise<Answer> {
    const response = await client.request({
      method: method as 'GET',
      path,
      headers: headers ?? null,
      body: (body ?? null) as Uint8Array | null,
    });
    return {
      status: response.statusCode,
      headers: response.headers,
      body: Buffer.from(await response.body.arrayBuffer()),
    };
  }

  function expectProblem(answer: Answer, code: ProblemCode): void {
    const document = JSON.parse(answer.body.toString()) as Record<string, unknown>;
    expect(document).toEqual({ ...problem(code), detail: expect.any(String) });
    expect(answer.status).toBe(document.status);
    expect(answer.headers['content-type']).toBe('application/problem+json');
  }

  describe('PUT', () => {
    it('creates with 201, replaces with 204, with the ETag of what is stored', async () => {
      const created = await send('PUT', '/v1/kv/k', { body: 'one' });
      expect(created.status).toBe(201);
      expect(created.body).toHaveLength(0);
      expect((await send('GET', '/v1/kv/k')).headers.etag).toBe(created.headers.etag);
      const replaced = await send('PUT', '/v1/kv/k', { body: 'two' });
      expect(replaced.status).toBe(204);
      expect(replaced.headers.etag).toMatch(/^"[0-9a-f]+"$/);
      expect(replaced.headers.etag).not.toBe(created.headers.etag);
      const got = await send('GET', '/v1/kv/k');
      expect(got.headers.etag).toBe(replaced.headers.etag);
      expect(got.body.toString()).toBe('two');
    });

    it.each([
      undefined,
      'text/plain; charset=latin1',
      'application/json',
      'application/x-www-form-urlencoded',
      'multipart/form-data',
      'nonsense',
      '',
    ])('stores the bytes as they are whatever the content type is: %s', async (type) => {
      const body = Buffer.from([0, 0xff, 0x7b, 0x0d, 0x0a, 0xc3]);
      const answer = await send('PUT', '/v1/kv/k', {
        body,
        ...(type !== undefined && { headers: { 'content-type': type } }),
      });
      expect(answer.status).toBe(201);
      expect((await send('GET', '/v1/kv/k')).body).toEqual(body);
    });

    it('stores an empty value', async () => {
      for (const sent of [{}, { body: '' }, { headers: { 'content-type': 'application/json' } }]) {
        expect([201, 204]).toContain((await send('PUT', '/v1/kv/empty', sent)).status);
        const got = await send('GET', '/v1/kv/empty');
        expect(got.status).toBe(200);
        expect(got.headers['content-length']).toBe('0');
        expect(got.body).toHaveLength(0);
      }
    });

    it('stores a body in chunks, without a declared length', async () => {
      const chunks = ['a', 'bc', 'def'].map((text) => Buffer.from(text.repeat(1000)));
      const body = (async function* () {
        yield* chunks;
      })();
      expect((await send('PUT', '/v1/kv/k', { body })).status).toBe(201);
      expect((await send('GET', '/v1/kv/k')).body).toEqual(Buffer.concat(chunks));
    });

    it('takes values up to the limit and refuses larger ones, declared or not', async () => {
      const largest = Buffer.alloc(kv.maxValueBytes, 'x');
      expect((await send('PUT', '/v1/kv/k', { body: largest })).status).toBe(201);
      expect((await send('GET', '/v1/kv/k')).body.equals(largest)).toBe(true);
      const tooLarge = Buffer.alloc(kv.maxValueBytes + 1, 'y');
      expectProblem(await send('PUT', '/v1/kv/k', { body: tooLarge }), HttpErrorCode.VALUE_TOO_LARGE);
      const undeclared = (async function* () {
        yield tooLarge.subarray(0, 1000);
        yield tooLarge.subarray(1000);
      })();
      expectProblem(await send('PUT', '/v1/kv/k', { body: undeclared }), HttpErrorCode.VALUE_TOO_LARGE);
      expect((await send('GET', '/v1/kv/k')).body.equals(largest)).toBe(true);
    });

    it.each([
      ['if-match', 'abc', HttpErrorCode.PRECONDITION_MALFORMED],
      ['if-none-match', '"1", 2', HttpErrorCode.PRECONDITION_MALFORMED],
      ['content-range', 'bytes 0-2/5', HttpErrorCode.PARTIAL_PUT],
    ])('changes nothing with %s', async (name, value, code) => {
      await send('PUT', '/v1/kv/k', { body: 'old' });
      for (const method of ['PUT', 'POST', 'DELETE']) {
        expectProblem(await send(method, '/v1/kv/k', { headers: { [name]: value }, body: 'new' }), code);
      }
      expect((await send('GET', '/v1/kv/k')).body.toString()).toBe('old');
    });
  });

  describe('POST', () => {
    it('creates with 201, and refuses with 409 what is there', async () => {
      const created = await send('POST', '/v1/kv/k', { body: 'one' });
      expect(created.status).toBe(201);
      expectProblem(await send('POST', '/v1/kv/k', { body: 'two' }), HttpErrorCode.KEY_EXISTS);
      const got = await send('GET', '/v1/kv/k');
      expect(got.body.toString()).toBe('one');
      expect(got.headers.etag).toBe(created.headers.etag);
    });

    it('creates again after DELETE', async () => {
      await send('POST', '/v1/kv/k', { body: 'one' });
      await send('DELETE', '/v1/kv/k');
      expect((await send('POST', '/v1/kv/k', { body: 'two' })).status).toBe(201);
    });
  });

  describe('GET and HEAD', () => {
    it('answer with the same headers, HEAD without a body', async () => {
      await send('PUT', '/v1/kv/k', { body: 'value' });
      const got = await send('GET', '/v1/kv/k');
      expect(got.status).toBe(200);
      expect(got.body.toString()).toBe('value');
      expect(got.headers).toMatchObject({
        'content-type': 'application/octet-stream',
        'content-length': '5',
      });
      const head = await send('HEAD', '/v1/kv/k');
      expect(head.status).toBe(200);
      expect(head.body).toHaveLength(0);
      for (const name of ['content-type', 'content-length', 'etag']) {
        expect(head.headers[name], name).toBe(got.headers[name]);
      }
    });

    it('answer 404 for a key that is not there', async () => {
      expectProblem(await send('GET', '/v1/kv/k'), HttpErrorCode.KEY_NOT_FOUND);
      const head = await send('HEAD', '/v1/kv/k');
      expect(head.status).toBe(404);
      expect(head.body).toHaveLength(0);
    });

    it.each(['GET', 'HEAD'])('%s answers 304 if If-None-Match names what is stored', async (method) => {
      const { headers } = await send('PUT', '/v1/kv/k', { body: 'value' });
      const etag = headers.etag as string;
      for (const field of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
        const answer = await send(method, '/v1/kv/k', { headers: { 'if-none-match': field } });
        expect(answer.status, field).toBe(304);
        expect(answer.headers.etag).toBe(etag);
        expect(answer.body).toHaveLength(0);
      }
      expect((await send(method, '/v1/kv/k', { headers: { 'if-none-match': '"other"' } })).status).toBe(200);
      await send('PUT', '/v1/kv/k', { body: 'value' });
      expect((await send(method, '/v1/kv/k', { headers: { 'if-none-match': etag } })).status).toBe(200);
      expect((await send(method, '/v1/kv/absent', { headers: { 'if-none-match': '*' } })).status).toBe(404);
    });
  });

  describe('DELETE', () => {
    it('answers 204, then 404', async () => {
      await send('PUT', '/v1/kv/k', { body: 'value' });
      const deleted = await send('DELETE', '/v1/kv/k');
      expect(deleted.status).toBe(204);
      expect(deleted.body).toHaveLength(0);
      expectProblem(await send('GET', '/v1/kv/k'), HttpErrorCode.KEY_NOT_FOUND);
      expectProblem(await send('DELETE', '/v1/kv/k'), HttpErrorCode.KEY_NOT_FOUND);
    });
  });

  describe('preconditions', () => {
    const put = (body: string, headers: Record<string, string>, path = '/v1/kv/k') =>
      send('PUT', path, { body, headers });

    it('If-Match writes only over what it names, and answers with the new tag', async () => {
      const { headers } = await send('PUT', '/v1/kv/k', { body: 'one' });
      const one = headers.etag as string;
      const two = await put('two', { 'if-match': one });
      expect(two.status).toBe(204);
      expect((await send('GET', '/v1/kv/k')).headers.etag).toBe(two.headers.etag);
      expect(two.headers.etag).not.toBe(one);
      for (const field of [one, `W/${two.headers.etag}`, `${one}, "x"`, '"x"', '""']) {
        expectProblem(await put('three', { 'if-match': field }), HttpErrorCode.PRECONDITION_FAILED);
      }
      for (const field of [`"x", ${two.headers.etag}`, '*']) {
        const current = (await send('GET', '/v1/kv/k')).headers.etag as string;
        const answer = await put(field, { 'if-match': field.replace(two.headers.etag as string, current) });
        expect(answer.status, field).toBe(204);
      }
      expect((await send('GET', '/v1/kv/k')).body.toString()).toBe('*');
      for (const field of ['*', one]) {
        const absent = await put('x', { 'if-match': field }, '/v1/kv/absent');
        expectProblem(absent, HttpErrorCode.PRECONDITION_FAILED);
      }
      expect((await send('GET', '/v1/kv/absent')).status).toBe(404);
    });

    it('If-None-Match writes only over what it does not name', async () => {
      const created = await put('one', { 'if-none-match': '*' });
      expect(created.status).toBe(201);
      const one = created.headers.etag as string;
      for (const field of ['*', one, `W/${one}`, `"x",${one}`]) {
        expectProblem(await put('two', { 'if-none-match': field }), HttpErrorCode.PRECONDITION_FAILED);
      }
      const two = await put('two', { 'if-none-match': '"x", "y"' });
      expect(two.status).toBe(204);
      const both = { 'if-match': two.headers.etag as string, 'if-none-match': one };
      expect((await put('three', both)).status).toBe(204);
      expectProblem(await put('four', both), HttpErrorCode.PRECONDITION_FAILED);
      expect((await send('GET', '/v1/kv/k')).body.toString()).toBe('three');
      expect((await put('x', { 'if-none-match': '"x"' }, '/v1/kv/absent')).status).toBe(201);
    });

    it('DELETE and POST heed them where they would succeed', async () => {
      const { headers } = await send('PUT', '/v1/kv/k', { body: 'one' });
      const one = headers.etag as string;
      const remove = (headers: Record<string, string>) => send('DELETE', '/v1/kv/k', { headers });
      for (const failing of [{ 'if-match': '"x"' }, { 'if-none-match': '*' }, { 'if-none-match': one }]) {
        expectProblem(await remove(failing), HttpErrorCode.PRECONDITION_FAILED);
      }
      const post = (headers: Record<string, string>) => send('POST', '/v1/kv/k', { headers, body: 'two' });
      expectProblem(await post({ 'if-match': one }), HttpErrorCode.KEY_EXISTS);
      expectProblem(await post({ 'if-none-match': '*' }), HttpErrorCode.KEY_EXISTS);
      expect((await remove({ 'if-match': one })).status).toBe(204);
      expectProblem(await remove({ 'if-match': one }), HttpErrorCode.KEY_NOT_FOUND);
      expectProblem(await post({ 'if-match': '*' }), HttpErrorCode.PRECONDITION_FAILED);
      expect((await post({ 'if-none-match': '*' })).status).toBe(201);
      expect((await remove({ 'if-none-match': '"x"' })).status).toBe(204);
    });

    it('ignores conditions on dates, as values have none, also beside others', async () => {
      const date = 'Thu, 01 Jan 1970 00:00:01 GMT';
      const late = 'Fri, 31 Dec 2100 00:00:00 GMT';
      const created = await put('one', { 'if-unmodified-since': date, 'if-modified-since': late });
      expect(created.status).toBe(201);
      expect(created.headers['last-modified']).toBeUndefined();
      for (const method of ['GET', 'HEAD']) {
        const headers = { 'if-modified-since': late, 'if-unmodified-since': date };
        expect((await send(method, '/v1/kv/k', { headers })).status).toBe(200);
      }
      expect((await put('two', { 'if-unmodified-since': date })).status).toBe(204);
      const failing = { 'if-unmodified-since': late, 'if-match': created.headers.etag as string };
      expectProblem(await put('three', failing), HttpErrorCode.PRECONDITION_FAILED);
      expect((await send('GET', '/v1/kv/k')).body.toString()).toBe('two');
      const removed = await send('DELETE', '/v1/kv/k', { headers: { 'if-unmodified-since': date } });
      expect(removed.status).toBe(204);
    });

    it('of writers of one tag one succeeds', async () => {
      const { headers } = await send('PUT', '/v1/kv/k', { body: '0' });
      let etag = headers.etag as string;
      for (let round = 0; round < 5; round++) {
        // Two ways to say the same.
        const fields = [etag, `"x", ${etag}`, etag, `"x", ${etag}`];
        const answers = await Promise.all(fields.map((field, i) => put(`${i}`, { 'if-match': field })));
        const statuses = answers.map(({ status }) => status).sort();
        expect(statuses).toEqual([204, 412, 412, 412]);
        const winner = answers.findIndex(({ status }) => status === 204);
        const got = await send('GET', '/v1/kv/k');
        expect(got.body.toString()).toBe(`${winner}`);
        etag = got.headers.etag as string;
        expect(answers[winner]!.headers.etag).toBe(etag);
      }
    });
  });

  describe('keys', () => {
    it('are distinct bytes, however they look as paths', async () => {
      const paths = [
        'a', 'A', 'a/', '/a', 'a/b', 'a//b', '.', '..', '../a', './a', 'a/../b', '%00', 'a%00', '%FF', '%C3%BF', '%C3',
        '%EF%BF%BD', 'a+b', 'a%20b', 'a%2520b', '%3Fx', '%23x', 'v1/kv/a', '%E2%82%AC', "it's", 'a;b=c', '%7F', '~',
      ]; // biome-ignore format: a table
      for (const path of paths) {
        expect((await send('PUT', `/v1/kv/${path}`, { body: `value of ${path}` })).status, path).toBe(201);
      }
      for (const path of paths) {
        expect((await send('GET', `/v1/kv/${path}`)).body.toString()).toBe(`value of ${path}`);
      }
      // The same bytes, written in another way.
      for (const [path, other] of [
        ['a/b', 'a%2Fb'],
        ['.', '%2e'],
        ['a+b', '%61%2B%62'],
        ['%FF', '%ff'],
      ] as const) {
        expect((await send('GET', `/v1/kv/${other}`)).body.toString()).toBe(`value of ${path}`);
      }
      for (const path of paths) expect((await send('DELETE', `/v1/kv/${path}`)).status, path).toBe(204);
    });

    it('have up to 4096 bytes, each of which may be written as %XX', async () => {
      const longest = `/v1/kv/${'%ab'.repeat(kv.maxKeyBytes)}`;
      expect(kv.maxKeyBytes).toBe(4096);
      expect((await send('PUT', longest, { body: 'x' })).status).toBe(201);
      expect((await send('GET', longest)).body.toString()).toBe('x');
      expectProblem(await send('PUT', `${longest}%ab`, { body: 'x' }), HttpErrorCode.KEY_TOO_LONG);
    });

    it.each([
      ['', HttpErrorCode.KEY_EMPTY],
      ['%', HttpErrorCode.KEY_MALFORMED],
      ['%zz', HttpErrorCode.KEY_MALFORMED],
      ['a#b', HttpErrorCode.KEY_MALFORMED],
      ['a?b=c', HttpErrorCode.QUERY_UNSUPPORTED],
    ])('%j is refused with every method', async (path, code) => {
      for (const method of ['GET', 'PUT', 'POST', 'DELETE']) {
        expectProblem(await send(method, `/v1/kv/${path}`), code);
      }
      expect((await send('HEAD', `/v1/kv/${path}`)).status).toBe(400);
    });
  });

  it.each(['PATCH', 'OPTIONS', 'TRACE', 'QUERY', 'PROPFIND', 'LOCK'])(
    '%s is answered with 405',
    async (method) => {
      const answer = await send(method, '/v1/kv/k', method === 'PATCH' ? { body: 'x' } : {});
      expectProblem(answer, HttpErrorCode.METHOD_NOT_ALLOWED);
      expect(answer.headers.allow).toBe('GET, HEAD, PUT, POST, DELETE');
    },
  );

  it('many clients at once, each sees its own writes', async () => {
    const rounds = Array.from({ length: 64 }, async (_, worker) => {
      for (let round = 0; round < 10; round++) {
        const body = `${worker}.${round}`;
        await send('PUT', `/v1/kv/worker-${worker}`, { body });
        expect((await send('GET', `/v1/kv/worker-${worker}`)).body.toString()).toBe(body);
      }
    });
    await Promise.all(rounds);
  });
});
