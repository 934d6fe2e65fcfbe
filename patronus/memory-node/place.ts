import { randomInt } from 'node:crypto';
import type { Part } from './allocations.js';
import { SPAN_BYTES } from './allocator.js';
import { introductionBytes } from './introductions.js';
import { lockBytes } from './lock-table.js';
import { type DirectoryOptions, leaseIndices } from './options.js';

/** What a directory knows of its node beside the options: of plain values and shared memory, since it goes to a worker thread. */
export interface Place {
  /** Which directory it is, from 0, and how many there are. */
  readonly directory: number;
  readonly directories: number;
  /** Tells the node's memory from that of an earlier or later node at the same address. */
  readonly incarnation: number;
  /** Of the node's memory, which another directory has; undefined: it is this one's to allocate. */
  readonly memory: number | undefined;
  /** Of directory 0: what the addresses of the others end in, for all from 1 on. */
  readonly others: readonly number[];
  /** The lock table of the node, and the secret of its hash. */
  readonly locks: SharedArrayBuffer;
  readonly secret: number;
  /** See Introductions. */
  readonly introductions: SharedArrayBuffer;
}

/** What all directories of a node begin with. */
export function commonPlace(options: DirectoryOptions, directories: number) {
  return {
    directories,
    incarnation: randomInt(2 ** 32),
    locks: new SharedArrayBuffer(lockBytes(directories * leaseIndices(options))),
    secret: randomInt(2 ** 32),
    introductions: new SharedArrayBuffer(introductionBytes(options.maxClients)),
  };
}

/** The place of the only directory of a node. */
export function onlyPlace(options: DirectoryOptions): Place {
  return { ...commonPlace(options, 1), directory: 0, memory: undefined, others: [] };
}

/** Every directory has an equal part of what each hint has, in whole spans; the parts follow each other. */
export function partOf(options: DirectoryOptions, { directory, directories }: Place): Part {
  const { allocOffset, allocBytes, shares } = options;
  const general = shares.reduce((left, share) => left - share.bytes, allocBytes);
  const all = [{ hint: 0, bytes: general }, ...shares];
  const before = (bytes: number, count: number) =>
    Math.floor(((bytes / SPAN_BYTES) * count) / directories) * SPAN_BYTES;
  const sum = (count: number) => all.reduce((bytes, share) => bytes + before(share.bytes, count), 0);
  const offset = sum(directory);
  return {
    offset: allocOffset + offset,
    bytes: sum(directory + 1) - offset,
    shares: shares.map(({ hint, bytes }) => ({
      hint,
      bytes: before(bytes, directory + 1) - before(bytes, directory),
    })),
  };
}
