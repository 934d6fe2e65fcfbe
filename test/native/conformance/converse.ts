import type { CompletionQueue } from '../../../native/index.js';
import { SendFlag, WcStatus } from '../../../native/index.js';
import { emptyCompletion, type Side } from '../rig.js';

const LOST_NS = 10e9;

/**
 * Send and receive messages by turns with a peer that does the same, each time after some polls asleep until the message
 * is there; how often it slept. The first receive buffer is posted already. Throws if a wake-up is lost. Every other message is solicited, and waited for as such.
 */
export function converse(side: Side, rounds: number, begins: boolean): number {
  const { qp, mr } = side;
  let slept = 0;
  const done = emptyCompletion();
  const take = (cq: CompletionQueue, polls: number, solicited: boolean) => {
    for (let left = polls; !cq.poll(done); left--) {
      if (left > 0) continue;
      cq.arm(solicited);
      if (cq.poll(done)) break;
      slept++;
      // A signal may be of the other queue.
      if (!side.channel.wait(LOST_NS)) throw new Error('a wake-up was lost');
    }
    if (done.status !== WcStatus.SUCCESS) throw new Error(`status ${done.status}`);
  };
  for (let round = 0; round < rounds; round++) {
    const solicited = round % 2 === 1;
    const send = () => {
      qp.postSend(round, SendFlag.SIGNALED | (solicited ? SendFlag.SOLICITED : 0), 8, mr.lkey, 8);
      qp.doorbell();
      take(side.sendCq, 1000, false);
    };
    if (begins) send();
    take(side.recvCq, (round * 37) % 400, solicited);
    qp.postRecv(round, 0, mr.lkey, 8);
    if (!begins) send();
  }
  return slept;
}
