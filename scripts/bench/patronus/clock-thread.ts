/** A thread that does nothing but wait for times to come: how late that finds them on this machine now. */
import { parentPort, workerData } from 'node:worker_threads';
import { nowNs, openDevice } from '../../../native/index.js';

export interface ClockTask {
  readonly how: 'poll' | 'sleep';
  readonly everyNs: number;
  readonly ms: number;
}

const { how, everyNs, ms } = workerData as ClockTask;
const device = openDevice();
const channel = device.createChannel();
const latenessNs: number[] = [];
const endNs = nowNs() + ms * 1e6;
for (let deadline = nowNs() + everyNs; deadline < endNs; deadline = nowNs() + everyNs) {
  if (how === 'sleep') channel.wait(Math.max(0, deadline - nowNs()));
  let now = nowNs();
  while (now < deadline) now = nowNs();
  latenessNs.push(now - deadline);
}
channel.close();
device.close();
parentPort!.postMessage(latenessNs.sort((a, b) => a - b));
