/** The tree of the project as the tests of this folder look at it. Paths are relative to the root, with slashes. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** From dist/test/house/ up. */
export const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/** What .gitignore keeps out of the repository, and git's own folder. */
const IGNORED = new Set(['.git', 'node_modules', 'dist', 'native/build', 'coverage', '.cache']);

export function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** All files of the sources. */
export function files(folder = ''): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = relative(ROOT, join(ROOT, folder, entry.name));
    if (IGNORED.has(path) || path.endsWith('.log')) return [];
    return entry.isDirectory() ? files(path) : [path];
  });
}

/** `package.json`, as far as the tests need it. */
export interface Manifest {
  readonly bin: Record<string, string>;
  readonly exports: Record<string, Record<string, string>>;
  readonly scripts: Record<string, string>;
  readonly dependencies: Record<string, string>;
}

export const manifest = JSON.parse(read('package.json')) as Manifest;
