import { STATUS_CODES } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { buildApp } from '../../http/index.js';
import { HttpErrorCode, PROBLEMS, type ProblemCode, problem } from '../../http/problems.js';
import { KvError, KvErrorCode } from '../../kv/index.js';
import { MapKv } from './map-kv.js';

const codes: ProblemCode[] = [...Object.values(HttpErrorCode), ...Object.values(KvErrorCode)];

/** What each code means to a client: changing one of these breaks clients. */
const STATUSES: Record<ProblemCode, number> = {
  ERR_HTTP_NO_ROUTE: 404,
  ERR_HTTP_METHOD_NOT_ALLOWED: 405,
  ERR_HTTP_KEY_NOT_FOUND: 404,
  ERR_HTTP_KEY_EXISTS: 409,
  ERR_HTTP_KEY_EMPTY: 400,
  ERR_HTTP_KEY_MALFORMED: 400,
  ERR_HTTP_KEY_TOO_LONG: 414,
  ERR_HTTP_QUERY_UNSUPPORTED: 400,
  ERR_HTTP_VALUE_TOO_LARGE: 413,
  ERR_HTTP_PARTIAL_PUT: 400,
  ERR_HTTP_PRECONDITION_FAILED: 412,
  ERR_HTTP_PRECONDITION_MALFORMED: 400,
  ERR_HTTP_MALFORMED_REQUEST: 400,
  ERR_HTTP_HEADERS_TOO_LARGE: 431,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
  ERR_HTTP_INTERNAL: 500,
  ERR_KV_TABLE_FULL: 507,
  ERR_KV_NO_MEMORY: 507,
  ERR_KV_UNAVAILABLE: 503,
  ERR_KV_CONTENTION: 503,
  ERR_KV_OUTCOME_UNKNOWN: 504,
  ERR_KV_CLOSED: 503,
  ERR_KV_NOT_A_COUNTER: 409,
  ERR_KV_BAD_TABLE: 500,
};

describe('the catalogue of problems', () => {
  it('has every code once, with its status', () => {
    expect(Object.keys(PROBLEMS).sort()).toEqual([...codes].sort());
    expect(Object.fromEntries(Object.entries(PROBLEMS).map(([code, { status }]) => [code, status]))).toEqual(
      STATUSES,
    );
  });

  it.each(codes)('%s says what a client needs to know', (code) => {
    const { status, title, detail, retryAfterSeconds } = PROBLEMS[code];
    expect(STATUS_CODES[status]).toBeDefined();
    expect(title).toMatch(/^[A-Z].*[^.]$/);
    expect(detail).toMatch(/^[A-Z].*\.$/);
    expect(retryAfterSeconds !== undefined).toBe(status === 503);
    expect(problem(code)).toEqual({
      type: `urn:problem-type:patronus-kv:${code}`,
      title,
      status,
      detail,
      code,
    });
  });

  it('has titles that tell problems apart', () => {
    expect(new Set(Object.values(PROBLEMS).map(({ title }) => title)).size).toBe(codes.length);
  });
});

describe('failures of the store', () => {
  const reported: unknown[] = [];
  let kv: MapKv;
  let app: ReturnType<typeof buildApp>;

  beforeEach(() => {
    reported.length = 0;
    kv = new MapKv();
    app = buildApp({ kv, onInternalError: (error) => reported.push(error) });
  });
  afterEach(() => app.close());

  const requests = [
    ['GET', '/v1/kv/k'],
    ['HEAD', '/v1/kv/k'],
    ['PUT', '/v1/kv/k'],
    ['POST', '/v1/kv/k'],
    ['DELETE', '/v1/kv/k'],
    ['GET', '/v1/health'],
  ] as const;

  describe.each(requests)('at %s %s', (method, url) => {
    it.each(Object.values(KvErrorCode))('%s has its status and code', async (code) => {
      kv.failure = new KvError(code, 'rkey 0x1234 of window 7');
      const answer = await app.inject({ method, url });
      expect(answer.statusCode).toBe(PROBLEMS[code].status);
      expect(answer.headers['content-type']).toBe('application/problem+json');
      expect(answer.headers['retry-after']).toBe(PROBLEMS[code].status === 503 ? '1' : undefined);
      if (method !== 'HEAD') expect(answer.json()).toEqual(problem(code));
      expect(reported).toEqual([]);
    });

    it.each([new Error('secret'), new TypeError('secret'), 'secret', null])(
      'anything else, such as %s, is reported and tells nothing',
      async (failure) => {
        kv.failure = failure;
        const answer = await app.inject({ method, url });
        expect(answer.statusCode).toBe(500);
        if (method !== 'HEAD') expect(answer.json()).toEqual(problem(HttpErrorCode.INTERNAL));
        expect(reported).toEqual([failure]);
      },
    );

    it('what a store throws at once, instead of rejecting, is no different', async () => {
      const failure = new RangeError('secret');
      for (const name of ['getEntry', 'has', 'put', 'del'] as const) {
        kv[name] = () => {
          throw failure;
        };
      }
      const answer = await app.inject({ method, url });
      expect(answer.statusCode).toBe(500);
      if (method !== 'HEAD') expect(answer.json()).toEqual(problem(HttpErrorCode.INTERNAL));
      expect(reported).toEqual([failure]);
    });
  });
});
