/** Verbs: the contract and its providers. */
import { addon } from './addon.js';
import type { Device } from './contract.js';
import { SoftDevice } from './soft/device.js';

export type * from './contract.js';
export * from './verbs.js';

/** Open a software RNIC of its own for the calling thread. */
export function openDevice(): Device {
  return new SoftDevice();
}

/** The monotonic clock that all processes of this host read, in ns. */
export function nowNs(): number {
  return addon.nowNs();
}

/** Wake whoever waits for the channel with this descriptor, on any thread; false if no open channel has it. */
export function signalChannel(fd: number): boolean {
  return addon.signalChannel(fd);
}
