import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { files, ROOT, read } from './tree.js';

const TOP_LEVEL = [
  '.ci',
  '.gitignore',
  '.npmrc',
  'CHANGELOG.md',
  'LICENSE',
  'README.md',
  'biome.json',
  'docs',
  'http',
  'kv',
  'loadgen',
  'native',
  'package-lock.json',
  'package.json',
  'patronus',
  'scripts',
  'test',
  'tsconfig.json',
  'vitest.config.js',
];

/** What no file of the project contains. Written so that this file is none that does. */
const FORBIDDEN: Record<string, RegExp> = {
  'unfinished work': /\b(?:T[O]DO|F[I]XME|X[X]X)\b/,
  'path of somebody’s machine': /(?:^|[\s"'`(=:,])\/(?:home|root|Users|tmp\/dev|work)\//m,
};

const FOCUSED_OR_SKIPPED =
  /\b(?:describe|suite|it|test)\.(?:only|skip|todo|fails)\b|\b(?:fdescribe|fit|xdescribe|xit)\(/;

function offenders(paths: string[], pattern: RegExp): string[] {
  return paths.flatMap((path) => {
    const found = pattern.exec(read(path));
    return found ? [`${path}: ${found[0].trim()}`] : [];
  });
}

describe('tree', () => {
  it('has the agreed top level', () => {
    const ignored = ['.git', 'node_modules', 'dist', 'coverage', '.cache'];
    const entries = readdirSync(ROOT).filter((name) => !ignored.includes(name) && !name.endsWith('.log'));
    expect(entries.sort()).toEqual([...TOP_LEVEL].sort());
  });

  it.each(Object.entries(FORBIDDEN))('contains no mark of %s', (_what, pattern) => {
    const paths = files().filter((path) => path !== 'package-lock.json');
    expect(offenders(paths, pattern)).toEqual([]);
  });

  it('has no focused and no skipped tests', () => {
    const tests = files('test').filter((path) => path.endsWith('.test.ts'));
    expect(tests).toContain('test/house/tree.test.ts');
    expect(offenders(tests, FOCUSED_OR_SKIPPED)).toEqual([]);
  });

  it('locks packages by name and hash, not by where they were fetched from', () => {
    const lock = JSON.parse(read('package-lock.json')) as { packages: Record<string, object> };
    const packages = Object.entries(lock.packages).filter(([path]) => path !== '');
    expect(packages.filter(([, entry]) => 'resolved' in entry)).toEqual([]);
    expect(packages.filter(([, entry]) => !('integrity' in entry))).toEqual([]);
  });
});
