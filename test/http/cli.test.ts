import { createServer } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { Pool } from 'undici';
import { describe, expect, it } from 'vitest';
import { CliProcess } from './cli-process.js';
import { RawClient } from './raw-client.js';

async function run(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  await using cli = new CliProcess(args);
  const { code } = await cli.exited;
  return { code, stdout: cli.stdout, stderr: cli.stderr };
}

describe('patronus-kv', () => {
  it.each(['--help', '-h'])('%s shows every option and examples', async (flag) => {
    const { code, stdout, stderr } = await run(flag);
    expect(code).toBe(0);
    expect(stderr).toBe('');
    for (const text of [
      'Usage: patronus-kv',
      '--port',
      '--host',
      '--memory',
      '256MiB',
      '--version',
      'Examples:',
      'curl',
    ]) {
      expect(stdout).toContain(text);
    }
  });

  it.each(['--version', '-V'])('%s shows the version', async (flag) => {
    const { code, stdout } = await run(flag);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it.each([
    [['--port', '65536'], /port is a number from 0 to 65535/],
    [['--port', '-1'], /port is a number from 0 to 65535/],
    [['--port', '80a'], /port is a number from 0 to 65535/],
    [['--port', ''], /port is a number from 0 to 65535/],
    [['--port'], /argument missing/],
    [['--memory', '256'], /least is 4MiB/],
    [['--memory', '256M'], /B, KiB, MiB, GiB, KB, MB or GB/],
    [['--memory', 'lots'], /B, KiB, MiB, GiB, KB, MB or GB/],
    [['--memory', '-4MiB'], /B, KiB, MiB, GiB, KB, MB or GB/],
    [['--bogus'], /unknown option/],
    [['serve'], /too many arguments/],
  ])('%j is bad usage: one line and exit code 2', async (args, message) => {
    const { code, stdout, stderr } = await run(...args);
    expect(code).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toMatch(message);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  it('says in one line that the port is taken, exit code 1', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    try {
      const { port } = other.address() as { port: number };
      const { code, stdout, stderr } = await run('--port', String(port));
      expect(code).toBe(1);
      expect(stdout).toBe('');
      expect(stderr).toBe(`patronus-kv: port ${port} of 127.0.0.1 is in use; --port chooses another one\n`);
    } finally {
      other.close();
    }
  });

  it('says in one line that the host is none of this machine, exit code 1', async () => {
    const { code, stderr } = await run('--host', '192.0.2.1', '--port', '0');
    expect(code).toBe(1);
    expect(stderr).toBe('patronus-kv: 192.0.2.1 is no address of this machine\n');
  });

  it('tells how to talk to it, in lines that work', async () => {
    const { process: cli, url } = await CliProcess.serve(['--memory', '16MiB']);
    await using _ = cli;
    expect(cli.stdout).toContain('16 MiB');
    expect(cli.stdout).toContain(`curl -X PUT --data-binary 'hello' ${url}/v1/kv/greeting`);
    expect((await fetch(`${url}/v1/kv/greeting`, { method: 'PUT', body: 'hello' })).status).toBe(201);
    expect(await (await fetch(`${url}/v1/kv/greeting`)).text()).toBe('hello');
  });
});

describe('a signal', () => {
  it.each(['SIGINT', 'SIGTERM'] as const)('%s stops an idle server with exit code 0', async (signal) => {
    const { process: cli, url, port } = await CliProcess.serve();
    await using _ = cli;
    await fetch(`${url}/v1/health`);
    cli.kill(signal);
    expect(await cli.exited).toEqual({ code: 0, signal: null });
    expect(cli.stderr).toBe(`${signal}: stopping\n`);
    await expect(RawClient.open(port)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('a second one ends a server that waits for a request at once, with another exit code', async () => {
    const { process: cli, port } = await CliProcess.serve();
    await using _ = cli;
    const client = await RawClient.open(port);
    client.send('PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n');
    await setTimeout(100);
    cli.kill('SIGTERM');
    while (!cli.stderr.includes('stopping')) await setTimeout(5);
    cli.kill('SIGINT');
    expect(await cli.exited).toEqual({ code: 130, signal: null });
    client.close();
  });

  it('SIGTERM under load: what was answered is true, all else is a connection error, exit code 0', async () => {
    const { process: cli, url } = await CliProcess.serve();
    await using _ = cli;
    const connections = 16;
    const pool = new Pool(url, { connections, pipelining: 1 });
    let answered = 0;
    const untrue: string[] = [];
    const failures: Error[] = [];

    /** Writes and reads back until the server is gone. */
    async function load(worker: number): Promise<void> {
      try {
        for (let round = 0; ; round++) {
          const path = `/v1/kv/${worker}/${round % 50}`;
          const value = `value ${round} of ${worker} `.repeat(1 + (round % 100));
          const put = await pool.request({ path, method: 'PUT', body: value });
          await put.body.dump();
          if (put.statusCode !== (round < 50 ? 201 : 204)) untrue.push(`PUT ${path}: ${put.statusCode}`);
          const got = await pool.request({ path, method: 'GET' });
          const text = await got.body.text();
          if (got.statusCode !== 200 || text !== value) untrue.push(`GET ${path}: ${got.statusCode}`);
          answered++;
        }
      } catch (error) {
        failures.push(error as Error);
      }
    }

    const workers = Array.from({ length: connections }, (_, worker) => load(worker));
    while (answered < 1000) await setTimeout(10);
    cli.kill('SIGTERM');
    expect(await cli.exited).toEqual({ code: 0, signal: null });
    await Promise.all(workers);
    await pool.destroy();
    expect(untrue).toEqual([]);
    expect(failures).toHaveLength(connections);
    for (const error of failures) {
      expect(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET']).toContain(
        (error as NodeJS.ErrnoException).code,
      );
    }
    expect(cli.stderr).toBe('SIGTERM: stopping\n');
  });
});
