import { execFileSync, spawn } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../house/tree.js';

const MINUTE = 60_000;

/** Run a program with its output passed on as it comes; its exit code and all of the output. */
function run(
  program: string,
  args: string[],
  timeout: number,
): Promise<{ code: number | null; output: string }> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout, killSignal: 'SIGKILL' });
  let output = '';
  const take = (chunk: Buffer) => {
    output += chunk.toString();
    process.stderr.write(chunk);
  };
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output }));
  });
}

test.each(['plain', 'address', 'thread'])(
  'the C++ tests of the software RNIC pass: %s build',
  async (variant) => {
    const folder = join(ROOT, 'test/native/cpp');
    execFileSync('make', ['-j2', `VARIANT=${variant}`], { cwd: folder, timeout: 10 * MINUTE, stdio: 'pipe' });
    const program = join(ROOT, 'native/build/cpp', variant, 'rnic-test');
    const { code, output } = await run(program, [], 5 * MINUTE);
    expect(output).not.toMatch(/Sanitizer|runtime error/);
    expect(output).toMatch(/^\d+ tests passed$/m);
    expect(code).toBe(0);
  },
  16 * MINUTE,
);
