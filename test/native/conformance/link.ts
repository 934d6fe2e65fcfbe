/** What the conformance suite has to know of a link. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Device, ListenOptions } from '../../../native/index.js';
import { openDevice } from '../../../native/index.js';

export interface Link {
  readonly name: string;
  openClient(): Device;
  openNode(): Device;
  /** Where a node listens: another place at each call. */
  listenOptions(): ListenOptions | undefined;
  /** Titles of tests of the suite that the link does not pass, and why that is so. */
  readonly deviations: Readonly<Record<string, string>>;
}

export const LOOPBACK: Link = {
  name: 'loopback',
  openClient: () => openDevice('soft0'),
  openNode: () => openDevice('soft0'),
  listenOptions: () => undefined,
  deviations: {},
};

/** The client and the node are of this process, but meet as if they were not. */
export const SHARED_MEMORY: Link = {
  name: 'shared memory',
  openClient: () => openDevice('shm0'),
  openNode: () => openDevice('soft0'),
  listenOptions: () => ({ address: `unix:${join(socketDirectory(), `${++sockets}.sock`)}` }),
  deviations: {},
};

/** By name, for the threads that tests start. */
export const LINKS: readonly Link[] = [LOOPBACK, SHARED_MEMORY];

let sockets = 0;
let directory: string | undefined;

function socketDirectory(): string {
  if (directory === undefined) {
    const made = mkdtempSync(join(tmpdir(), 'patronus-verbs-'));
    process.once('exit', () => rmSync(made, { recursive: true, force: true }));
    directory = made;
  }
  return directory;
}
