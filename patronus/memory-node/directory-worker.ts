/** The thread of a directory: serves until told to stop. */
import { parentPort, workerData } from 'node:worker_threads';
import { type Device, listDevices, openDevice } from '../../native/index.js';
import { Directory } from './directory.js';
import type { DirectoryOptions } from './options.js';
import type { Place } from './place.js';

export interface DirectoryWorkerData {
  readonly options: DirectoryOptions;
  /** See PatronusNodeOptions. */
  readonly device: string | undefined;
  readonly allowUnboundedWindows: boolean;
  readonly place: Place;
  readonly stopWord: Int32Array;
  readonly counters: Float64Array;
}

/** Sent once, when clients can connect. */
export interface DirectoryReady {
  readonly address: string;
  /** Signal this descriptor after a change of the stop word. */
  readonly channelFd: number;
  /** Of the node's memory, for Place. */
  readonly memory: number;
  readonly device: string;
  /** See DeviceAttr. */
  readonly windowBounds: boolean;
}

/** Sent once, when the directory has stopped and given everything back. */
export type DirectoryClosed = 'closed';

/**
 * How long the thread stays after that, idle, ms. Node.js can block for ever at the end of a thread whose code is still being
 * optimised in the background, if the compiler needs a garbage collection just then: nodejs/node#54918.
 */
const COMPILER_MS = 250;

const { options, place, stopWord, counters, ...wanted } = workerData as DirectoryWorkerData;
const device = openFor(options.listen, wanted.device);
try {
  if (!device.attr.windowBounds && !wanted.allowUnboundedWindows) {
    throw new Error(
      `the device ${device.attr.name} does not hold accesses to the bounds of memory windows, so leases would not protect anything; to run without protection set allowUnboundedWindows`,
    );
  }
  if (device.attr.windowScope !== 'pd') {
    throw new Error(`the windows of the device ${device.attr.name} serve one queue pair only`);
  }
  const directory = new Directory(device, options, stopWord, counters, place);
  const ready: DirectoryReady = {
    address: directory.listener.address,
    channelFd: directory.channel.fd,
    memory: directory.memory.publish(),
    device: device.attr.name,
    windowBounds: device.attr.windowBounds,
  };
  parentPort?.postMessage(ready);
  directory.run();
} finally {
  device.close();
}
parentPort?.postMessage('closed' satisfies DirectoryClosed);
setTimeout(() => {}, COMPILER_MS);

function openFor(listen: string | undefined, device: string | undefined): Device {
  if (!listen?.startsWith('ib:')) return openDevice();
  // Without any, the name of none: opening it says why there is none.
  return openDevice(device ?? listDevices().find((name) => name.startsWith('ib:')) ?? 'ib:');
}
