import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A way from a client to a node, by the names that a thread can be given. */
export interface BenchLink {
  readonly name: string;
  readonly clientDevice: string;
  readonly nodeDevice: string;
  /** Another address at each call; undefined: the device chooses. */
  address(): string | undefined;
}

let directory: string | undefined;
let sockets = 0;

function socketPath(): string {
  if (directory === undefined) {
    const made = mkdtempSync(join(tmpdir(), 'patronus-bench-'));
    process.once('exit', () => rmSync(made, { recursive: true, force: true }));
    directory = made;
  }
  return join(directory, `${process.pid}-${++sockets}.sock`);
}

export const LINKS: readonly BenchLink[] = [
  { name: 'loopback', clientDevice: 'soft0', nodeDevice: 'soft0', address: () => undefined },
  {
    name: 'shared memory',
    clientDevice: 'shm0',
    nodeDevice: 'soft0',
    address: () => `unix:${socketPath()}`,
  },
];
