/** A client in a thread of its own that answers messages. */
import { workerData } from 'node:worker_threads';
import { Side } from '../rig.js';
import { converse } from './converse.js';
import { LINKS } from './link.js';

export interface EchoTask {
  /** Name of the link. */
  readonly link: string;
  readonly address: string;
  readonly rounds: number;
}

const { link, address, rounds } = workerData as EchoTask;
const side = new Side(LINKS.find(({ name }) => name === link)!.openClient());
side.qp.postRecv(0, 0, side.mr.lkey, 8);
const connection = side.device.connect(address, [side.qp], side.channel);
for (let i = 0; i < 1000 && connection.state === 'connecting'; i++) {
  side.channel.wait(10e6);
  await new Promise((resolve) => setImmediate(resolve));
}
if (connection.state !== 'established') throw new Error(`the connection is ${connection.state}`);
converse(side, rounds, false);
side.device.close();
