/** In the place of native/index.js: the same names, over the simulated NIC. */
import { Fabric, SimDevice } from './nic.js';
import { Scheduler } from './scheduler.js';

export * from '../../../native/verbs.js';

const seed = Number(process.argv[2]);
export const scheduler = new Scheduler(seed);
export const fabric = new Fabric(scheduler);
/** Opened by clients and not claimed by the simulation. */
export const opened: SimDevice[] = [];

scheduler.install();

export function openDevice(): SimDevice {
  return new SimDevice(fabric);
}

export function openDeviceTo(): SimDevice {
  const device = new SimDevice(fabric);
  opened.push(device);
  return device;
}

export function nowNs(): number {
  return scheduler.now;
}

export function signalChannel(): never {
  throw new Error('not simulated');
}
