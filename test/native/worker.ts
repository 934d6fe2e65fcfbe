/**
 * A client in a thread of its own. `workerData` says what it does ({@link WorkerTask}); it connects to the given
 * listener, does it, and posts its result.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { QpState, SendFlag, signalChannel, WcStatus } from '../../native/index.js';
import { Side } from './rig.js';

export interface WorkerTask {
  readonly kind: 'leave' | 'hammer' | 'write-words' | 'add' | 'swap';
  readonly address: string;
  /** Int32: see {@link Shared}. */
  readonly shared: SharedArrayBuffer;
  readonly rkey: number;
  readonly count: number;
  /** `leave`: how the thread ends: by itself, by process.exit(), or working until it is terminated. */
  readonly ending?: 'return' | 'exit' | 'terminate';
}

/** Places in {@link WorkerTask.shared}. */
export const Shared = { STOP: 0, RKEY: 1, ADDRESS: 2, READY: 3, START: 4 } as const;

/** The word that `write-words` writes in its n-th round: both halves are the same. */
export function wordOf(round: number): bigint {
  const half = BigInt(Math.imul(round, 0x9e3779b1) >>> 0);
  return (half << 32n) | half;
}

if (parentPort !== null && (workerData as WorkerTask | null)?.shared !== undefined) work(workerData);

function work({ kind, address, shared, rkey, count, ending }: WorkerTask): void {
  const flags = new Int32Array(shared);
  const side = new Side();
  const connection = side.device.connect(address, [side.qp], side.channel);
  for (let i = 0; i < 100 && connection.state === 'connecting'; i++) side.channel.wait(100e6);
  if (connection.state !== 'established') throw new Error(`the connection is ${connection.state}`);
  Atomics.add(flags, Shared.READY, 1);
  Atomics.notify(flags, Shared.READY);
  switch (kind) {
    case 'leave':
      side.channel.onSignal(() => {});
      signalChannel(side.channel.fd);
      if (ending === 'return') side.channel.onSignal(undefined);
      if (ending === 'exit') process.exit(0);
      if (ending === 'terminate') {
        side.channel.onSignal(() => signalChannel(side.channel.fd));
        setImmediate(() => {
          for (;;) side.write(0, 0, rkey, 4096);
        });
      }
      return;
    case 'hammer':
      parentPort!.postMessage(hammer(side, flags));
      return;
    case 'write-words':
      for (let round = 0; Atomics.load(flags, Shared.STOP) === 0; round++) {
        side.words.fill(wordOf(round), 0, 32);
        check(side.write(0, 0, rkey, 8 * (1 + (round & 31))));
      }
      parentPort!.postMessage(0);
      return;
    case 'add':
      Atomics.wait(flags, Shared.START, 0, 20_000);
      for (let i = 0; i < count; i++) {
        check(side.status((f) => side.qp.postFaa(1, f, 0, side.mr.lkey, 0, rkey, 3, 1)));
      }
      parentPort!.postMessage(count);
      return;
    case 'swap':
      Atomics.wait(flags, Shared.START, 0, 20_000);
      parentPort!.postMessage(swap(side, rkey, count));
  }
}

function check(status: number): void {
  if (status !== WcStatus.SUCCESS) throw new Error(`completed with status ${status}`);
}

/** Write changing bytes with the key and to the address of the day until told to stop; how many writes succeeded. */
function hammer(side: Side, flags: Int32Array): number {
  const BATCH = 8;
  let written = 0;
  for (let round = 0; Atomics.load(flags, Shared.STOP) === 0; round++) {
    if (side.qp.state !== QpState.RTS) {
      for (const state of [0, 1, 2, 3] as const) side.qp.modify(state);
    }
    side.words.fill(wordOf(round), 0, 512);
    const key = Atomics.load(flags, Shared.RKEY) >>> 0;
    const at = Atomics.load(flags, Shared.ADDRESS);
    for (let i = 0; i < BATCH; i++) {
      side.qp.postWrite(i, SendFlag.SIGNALED, 8 * i, side.mr.lkey, i & 1 ? 4032 : 256, at, key);
    }
    side.qp.doorbell();
    for (const done of side.drain(side.sendCq)) if (done.status === WcStatus.SUCCESS) written++;
  }
  return written;
}

/** Add 1 to the first word `count` times with compare-and-swap; how many attempts it took. */
function swap(side: Side, rkey: number, count: number): number {
  const halves = new Uint32Array(side.memory.buffer);
  let lo = 0;
  let hi = 0;
  let attempts = 0;
  for (let swapped = 0; swapped < count; attempts++) {
    if (attempts > count * 1000) throw new Error('too many attempts');
    const next = lo + 1;
    check(
      side.status((f) =>
        side.qp.postCas(1, f, 0, side.mr.lkey, 8, rkey, lo, hi, next >>> 0, hi + (next > 0xffffffff ? 1 : 0)),
      ),
    );
    if (halves[0] === lo && halves[1] === hi) {
      swapped++;
      hi += next > 0xffffffff ? 1 : 0;
      lo = next >>> 0;
    } else {
      lo = halves[0]!;
      hi = halves[1]!;
    }
  }
  return attempts;
}
