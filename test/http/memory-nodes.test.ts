import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { problem } from '../../http/problems.js';
import { CliProcess, memoryNode } from './cli-process.js';

const folder = mkdtempSync(join(tmpdir(), 'patronus-kv-nodes-'));
const addresses = ['one', 'two'].map((name) => `unix:${join(folder, name)}`);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const KEYS = Array.from({ length: 60 }, (_, i) => `key-${i}`);

function start(id: number): Promise<AsyncDisposable> {
  return memoryNode(addresses[id]!, '--policy', 'open', '--node-id', String(id));
}

describe('a server over two memory nodes of other processes', () => {
  it('goes on without one that is killed, and with it when it is back', { timeout: 120_000 }, async () => {
    await using _first = await start(0);
    await using second = await start(1);
    const { process: server, url } = await CliProcess.serve(
      addresses.flatMap((address) => ['--memory-node', address]),
    );
    await using _server = server;
    expect(server.stdout).toContain(`in the memory nodes at ${addresses.join(', ')}`);
    const of = (key: string) => `${url}/v1/kv/${key}`;
    const status = async (key: string, method = 'GET', body?: string) => {
      const response = await fetch(of(key), { method, ...(body !== undefined && { body }) });
      await response.arrayBuffer();
      return response.status;
    };
    for (const key of KEYS) expect(await status(key, 'PUT', key)).toBe(201);

    await second[Symbol.asyncDispose]();
    const down: string[] = [];
    const up: string[] = [];
    for (const key of KEYS) {
      const response = await fetch(of(key));
      if (response.status === 200) {
        expect(await response.text()).toBe(key);
        up.push(key);
        continue;
      }
      expect(response.status).toBe(503);
      expect(response.headers.get('content-type')).toBe('application/problem+json');
      expect(response.headers.get('retry-after')).toBe('1');
      const document = await response.json();
      expect(document).toEqual({ ...problem('ERR_KV_UNAVAILABLE'), detail: expect.any(String) });
      down.push(key);
    }
    expect(down.length).toBeGreaterThan(10);
    expect(up.length).toBeGreaterThan(10);
    for (const key of up.slice(0, 5)) expect(await status(key, 'PUT', 'again')).toBe(204);
    for (const method of ['PUT', 'DELETE']) expect(await status(down[0]!, method, 'x')).toBe(503);

    await using _again = await start(1);
    // The server looks for the node when somebody wants its keys.
    while ((await status(down[0]!)) === 503) await pause(50);
    for (const key of down) expect(await status(key), key).toBe(404);
    for (const key of up) expect(await status(key), key).toBe(200);
    expect(await status(down[0]!, 'PUT', 'new')).toBe(201);
    expect(await (await fetch(of(down[0]!))).text()).toBe('new');
  });
});
