import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../house/tree.js';
import { run } from './program.js';

const MINUTE = 60_000;
const FOLDER = join(ROOT, 'test/native/fuzz');

test(
  'the fuzzers find nothing in a short run',
  async () => {
    execFileSync('make', ['-j2'], { cwd: FOLDER, timeout: 10 * MINUTE, stdio: 'pipe' });
    const { code, output } = await run('make', ['short'], FOLDER, 5 * MINUTE);
    expect(output).toMatch(/^[1-9]\d* work requests$/m);
    expect(output).toMatch(/^[1-9]\d* messages$/m);
    expect(code).toBe(0);
  },
  16 * MINUTE,
);
