import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../house/tree.js';
import { run } from './program.js';

const MINUTE = 60_000;

test.each(['plain', 'address', 'thread'])(
  'the C++ tests of the software RNIC pass: %s build',
  async (variant) => {
    const folder = join(ROOT, 'test/native/cpp');
    execFileSync('make', ['-j2', `VARIANT=${variant}`], { cwd: folder, timeout: 10 * MINUTE, stdio: 'pipe' });
    const program = join(ROOT, 'native/build/cpp', variant, 'rnic-test');
    const { code, output } = await run(program, [], folder, 5 * MINUTE);
    expect(output).not.toMatch(/Sanitizer|runtime error/);
    expect(output).toMatch(/^\d+ tests passed$/m);
    expect(code).toBe(0);
  },
  16 * MINUTE,
);
