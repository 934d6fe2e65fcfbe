import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { RunResult } from '../../loadgen/index.js';
import { startMapServer } from './map-server.js';

const CLI = fileURLToPath(new URL('../../loadgen/cli.js', import.meta.url));

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the program; `interruptAt` sends SIGINT once standard error matches. */
function loadgen(args: string[], interruptAt?: RegExp): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [CLI, ...args], { timeout: 60_000 });
    let stdout = '';
    let stderr = '';
    let interrupted = false;
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
      if (interruptAt?.test(stderr) && !interrupted) {
        interrupted = true;
        child.kill('SIGINT');
      }
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

describe('help', () => {
  it.each([[['--help']], [['run', '--help']]])('is printed for %o, with examples', async (args) => {
    const { code, stdout, stderr } = await loadgen(args);
    expect(code).toBe(0);
    expect(stderr).toBe('');
    expect(stdout).toContain('Usage: patronus-loadgen');
    expect(stdout).toContain('$ patronus-loadgen run --workload a');
  });

  it('names every option of run', async () => {
    const { stdout } = await loadgen(['run', '--help']);
    for (const option of [
      '--workload',
      '--url',
      '--embedded',
      '--memory',
      '--records',
      '--no-load',
      '--operations',
      '--seconds',
      '--value-bytes',
      '--concurrency',
      '--distribution',
      '--rate',
      '--seed',
      '--json',
    ]) {
      expect(stdout).toContain(`${option} `);
    }
  });
});

describe('a wrong command line', () => {
  it.each([
    ['without a command', [], /Usage/],
    ['of an unknown command', ['walk'], /unknown command/],
    ['without a workload', ['run'], /--workload/],
    ['of an unknown workload', ['run', '--workload', 'z'], /Allowed choices are a, b, c/],
    ['of an unknown option', ['run', '--workload', 'a', '--fast'], /unknown option/],
    ['with an argument', ['run', '--workload', 'a', 'b'], /too many arguments/],
    ['with half a number', ['run', '--workload', 'a', '--records', '12x'], /Not an integer/],
    ['without records', ['run', '--workload', 'a', '--records', '0'], /records must be/],
    ['with short values', ['run', '--workload', 'a', '--value-bytes', '8'], /valueBytes must be/],
    ['with a rate of zero', ['run', '--workload', 'a', '--rate', '0'], /Not a positive number/],
    [
      'with two ends',
      ['run', '--workload', 'a', '--operations', '1', '--seconds', '1'],
      /cannot be used with/,
    ],
    ['with a URL that is none', ['run', '--workload', 'a', '--url', 'localhost:80'], /Not a URL/],
    [
      'with two stores',
      ['run', '--workload', 'a', '--embedded', '--url', 'http://[::1]'],
      /cannot be used with/,
    ],
    ['that has nothing loaded', ['run', '--workload', 'a', '--embedded', '--no-load'], /cannot be used with/],
    ['with memory for a server', ['run', '--workload', 'a', '--memory', '1GiB'], /--memory needs/],
    ['with a size that is none', ['run', '--workload', 'a', '--embedded', '--memory', '1MB'], /Not a size/],
  ])('%s exits with 2', async (_, args, message) => {
    const { code, stdout, stderr } = await loadgen(args);
    expect(stderr).toMatch(message);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });
});

it('says in one line that no server is there', async () => {
  const server = await startMapServer();
  await server[Symbol.asyncDispose]();
  const { code, stdout, stderr } = await loadgen(['run', '--workload', 'a', '--url', server.url]);
  expect(code).toBe(1);
  expect(stdout).toBe('');
  expect(stderr).toMatch(/^error: no store answers at http:\/\/127\.0\.0\.1:\d+: .*ECONNREFUSED.*\n$/);
});

describe('a run', () => {
  const small = ['run', '--records', '200', '--concurrency', '4', '--operations', '1000'];

  it('prints a summary and exits with 0', async () => {
    await using server = await startMapServer();
    const { code, stdout } = await loadgen([...small, '--workload', 'a', '--url', server.url]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^workload a, zipfian, 200 records of 100 bytes, concurrency 4, seed 1\n/);
    expect(stdout).toMatch(/\nload: 200 operations in /);
    expect(stdout).toMatch(/\nrun: 1,000 operations in /);
    expect(stdout).toMatch(/\n {2}read +\d+ /);
    expect(stdout).toMatch(/\n {2}update +\d+ /);
    expect(stdout).toMatch(/\nok: no errors, \d+ reads verified\n$/);
  });

  it('prints JSON', async () => {
    await using server = await startMapServer();
    const args = [...small, '--workload', 'c', '--seed', '-5', '--distribution', 'uniform', '--json'];
    const { code, stdout } = await loadgen([...args, '--url', server.url]);
    expect(code).toBe(0);
    const result = JSON.parse(stdout) as RunResult;
    expect(result.settings).toMatchObject({ workload: 'c', seed: -5, distribution: 'uniform', records: 200 });
    expect(result.run!.byType.read!.operations).toBe(1000);
  });

  it('exits with 1 after misses, and shows some', async () => {
    await using server = await startMapServer();
    const { code, stdout } = await loadgen([...small, '--workload', 'c', '--no-load', '--url', server.url]);
    expect(code).toBe(1);
    expect(stdout).toContain('read misses: 1,000');
    expect(stdout).toMatch(/user\d{19}: misses: not found/);
    expect(stdout).toMatch(/\nFAILED: see above\n$/);
  });

  it('exits with 1 after a failed load phase', async () => {
    await using server = await startMapServer((method) => (method === 'PUT' ? 507 : undefined));
    const { code, stdout } = await loadgen([...small, '--workload', 'a', '--url', server.url]);
    expect(code).toBe(1);
    expect(stdout).toContain('insert errors: 200 HTTP_507 (status 507: {"title": "as told"})');
    expect(stdout).toContain('FAILED: not all records could be loaded');
  });

  it('needs no server with a store of its own', async () => {
    const args = [...small, '--workload', 'a', '--embedded', '--memory', '16MiB'];
    const { code, stdout } = await loadgen(args);
    expect(code).toBe(0);
    expect(stdout).toMatch(/\nrun: 1,000 operations in /);
    expect(stdout).toMatch(/\nok: no errors, /);
  });

  it('says in one line that the store cannot be opened', async () => {
    const { code, stderr } = await loadgen([...small, '--workload', 'a', '--embedded', '--memory', '1KiB']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: .*\n$/);
  });

  it('ends at Ctrl-C with the summary so far', async () => {
    await using server = await startMapServer();
    const args = ['run', '--workload', 'b', '--records', '100', '--seconds', '60', '--url', server.url];
    const { code, stdout, stderr } = await loadgen(args, /run +1 s .*ops\/s {2}p50 .* us {2}p99 .* us/);
    expect(stderr).toMatch(/^run /m);
    expect(stdout).toMatch(/\nrun: [\d,]+ operations in /);
    expect(stdout).toMatch(/\nok: interrupted, no errors, /);
    expect(code).toBe(130);
  });
});
