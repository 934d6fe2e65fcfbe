import { expect, it } from 'vitest';
import { HttpStatusError, HttpStore, runWorkload } from '../../loadgen/index.js';
import { startMapServer } from './map-server.js';

const key = (text: string): Buffer => Buffer.from(text, 'latin1');

it('puts and gets raw bytes under percent-encoded keys', async () => {
  await using server = await startMapServer();
  const store = new HttpStore(server.url);
  try {
    const big = Buffer.alloc(300_000, 'abc');
    for (const [name, value] of [
      ['user1', Buffer.from([0, 255, 10])],
      ['a/b ?\xff', Buffer.alloc(0)],
      ['..', big],
    ] as const) {
      expect(await store.get(key(name))).toBeUndefined();
      await store.put(key(name), value);
      expect(Buffer.from((await store.get(key(name)))!).equals(value)).toBe(true);
    }
    expect([...server.values.keys()]).toEqual(['/v1/kv/user1', '/v1/kv/%61%2f%62%20%3f%ff', '/v1/kv/%2e%2e']);
  } finally {
    await store.close();
  }
});

it('keeps a path before the API', async () => {
  await using server = await startMapServer();
  const store = new HttpStore(`${server.url}/below/`);
  await store.put(key('k'), key('v'));
  await store.close();
  expect([...server.values.keys()]).toEqual(['/below/v1/kv/k']);
});

it('rejects with the status where it is an error', async () => {
  await using server = await startMapServer((method) => (method === 'PUT' ? 507 : 500));
  const store = new HttpStore(server.url);
  const putError = await store.put(key('k'), key('v')).catch((error: unknown) => error);
  expect(putError).toBeInstanceOf(HttpStatusError);
  expect(putError).toMatchObject({
    status: 507,
    code: 'HTTP_507',
    message: 'status 507: {"title": "as told"}',
  });
  await expect(store.get(key('k'))).rejects.toMatchObject({ code: 'HTTP_500' });
  await store.close();
});

it('rejects with the code of the connection where there is no server', async () => {
  const server = await startMapServer();
  await server[Symbol.asyncDispose]();
  const store = new HttpStore(server.url);
  await expect(store.get(key('k'))).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  await store.close();
});

it('refuses what is not an HTTP URL', () => {
  expect(() => new HttpStore('ftp://127.0.0.1/')).toThrow(TypeError);
  expect(() => new HttpStore('127.0.0.1:8080')).toThrow(TypeError);
});

it('runs a workload', async () => {
  await using server = await startMapServer();
  const store = new HttpStore(server.url, { connections: 8 });
  const result = await runWorkload({ store, workload: 'a', records: 200, operations: 2000, concurrency: 16 });
  await store.close();
  expect(result.ok).toBe(true);
  expect(result.run!.operations).toBe(2000);
  expect(server.values.size).toBe(200);
});

it('counts failures of a server that goes away, apart by code', async () => {
  let requests = 0;
  await using server = await startMapServer((method) => {
    requests += 1;
    if (requests === 600) server.server.closeAllConnections();
    return method === 'GET' && requests > 500 && requests < 600 ? 503 : undefined;
  });
  const store = new HttpStore(server.url, { connections: 1 });
  const result = await runWorkload({ store, workload: 'c', records: 200, operations: 1000 });
  await store.close();
  expect(result.ok).toBe(false);
  const { read } = result.run!.byType;
  expect(read!.operations + 99 + 1).toBe(1000);
  expect(read!.errors).toMatchObject([{ code: 'HTTP_503', count: 99 }, { count: 1 }]);
});
