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
  /** Messages that the test of waiting sends to and fro. */
  readonly wakeUps: number;
  /** Titles of tests of the suite that the link does not pass, and why that is so. */
  readonly deviations: Readonly<Record<string, string>>;
}

export const LOOPBACK: Link = {
  name: 'loopback',
  openClient: () => openDevice('soft0'),
  openNode: () => openDevice('soft0'),
  listenOptions: () => undefined,
  wakeUps: 10_000,
  deviations: {},
};

/** The client and the node are of this process, but meet as if they were not. */
export const SHARED_MEMORY: Link = {
  name: 'shared memory',
  openClient: () => openDevice('shm0'),
  openNode: () => openDevice('soft0'),
  listenOptions: () => ({ address: `unix:${join(socketDirectory(), `${++sockets}.sock`)}` }),
  wakeUps: 10_000,
  deviations: {},
};

const NO_BOUNDS = 'Soft-RoCE holds accesses to the bounds of the region, not of the window';
const BLURRED = 'Soft-RoCE says LOC_QP_OP_ERR';
const GROWS = 'its completion queues grow with what can complete into them, so none overflows';

const SOFT_ROCE_DEVIATIONS: Link['deviations'] = {
  'a length of 2^31': 'longer than its longest message',
  'a local key of nothing': BLURRED,
  'a local key of another protection domain': BLURRED,
  'a window as the local key of a write': BLURRED,
  'a window as the local key of a send': BLURRED,
  'a send longer than the receive buffer': BLURRED,
  'a send into a receive buffer beyond its region': BLURRED,
  'an atomic result into a region without LOCAL_WRITE': 'Soft-RoCE has executed the atomic before it looks',
  'an atomic at an aligned address of misaligned memory': 'devices translate whole pages',
  'a write with immediate data that is refused takes no receive buffer':
    'the buffer comes back as REM_ACCESS_ERR',
  'a send that is to end a key that is no bound window fails on both sides':
    "Soft-RoCE's kernel may not survive it",
  'bind opens exactly the range, with exactly the rights': NO_BOUNDS,
  'bind of a bound window moves it and ends the old key': NO_BOUNDS,
  'a completion queue that overflows keeps at least its depth, takes no more, and breaks the pair': GROWS,
  'an overflow wakes who waits for a completion': GROWS,
};

/** Soft-RoCE, in a guest that has it: see test/guest. */
function softRoce(windows: 1 | 2, deviations: Link['deviations']): Link {
  const open = () => openDevice(`ib:rxe0?windows=${windows}`);
  return {
    name: `Soft-RoCE with windows of type ${windows}`,
    openClient: open,
    openNode: open,
    listenOptions: () => undefined,
    // The guest has one processor, and that is emulated.
    wakeUps: 500,
    deviations: { ...SOFT_ROCE_DEVIATIONS, ...deviations },
  };
}

export const SOFT_ROCE_1: Link = softRoce(1, {
  'a send can end a window of its receiver': 'the other side can only end windows of type 2',
});

export const SOFT_ROCE_2: Link = softRoce(2, {
  'a send can end a window of its receiver': 'Soft-RoCE does not say which window was ended',
});

/** By name, for the threads that tests start. */
export const LINKS: readonly Link[] = [LOOPBACK, SHARED_MEMORY, SOFT_ROCE_1, SOFT_ROCE_2];

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
