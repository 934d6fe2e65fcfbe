import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ROOT, read } from './tree.js';

/** The blocks of one language in the README. */
function blocks(language: string): string[] {
  return [...read('README.md').matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)]
    .filter((match) => match[1] === language)
    .map((match) => match[2]!);
}

describe('the samples of the README', () => {
  // Inside the package, so that its own name resolves to what it exports.
  const folder = join(ROOT, 'dist', 'readme');
  const samples = blocks('ts').map((code, index) => [`sample-${index + 1}`, code] as const);

  beforeAll(() => {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    for (const [name, code] of samples) writeFileSync(join(folder, `${name}.mts`), code);
    const options = '--module nodenext --target es2022 --lib es2023,esnext.disposable --types node --strict';
    const sources = samples.map(([name]) => `${name}.mts`);
    const compiler = join(ROOT, 'node_modules', '.bin', 'tsc');
    execFileSync(compiler, [...options.split(' '), '--ignoreConfig', ...sources], {
      cwd: folder,
      timeout: 60_000,
      stdio: 'pipe',
    });
  }, 120_000);

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('are there', () => {
    expect(samples.length).toBeGreaterThanOrEqual(2);
  });

  it.each(samples)('%s compiles, runs and prints what its comments say', (name, code) => {
    const expected = [...code.matchAll(/^console\.log\(.*; \/\/ (.*)$/gm)].map((match) => match[1]);
    const options = { timeout: 30_000, stdio: 'pipe' } as const;
    const printed = execFileSync(process.execPath, [join(folder, `${name}.mjs`)], options).toString();
    expect(printed.trimEnd().split('\n')).toEqual(expected);
  });
});

describe('the HTTP session of the README', () => {
  it('prints what the server answers', async () => {
    const session = blocks('console').find((block) => block.includes('$ curl '))!;
    expect(session).toBeDefined();
    const cli = join(ROOT, 'dist', 'http', 'cli.js');
    const server = spawn(process.execPath, [cli, '--port', '0'], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      const url = await announcedUrl(server.stdout);
      // `$ command`, then what it prints.
      for (const step of session.split(/^\$ /m).slice(1)) {
        const [command, ...expected] = step.trimEnd().split('\n');
        const printed = execFileSync('sh', ['-c', command!.replace('http://127.0.0.1:8080', url)], {
          timeout: 60_000,
        });
        expect(printed.toString().replaceAll('\r', '').trimEnd(), command).toBe(expected.join('\n'));
      }
    } finally {
      server.kill('SIGTERM');
      await once(server, 'exit');
    }
  });
});

async function announcedUrl(stdout: NodeJS.ReadableStream): Promise<string> {
  let text = '';
  for await (const chunk of stdout) {
    text += String(chunk);
    const url = /http:\/\/[\d.]+:\d+/.exec(text);
    if (url) return url[0];
  }
  throw new Error(`the server ended; it printed: ${text}`);
}
