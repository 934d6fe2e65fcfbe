import { readFileSync } from 'node:fs';
import type { HugePages } from '../../native/index.js';
import { MAX_DIRECTORIES } from '../memory-node/node.js';
import type { PolicyName } from '../memory-node/policy.js';
import { parseSize } from './size.js';

/** What `patronus memory-node` runs with. */
export interface Settings {
  readonly listen: string;
  readonly nodeId: number;
  readonly memory: number;
  readonly leaseMemory: number;
  readonly maxClients: number;
  readonly maxLeases: number;
  readonly engineThreads: number;
  readonly directories: number;
  readonly policy: PolicyName;
  /** The RDMA device; undefined: the first. */
  readonly device: string | undefined;
  readonly allowUnboundedWindows: boolean;
  readonly hugePages: HugePages | undefined;
  readonly numaNode: number | undefined;
  /** HOST:PORT; undefined: the node is found by its address only. */
  readonly memcached: string | undefined;
  readonly cluster: string;
  readonly expirySeconds: number;
}

/** A setting that can't be used; the message names it. */
export class SettingsError extends Error {}

type Raw = string | number | boolean;

interface Setting<T> {
  readonly fallback: T;
  /** The value of what a flag or a configuration file gives; undefined if it is none. */
  read(raw: Raw): T | undefined;
  /** What it should have been. */
  readonly expected: string;
}

const MAX_BYTES = 2 ** 40;

/** By name, as in a configuration file; a flag is the same in kebab case. */
export const SETTINGS: { readonly [name in keyof Settings]: Setting<Settings[name] | undefined> } = {
  listen: text(undefined, /^(?:unix:.{1,107}|ib:.+:\d+)$/s, 'unix:PATH (at most 107 bytes) or ib:HOST:PORT'),
  nodeId: integer(0, 0, 65_535),
  memory: size(256 * 2 ** 20, 65_536),
  leaseMemory: size(65_536, 0),
  maxClients: integer(64, 1, 1024),
  maxLeases: integer(65_536, 1, 2 ** 22),
  engineThreads: integer(1, 1, 64),
  directories: integer(1, 1, MAX_DIRECTORIES),
  policy: {
    fallback: 'owner',
    read: (raw) => (raw === 'open' || raw === 'owner' ? raw : undefined),
    expected: 'open or owner',
  },
  device: text(undefined, /^ib:./, 'ib:NAME, such as ib:mlx5_0'),
  allowUnboundedWindows: {
    fallback: false,
    read: (raw) => (typeof raw === 'boolean' ? raw : undefined),
    expected: 'true or false',
  },
  hugePages: {
    fallback: undefined,
    read: (raw) => (raw === '2MiB' || raw === '1GiB' ? raw : undefined),
    expected: '2MiB or 1GiB',
  },
  numaNode: integer(undefined, 0, 1023),
  memcached: text(undefined, /^\S+:\d{1,5}$/, 'HOST:PORT'),
  cluster: text('patronus', /^[\w-]{1,64}$/, '1 to 64 letters, digits, - and _'),
  expirySeconds: integer(6, 2, 3600),
};

export function flagOf(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** What a configuration file, if one is named, and then the flags say; the rest has its default. */
export function settingsOf(flags: Readonly<Record<string, unknown>>, file: string | undefined): Settings {
  const settings: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(SETTINGS)) settings[name] = setting.fallback;
  if (file !== undefined) {
    for (const [name, raw] of Object.entries(readConfiguration(file))) {
      if (!Object.hasOwn(SETTINGS, name)) throw new SettingsError(`${file}: there is no setting ${name}`);
      settings[name] = read(name, raw, `${file}: ${name}`);
    }
  }
  for (const [name, raw] of Object.entries(flags)) {
    if (Object.hasOwn(SETTINGS, name)) settings[name] = read(name, raw, flagOf(name));
  }
  if (settings.listen === undefined) throw new SettingsError('--listen is needed: unix:PATH or ib:HOST:PORT');
  return settings as unknown as Settings;
}

function read(name: string, raw: unknown, place: string): unknown {
  const setting: Setting<unknown> = SETTINGS[name as keyof Settings];
  const known = typeof raw === 'string' || typeof raw === 'number' || typeof raw === 'boolean';
  const value = known ? setting.read(raw) : undefined;
  if (value !== undefined) return value;
  throw new SettingsError(`${place} must be ${setting.expected}, not ${JSON.stringify(raw)}`);
}

function readConfiguration(file: string): object {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new SettingsError(`${file} can't be read as JSON: ${(error as Error).message}`);
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw new SettingsError(`${file} must hold a JSON object`);
  }
  return content;
}

function text<F extends string | undefined>(
  fallback: F,
  pattern: RegExp,
  expected: string,
): Setting<string | F> {
  const read = (raw: Raw): string | undefined =>
    typeof raw === 'string' && pattern.test(raw) ? raw : undefined;
  return { fallback, read, expected };
}

function integer<F extends number | undefined>(
  fallback: F,
  least: number,
  most: number,
): Setting<number | F> {
  const read = (raw: Raw): number | undefined => {
    const value = typeof raw === 'string' && /^\d{1,15}$/.test(raw) ? Number(raw) : raw;
    return Number.isInteger(value) && Number(value) >= least && Number(value) <= most
      ? Number(value)
      : undefined;
  };
  return { fallback, read, expected: `an integer from ${least} to ${most}` };
}

function size(fallback: number, least: number): Setting<number> {
  const read = (raw: Raw): number | undefined => {
    const bytes = typeof raw === 'string' ? parseSize(raw) : raw;
    return typeof bytes === 'number' && Number.isInteger(bytes) && bytes >= least && bytes <= MAX_BYTES
      ? bytes
      : undefined;
  };
  return { fallback, read, expected: `a size from ${least} bytes to 1024 GiB, such as 64MiB` };
}
