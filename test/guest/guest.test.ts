/**
 * The libibverbs provider on the kernel's Soft-RoCE: a small virtual machine boots, runs test/guest/inside and prints
 * the results, each of which becomes a test here. Needs qemu and Debian's packages; what is missing is said.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { GuestResult } from './inside/vitest.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const MARK = '@result ';
/** Exit code of scripts/guest/app.sh where a guest can't be had. */
const UNAVAILABLE = 3;
const BUILD_MS = 240_000;
const RUN_MS = 600_000;

interface Run {
  readonly code: number | null;
  readonly output: string;
}

function run(program: string, args: readonly string[], limitMs: number): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    const timer = setTimeout(() => child.kill('SIGKILL'), limitMs);
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString('latin1')));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString('latin1')));
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({ code, output });
    });
  });
}

const built = await run('sh', ['scripts/guest/app.sh'], BUILD_MS);

describe.runIf(built.code === UNAVAILABLE)('Soft-RoCE guest', () => {
  test('is not there', ({ skip }) => {
    const reason = built.output.trim().split('\n').at(-1)!;
    process.stdout.write(`Soft-RoCE guest: skipped: ${reason}\n`);
    skip(reason);
  });
});

describe.runIf(built.code !== UNAVAILABLE)('Soft-RoCE guest', async () => {
  test('is built', () => {
    expect(built).toMatchObject({ code: 0 });
  });
  if (built.code !== 0) return;

  const { output } = await run('sh', ['scripts/guest/boot.sh'], RUN_MS);
  const lines = output.split(/\r?\n/);
  const results = lines
    .filter((line) => line.startsWith(MARK))
    .map((line) => JSON.parse(line.slice(MARK.length)) as GuestResult);

  test('boots, runs the tests to their end and halts', () => {
    // Without the end there was a panic, or the time was over: what it printed last says which.
    const tail = lines.filter((line) => !line.startsWith(MARK)).slice(-40);
    expect(tail.join('\n')).toMatch(/^guest-end [01]$/m);
    expect(output).not.toMatch(/Kernel panic|BUG:|Oops/);
    expect(results.length).toBeGreaterThan(50);
  });

  for (const { title, status, error } of results) {
    test(title, ({ skip }) => {
      if (status === 'skipped') skip('the device lacks what it needs');
      expect(error).toBeUndefined();
      expect(status).toBe('passed');
    });
  }
});
