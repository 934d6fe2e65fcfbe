import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { manifest, ROOT } from './tree.js';

const subpaths = Object.entries(manifest.exports);
const programs = Object.entries(manifest.bin);

describe('package.json', () => {
  it.each(subpaths)('exports %s, which the build makes', (_name, targets) => {
    for (const target of Object.values(targets)) expect(existsSync(join(ROOT, target)), target).toBe(true);
  });

  it('has scripts whose files exist', () => {
    const named = Object.values(manifest.scripts).flatMap(
      (command) => command.match(/[\w./-]+\.(?:js|sh)\b/g) ?? [],
    );
    expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  });

  it.each(programs)('names the program %s, which Node.js can start', (_name, target) => {
    expect(readFileSync(join(ROOT, target), 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/);
  });
});

describe('the packed package', () => {
  let scratch: string;
  let unpacked: string;
  let contents: string[];

  beforeAll(() => {
    scratch = mkdtempSync(join(tmpdir(), 'patronus-kv-pack-'));
    const options = ['--json', '--ignore-scripts', '--pack-destination', scratch];
    const report = execFileSync('npm', ['pack', ...options], { cwd: ROOT, timeout: 60_000, stdio: 'pipe' });
    const [packed] = JSON.parse(report.toString()) as [{ filename: string; files: { path: string }[] }];
    contents = packed.files.map((file) => file.path);
    execFileSync('tar', ['-xzf', packed.filename], { cwd: scratch, timeout: 60_000 });
    unpacked = join(scratch, 'package');
    symlinkSync(join(ROOT, 'node_modules'), join(unpacked, 'node_modules'));
  }, 120_000);

  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  it('contains what documents it, and no tests and tools', () => {
    expect(contents).toEqual(expect.arrayContaining(['README.md', 'LICENSE', 'package.json']));
    expect(contents.filter((path) => /(?:^|\/)(?:test|scripts|readme)\//.test(path))).toEqual([]);
  });

  it('contains every source that its native build names or includes', () => {
    const gyp = readFileSync(join(unpacked, 'native/binding.gyp'), 'utf8');
    const sources = [...gyp.matchAll(/['"]([\w./-]+\.cc)['"]/g)].map((match) => `native/${match[1]}`);
    expect(sources).not.toEqual([]);
    const seen = new Set<string>();
    const missing: string[] = [];
    const queue = [...sources];
    for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
      if (seen.has(path)) continue;
      seen.add(path);
      if (!contents.includes(path)) {
        missing.push(path);
        continue;
      }
      const text = readFileSync(join(unpacked, path), 'utf8');
      for (const [, included] of text.matchAll(/^\s*#include "([^"]+)"/gm)) {
        const beside = posix.join(posix.dirname(path), included!);
        const fromNative = posix.join('native', included!);
        queue.push(existsSync(join(ROOT, beside)) ? beside : fromNative);
      }
    }
    expect(missing).toEqual([]);
  });

  it('runs: every export loads and every program shows its help', () => {
    const addon = 'native/build/Release/patronus_native.node';
    cpSync(join(ROOT, addon), join(unpacked, addon), { recursive: true });
    const names = subpaths.map(([name]) => posix.join('patronus-kv', name));
    const script = `for (const name of ${JSON.stringify(names)}) await import(name);`;
    const options = { cwd: unpacked, timeout: 60_000, stdio: 'pipe' } as const;
    execFileSync(process.execPath, ['--input-type=module', '--eval', script], options);
    for (const [name, target] of programs) {
      const help = execFileSync(process.execPath, [target, '--help'], options).toString();
      expect(help, name).toMatch(/usage/i);
    }
  }, 120_000);
});
