import type { FastifyInstance } from 'fastify';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { buildApp } from '../../http/index.js';
import { HttpErrorCode, problem } from '../../http/problems.js';
import { MapKv } from './map-kv.js';

describe('the app', () => {
  let kv: MapKv;
  let app: FastifyInstance;

  beforeEach(() => {
    kv = new MapKv();
    app = buildApp({ kv });
  });
  afterEach(() => app.close());

  it('tells at / how to talk to it', async () => {
    const answer = await app.inject('/');
    expect(answer.statusCode).toBe(200);
    expect(answer.headers['content-type']).toBe('text/plain; charset=utf-8');
    for (const method of ['GET', 'PUT', 'POST', 'DELETE']) {
      expect(answer.body).toMatch(new RegExp(`^ +${method} +/v1/kv/\\{key\\}`, 'm'));
    }
  });

  it('is healthy while the store answers', async () => {
    const answer = await app.inject('/v1/health');
    expect(answer.statusCode).toBe(200);
    expect(answer.json()).toEqual({ status: 'ok' });
    await kv.close();
    expect((await app.inject('/v1/health')).statusCode).toBe(503);
  });

  it('shows the figures of the store and of the process', async () => {
    await app.inject({ method: 'PUT', url: '/v1/kv/k', payload: 'v' });
    await app.inject('/v1/kv/k');
    const stats = (await app.inject('/v1/stats')).json();
    expect(stats.kv).toEqual(kv.stats());
    expect(stats.kv).toMatchObject({ gets: 1, puts: 1, dels: 0 });
    expect(stats.limits).toEqual({ maxKeyBytes: kv.maxKeyBytes, maxValueBytes: kv.maxValueBytes });
    expect(stats.process).toMatchObject({ pid: process.pid, node: process.version });
    for (const name of ['uptimeSeconds', 'rssBytes', 'heapUsedBytes', 'arrayBuffersBytes']) {
      expect(stats.process[name]).toBeGreaterThan(0);
    }
  });

  it.each(['/', '/v1/health', '/v1/stats'])('%s takes GET and HEAD only', async (url) => {
    expect((await app.inject({ method: 'HEAD', url })).statusCode).toBe(200);
    for (const method of ['PUT', 'POST', 'DELETE', 'PATCH', 'OPTIONS'] as const) {
      const answer = await app.inject({ method, url, payload: 'x' });
      expect(answer.json()).toEqual(problem(HttpErrorCode.METHOD_NOT_ALLOWED));
      expect(answer.headers.allow).toBe('GET, HEAD');
    }
  });

  it.each(['/v1', '/v1/kv', '/v1/kvx', '/v2/kv/k', '/v1/k%76/', '/v1/k%76/k', '/favicon.ico', '/V1/KV/k'])(
    '%s is no resource',
    async (url) => {
      for (const method of ['GET', 'PUT', 'POST', 'DELETE', 'PATCH'] as const) {
        const answer = await app.inject({ method, url });
        expect(answer.statusCode).toBe(404);
        expect(answer.headers['content-type']).toBe('application/problem+json');
        expect(answer.json()).toEqual(problem(HttpErrorCode.NO_ROUTE));
      }
    },
  );

  it.each(['/%zz', '/v1/%', '/%ff'])('%s is malformed', async (url) => {
    const answer = await app.inject(url);
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(answer.json()).toEqual(problem(HttpErrorCode.MALFORMED_REQUEST));
  });
});
