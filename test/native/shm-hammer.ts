/**
 * A client process that writes into the node at the given address without pause until it is killed: batches over both of
 * two pairs; or, given a number, over a pair for each of its share of the windows whose keys end all the time, while it
 * reads the newest keys over another.
 */
import { QpState, type QueuePair, SendFlag, WcStatus } from '../../native/index.js';
import { emptyCompletion, spinUntil } from './rig.js';
import { HAMMERED_BYTES, HAMMERED_WINDOWS, KEYS_AT, ShmClient } from './shm-rig.js';

const [address, share] = process.argv.slice(2);
const client = new ShmClient(share === undefined ? 2 : 1 + HAMMERED_WINDOWS);
const connection = client.device.connect(address!, client.qps, client.channel);
const completion = emptyCompletion();
while (connection.state === 'connecting') await new Promise((resolve) => setTimeout(resolve, 1));

process.on('message', ({ regionRkey }: { regionRkey: number }) => {
  if (share === undefined) hammer(regionRkey);
  else hammerRevoked(Number(share) * HAMMERED_WINDOWS, regionRkey);
});
process.on('disconnect', () => process.exit());
process.send!({ established: connection.state === 'established' });

function poll(): number {
  while (!client.sendCq.poll(completion));
  return completion.status;
}

/** Never returns. */
function hammer(rkey: number): void {
  const { mr, qps, words } = client;
  process.send!({ hammering: true });
  for (let round = 1n; ; round++) {
    words.fill(round, 0, 512);
    for (const qp of qps) {
      for (let i = 0; i < 16; i++)
        qp.postWrite(1, i === 15 ? SendFlag.SIGNALED : 0, 0, mr.lkey, 4096, 65536 + i * 4096, rkey);
      qp.doorbell();
    }
    for (const _ of qps) if (poll() !== WcStatus.SUCCESS) throw new Error(`status ${completion.status}`);
  }
}

interface Lane {
  readonly qp: QueuePair;
  readonly start: number;
  rkey: number;
  open: boolean;
}

/** Through the windows from this one on. Never returns. */
function hammerRevoked(first: number, regionRkey: number): void {
  const { mr, words, sendCq } = client;
  const asking = client.qps[0]!;
  const lanes: Lane[] = client.qps
    .slice(1)
    .map((qp, i) => ({ qp, start: (first + i) * HAMMERED_BYTES, rkey: 0, open: false }));
  const keys = new BigUint64Array(client.memory.buffer, 2 * HAMMERED_BYTES, lanes.length);
  process.send!({ hammering: true });
  for (let round = 1n; ; round++) {
    words.fill(round, 0, HAMMERED_BYTES / 8);
    const written = lanes.filter((lane) => lane.open);
    for (const lane of written) {
      const wrId = lanes.indexOf(lane);
      lane.qp.postWrite(wrId, SendFlag.SIGNALED, 0, mr.lkey, HAMMERED_BYTES, lane.start, lane.rkey);
      lane.qp.doorbell();
    }
    for (const _ of written) {
      spinUntil(() => sendCq.poll(completion), 'a write');
      if (connection.state === 'closed') process.exit();
      if (completion.status === WcStatus.REM_ACCESS_ERR) lanes[completion.wrId]!.open = false;
      else if (completion.status !== WcStatus.SUCCESS) throw new Error(`status ${completion.status}`);
    }
    if (written.length === lanes.length) continue;
    const address = KEYS_AT + 8 * first;
    asking.postRead(0, SendFlag.SIGNALED, keys.byteOffset, mr.lkey, keys.byteLength, address, regionRkey);
    asking.doorbell();
    spinUntil(() => sendCq.poll(completion), 'the keys');
    if (connection.state === 'closed') process.exit();
    if (completion.status !== WcStatus.SUCCESS) throw new Error(`status ${completion.status}`);
    lanes.forEach((lane, i) => {
      if (lane.open || Number(keys[i]) === lane.rkey) return;
      lane.rkey = Number(keys[i]);
      lane.open = true;
      for (const state of [QpState.RESET, QpState.INIT, QpState.RTR, QpState.RTS]) lane.qp.modify(state);
    });
  }
}
