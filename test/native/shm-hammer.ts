/**
 * A client process that writes into the node at the given address without pause until it is killed: batches over both of
 * two pairs, or, with `revoked`, over the second one with the newest key, which it reads over the first.
 */
import { QpState, SendFlag, WcStatus } from '../../native/index.js';
import { emptyCompletion } from './rig.js';
import { NODE_BYTES, ShmClient } from './shm-rig.js';

const [address, mode] = process.argv.slice(2);
const client = new ShmClient(2);
const connection = client.device.connect(address!, client.qps, client.channel);
const completion = emptyCompletion();
while (connection.state === 'connecting') await new Promise((resolve) => setTimeout(resolve, 1));

process.on('message', ({ rkey, regionRkey }: { rkey: number; regionRkey: number }) => {
  if (mode === 'revoked') hammerRevoked(rkey, regionRkey);
  else hammer(regionRkey);
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

/** Never returns. */
function hammerRevoked(first: number, regionRkey: number): void {
  const { mr, words } = client;
  const [asking, writing] = client.qps as [(typeof client.qps)[0], (typeof client.qps)[0]];
  const keyByte = NODE_BYTES - 8;
  let rkey = first;
  process.send!({ hammering: true });
  for (let round = 1n; ; round++) {
    words.fill(round, 0, 64);
    writing.postWrite(1, SendFlag.SIGNALED, 0, mr.lkey, 512, 0, rkey);
    writing.doorbell();
    if (poll() === WcStatus.SUCCESS) continue;
    if (completion.status !== WcStatus.REM_ACCESS_ERR) throw new Error(`status ${completion.status}`);
    do {
      asking.postRead(2, SendFlag.SIGNALED, 1024, mr.lkey, 8, keyByte, regionRkey);
      asking.doorbell();
      if (poll() !== WcStatus.SUCCESS) throw new Error(`status ${completion.status}`);
    } while (Number(words[128]) === rkey || words[128] === 0n);
    rkey = Number(words[128]);
    for (const state of [QpState.RESET, QpState.INIT, QpState.RTR, QpState.RTS]) writing.modify(state);
  }
}
