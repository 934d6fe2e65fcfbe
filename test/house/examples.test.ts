import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { manifest, ROOT } from './tree.js';

/** What each program prints. */
const PRINTED: Record<string, string> = {
  'hello-lease.mjs': `hello, lease
counted 0n 1n 2n
outside: ERR_PATRONUS_PROTECTION
after its term: ERR_PATRONUS_LEASE_EXPIRED
`,
  'lock.mjs': `while it is held: locked
after the crash of its holder: acquired; counted 1n
`,
  'queue.mjs': '3 producers, 3 consumers: 120 items, each once: true\n',
};

// As a user has it: the packed package and what its manifest names, in a folder that knows nothing of this tree. Without
// a network: dependencies are linked from here, and so is the addon that the install script would build.
describe('the examples, with the package installed from its tarball', () => {
  const addon = 'native/build/Release/patronus_native.node';
  let folder: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'patronus-kv-install-'));
    const options = ['--json', '--ignore-scripts', '--pack-destination', folder];
    const report = execFileSync('npm', ['pack', ...options], { cwd: ROOT, timeout: 60_000, stdio: 'pipe' });
    const [{ filename }] = JSON.parse(report.toString()) as [{ filename: string }];
    const installed = join(folder, 'node_modules', 'patronus-kv');
    mkdirSync(installed, { recursive: true });
    execFileSync('tar', ['-xzf', join(folder, filename), '-C', installed, '--strip-components=1']);
    for (const name of Object.keys(manifest.dependencies)) {
      const link = join(folder, 'node_modules', name);
      mkdirSync(dirname(link), { recursive: true });
      symlinkSync(join(ROOT, 'node_modules', name), link);
    }
    cpSync(join(ROOT, addon), join(installed, addon), { recursive: true });
    cpSync(join(installed, 'docs', 'examples'), folder, { recursive: true });
  }, 120_000);

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('are those that this test knows', () => {
    expect(readdirSync(join(ROOT, 'docs', 'examples')).sort()).toEqual(Object.keys(PRINTED).sort());
  });

  it.each(Object.entries(PRINTED))(
    '%s runs and prints what it should',
    (name, printed) => {
      const options = { cwd: folder, timeout: 60_000, stdio: 'pipe' } as const;
      expect(execFileSync(process.execPath, [name], options).toString()).toBe(printed);
    },
    60_000,
  );
});
