import { existsSync } from 'node:fs';
import { join, posix } from 'node:path';
import { describe, expect, it } from 'vitest';
import { files, manifest, ROOT, read } from './tree.js';

const documents = files().filter((path) => path.endsWith('.md'));

/** Without code, where brackets mean something else. */
function prose(path: string): string {
  return read(path)
    .replace(/^```[\s\S]*?^```/gm, '')
    .replace(/`[^`\n]*`/g, 'code');
}

/** The names under which GitHub makes headings reachable. */
function anchors(path: string): Set<string> {
  const text = read(path).replace(/^```[\s\S]*?^```/gm, '');
  const headings = [...text.matchAll(/^#+ +(.*)$/gm)].map((match) => match[1]!);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

describe('documents', () => {
  it('are there', () => {
    expect(documents).toEqual(expect.arrayContaining(['README.md', 'CHANGELOG.md', 'docs/architecture.md']));
  });

  it.each(documents)('%s: relative links lead somewhere', (path) => {
    const text = prose(path);
    const links = [
      ...[...text.matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1]!),
      ...[...text.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1]!),
    ].filter((link) => !/^[a-z]+:/.test(link));
    const broken = links.filter((link) => {
      const [file, anchor] = link.split('#') as [string, string | undefined];
      const target = file === '' ? path : posix.join(posix.dirname(path), file);
      if (!existsSync(join(ROOT, target))) return true;
      return anchor !== undefined && !anchors(target).has(anchor);
    });
    expect(broken).toEqual([]);
  });

  it.each(documents)('%s: the scripts that it names exist', (path) => {
    const text = read(path);
    const npmScripts = [...text.matchAll(/\bnpm run ([\w:-]+)/g)].map((match) => match[1]!);
    expect(npmScripts.filter((name) => !(name in manifest.scripts))).toEqual([]);
    const scripts = [...text.matchAll(/\b(?:scripts|\.ci)\/[\w.-]*\w/g)].map((match) => match[0]);
    expect(scripts.filter((name) => !existsSync(join(ROOT, name)))).toEqual([]);
  });

  it('are all listed in the README', () => {
    const readme = read('README.md');
    const unlisted = documents.filter((path) => path.startsWith('docs/') && !readme.includes(`(${path})`));
    expect(unlisted).toEqual([]);
  });
});
