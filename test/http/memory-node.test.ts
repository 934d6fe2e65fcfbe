import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { CliProcess, memoryNode } from './cli-process.js';

const folder = mkdtempSync(join(tmpdir(), 'patronus-kv-node-'));
const address = `unix:${join(folder, 'node.sock')}`;
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('servers over a memory node of another process', () => {
  it('share what it holds, also those that start later', async () => {
    await using _node = await memoryNode(address, '--policy', 'open');
    // Both find no table, and one makes it.
    const [one, two] = await Promise.all([1, 2].map(() => CliProcess.serve(['--memory-node', address])));
    await using _one = one!.process;
    await using _two = two!.process;
    expect(one!.process.stdout).toContain(`in the memory node at ${address}`);
    const put = await fetch(`${one!.url}/v1/kv/greeting`, { method: 'PUT', body: 'hello' });
    expect(put.status).toBe(201);
    expect(await (await fetch(`${two!.url}/v1/kv/greeting`)).text()).toBe('hello');
    await fetch(`${two!.url}/v1/kv/greeting`, { method: 'PUT', body: 'good evening' });
    one!.process.kill('SIGKILL');
    await one!.process.exited;
    expect(await (await fetch(`${two!.url}/v1/kv/greeting`)).text()).toBe('good evening');
    const third = await CliProcess.serve(['--memory-node', address]);
    await using _third = third.process;
    expect(await (await fetch(`${third.url}/v1/kv/greeting`)).text()).toBe('good evening');
  });

  it('say in one line that there is none', async () => {
    await using cli = new CliProcess(['--port', '0', '--memory-node', 'unix:nowhere.sock']);
    expect(await cli.exited).toEqual({ code: 1, signal: null });
    expect(cli.stderr).toBe('patronus-kv: it could not start: no memory node at unix:nowhere.sock\n');
  });

  it('say in one line which policy a memory node has to have', async () => {
    await using _node = await memoryNode(address);
    await using cli = new CliProcess(['--port', '0', '--memory-node', address]);
    expect(await cli.exited).toEqual({ code: 1, signal: null });
    expect(cli.stderr).toMatch(/^patronus-kv: it could not start: .* \(DeniedErr\): .*--policy open\)\n$/);
  });

  it('say in one line that memcached is not there', async () => {
    await using cli = new CliProcess(['--port', '0', '--memcached', '127.0.0.1:1']);
    expect(await cli.exited).toEqual({ code: 1, signal: null });
    expect(cli.stderr).toMatch(
      /^patronus-kv: it could not start: memcached at 127\.0\.0\.1:1 can't be used: .*\n$/,
    );
  });

  it('have no memory of their own', async () => {
    await using cli = new CliProcess(['--memory-node', address, '--memory', '64MiB']);
    expect(await cli.exited).toEqual({ code: 2, signal: null });
    expect(cli.stderr).toMatch(/cannot be used with option/);
  });
});
