/** Verbs: the contract and its providers. */
import { addon } from './addon.js';
import type { Device } from './contract.js';
import { NativeError } from './error.js';
import { ibvDeviceNames, openIbvDevice } from './ibv/open.js';
import { SoftDevice } from './soft/device.js';

const { readClock } = addon;
const clock = new Float64Array(addon.clock, 0, 1);

export type * from './contract.js';
export * from './verbs.js';

/**
 * Open a device for the calling thread. `soft0`: a software RNIC; its clients are of this process, its listeners serve
 * others too. `shm0`: one whose clients reach listeners of other processes over shared memory. `ib:NAME`: a device of
 * libibverbs (see openIbvDevice). Throws `ERR_NATIVE_NO_DEVICE` for a device that is not there.
 */
export function openDevice(name = 'soft0'): Device {
  if (name.startsWith('ib:')) return openIbvDevice(name);
  if (name !== 'soft0' && name !== 'shm0') {
    throw new NativeError('ERR_NATIVE_NO_DEVICE', `no device ${name}; there are ${listDevices().join(', ')}`);
  }
  return new SoftDevice(name === 'shm0');
}

/** The names of the devices of this host. */
export function listDevices(): string[] {
  return ['soft0', 'shm0', ...ibvDeviceNames()];
}

/**
 * Open a device from which listeners at all of these addresses can be reached: for addresses `ib:HOST:PORT` the first
 * of libibverbs.
 */
export function openDeviceTo(addresses: readonly string[]): Device {
  if (addresses.some((address) => address.startsWith('ib:'))) return openDevice(ibvDeviceNames()[0] ?? 'ib:');
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
