/** Verbs: the contract and its providers. */
import { addon } from './addon.js';
import type { Device } from './contract.js';
import { NativeError } from './error.js';
import { SoftDevice } from './soft/device.js';

const { readClock } = addon;
const clock = new Float64Array(addon.clock, 0, 1);

export type * from './contract.js';
export * from './verbs.js';

/**
 * Open a device for the calling thread. `soft0`: a software RNIC; its clients are of this process, its listeners serve
 * others too. `shm0`: one whose clients reach listeners of other processes over shared memory.
 * Throws `ERR_NATIVE_NO_DEVICE` for another name.
 */
export function openDevice(name = 'soft0'): Device {
  if (name !== 'soft0' && name !== 'shm0') {
    throw new NativeError('ERR_NATIVE_NO_DEVICE', `no device ${name}; there are soft0 and shm0`);
  }
  return new SoftDevice(name === 'shm0');
}

/** Open a device from which listeners at all of these addresses can be reached. */
export function openDeviceTo(addresses: readonly string[]): Device {
  return openDevice(addresses.some((address) => address.startsWith('unix:')) ? 'shm0' : 'soft0');
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
