/** Verbs: the contract and its providers. */
import { addon } from './addon.js';
import type { Device } from './contract.js';
import { SoftDevice } from './soft/device.js';

const { readClock } = addon;
const clock = new Float64Array(addon.clock, 0, 1);

export type * from './contract.js';
export * from './verbs.js';

/** Open a software RNIC of its own for the calling thread. */
export function openDevice(): Device {
  return new SoftDevice();
}

/** The monotonic clock that all processes of this host read, in ns. */
export function nowNs(): number {
  readClock();
  return clock[0]!;
}

/** Wake whoever waits for the channel with this descriptor, on any thread; false if no open channel has it. */
export function signalChannel(fd: number): boolean {
  return addon.signalChannel(fd);
}
