/** The thread of a directory: serves until told to stop. */
import { parentPort, workerData } from 'node:worker_threads';
import { openDevice } from '../../native/index.js';
import { Directory } from './directory.js';
import type { DirectoryOptions } from './options.js';

export interface DirectoryWorkerData {
  readonly options: DirectoryOptions;
  readonly stopWord: Int32Array;
  readonly counters: Float64Array;
}

/** Sent once, when clients can connect. */
export interface DirectoryReady {
  readonly address: string;
  /** Signal this descriptor after a change of the stop word. */
  readonly channelFd: number;
}

const { options, stopWord, counters } = workerData as DirectoryWorkerData;
const device = openDevice();
try {
  const directory = new Directory(device, options, stopWord, counters);
  const ready: DirectoryReady = { address: directory.listener.address, channelFd: directory.channel.fd };
  parentPort?.postMessage(ready);
  directory.run();
} finally {
  device.close();
}
