import type { Completion, CompletionQueue, Connection, Device, QueuePair } from '../../native/index.js';
import { Access, openDevice, WcStatus } from '../../native/index.js';

export const MEMORY_BYTES = 2 ** 20;
const DEPTH = 256;
const WAIT_MS = 10_000;
const ALL_ACCESS =
  Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC | Access.MW_BIND;

/** A device with memory and a queue pair. */
export class VerbsSide {
  readonly device: Device;
  readonly channel;
  readonly pd;
  readonly memory;
  readonly mr;
  readonly cq: CompletionQueue;
  readonly qp: QueuePair;

  constructor(name: string) {
    this.device = openDevice(name);
    this.channel = this.device.createChannel();
    this.pd = this.device.allocPd();
    this.memory = this.device.allocMemory(MEMORY_BYTES);
    this.mr = this.pd.regMr(this.memory, 0, MEMORY_BYTES, ALL_ACCESS);
    this.cq = this.device.createCq(DEPTH, this.channel);
    this.qp = this.newQp();
  }

  newQp(): QueuePair {
    return this.pd.createQp({ sendCq: this.cq, recvCq: this.cq, maxSendWr: DEPTH, maxRecvWr: DEPTH });
  }
}

export async function established(connection: Connection): Promise<void> {
  const deadline = performance.now() + WAIT_MS;
  while (connection.state === 'connecting' && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  if (connection.state !== 'established') throw new Error(`the connection is ${connection.state}`);
}

const done: Completion = { wrId: 0, status: 0, opcode: 0, flags: 0, byteLen: 0, qpNum: 0, imm: 0 };

/** Poll for the next completion; throws what failed. */
export function await1(cq: CompletionQueue): void {
  for (let polls = 0; !cq.poll(done); polls++) {
    if (polls === 1e9) throw new Error('a completion does not come');
  }
  if (done.status !== WcStatus.SUCCESS) throw new Error(`a request ended with status ${done.status}`);
}
