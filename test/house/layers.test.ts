import { readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join, posix } from 'node:path';
import { describe, expect, it } from 'vitest';
import { files, manifest, ROOT } from './tree.js';

/** Each layer, and the modules of others that it may use. */
const LAYERS: Record<string, readonly string[]> = {
  native: [],
  patronus: ['native/index.js'],
  kv: ['patronus/index.js'],
  http: ['kv/index.js'],
  loadgen: ['kv/index.js'],
};

// `from 'x'`, `import 'x'`, `import('x')` and `new URL('x', import.meta.url)`, the last being how workers are named.
const SPECIFIER = /(?:\bfrom|\bimport|\bimport\(|\brequire\(|new URL\()\s*(['"])([\w@#./:-]+)\1/g;
const COMMENT = /\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm;

function importsOf(path: string): string[] {
  const text = readFileSync(join(ROOT, path), 'utf8').replace(COMMENT, '');
  return [...text.matchAll(SPECIFIER)].map((match) => match[2]!);
}

/** Why a module may not import the specifier, or undefined if it may. */
function objection(module: string, specifier: string): string | undefined {
  const layer = module.split('/')[0]!;
  // The addon, whose path is that of the build.
  if (specifier.endsWith('.node')) return layer === 'native' ? undefined : `${module} loads ${specifier}`;
  if (specifier.startsWith('.')) {
    const target = posix.join(posix.dirname(module), specifier);
    if (target.startsWith(`${layer}/`) || target === layer || LAYERS[layer]!.includes(target))
      return undefined;
    return `${module} imports ${target}`;
  }
  if (specifier.startsWith('node:')) return undefined;
  const name = specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
  if (builtinModules.includes(name)) return `${module} imports ${specifier} without node:`;
  return name in manifest.dependencies ? undefined : `${module} imports ${specifier}, which is no dependency`;
}

describe('layers', () => {
  it.each(Object.keys(LAYERS))('%s imports only what it may', (layer) => {
    const modules = files(layer).filter((path) => path.endsWith('.ts'));
    expect(modules).toContain(`${layer}/index.ts`);
    const objections = modules.flatMap((module) =>
      importsOf(module).flatMap((specifier) => objection(module, specifier) ?? []),
    );
    expect(objections).toEqual([]);
  });

  it('the rule itself refuses what reaches around a layer', () => {
    expect(objection('kv/table.ts', '../patronus/index.js')).toBeUndefined();
    expect(objection('kv/table.ts', './layout.js')).toBeUndefined();
    expect(objection('kv/table.ts', '../patronus/client/lease.js')).toBeDefined();
    expect(objection('kv/table.ts', '../native/index.js')).toBeDefined();
    expect(objection('http/app.ts', '../patronus/index.js')).toBeDefined();
    expect(objection('patronus/index.ts', '../test/helper.js')).toBeDefined();
    expect(objection('http/app.ts', 'fastify')).toBeUndefined();
    expect(objection('http/app.ts', 'vitest')).toBeDefined();
    expect(objection('http/app.ts', 'fs')).toBeDefined();
    expect(objection('kv/table.ts', '../native/build/Release/patronus_native.node')).toBeDefined();
  });
});
