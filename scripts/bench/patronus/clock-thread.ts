/** A thread that does nothing but look at the clock until times have come: how late that finds them on this machine now. */
import { parentPort, workerData } from 'node:worker_threads';
import { nowNs } from '../../../native/index.js';

export interface ClockTask {
  readonly everyNs: number;
  readonly ms: number;
}

const { everyNs, ms } = workerData as ClockTask;
const latenessNs: number[] = [];
const endNs = nowNs() + ms * 1e6;
for (let deadline = nowNs() + everyNs; deadline < endNs; deadline = nowNs() + everyNs) {
  let now = nowNs();
  while (now < deadline) now = nowNs();
  latenessNs.push(now - deadline);
}
parentPort!.postMessage(latenessNs.sort((a, b) => a - b));
