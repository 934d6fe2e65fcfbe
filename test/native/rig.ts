import type {
  CompletionChannel,
  CompletionQueue,
  Connection,
  Device,
  HostMemory,
  Listener,
  MemoryRegion,
  ProtectionDomain,
  QueuePair,
} from '../../native/index.js';
import { Access, openDevice, SendFlag } from '../../native/index.js';

export const ALL_ACCESS =
  Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC | Access.MW_BIND;

export const MEMORY_BYTES = 65536;

/** Read a code, a name or nothing from what a call throws. */
export function failureOf(call: () => unknown): string | undefined {
  try {
    call();
  } catch (error) {
    const { code, name } = error as { code?: string; name: string };
    return code ?? name;
  }
  return undefined;
}

export function emptyCompletion() {
  return { wrId: 0, status: 0, opcode: 0, flags: 0, byteLen: 0, qpNum: 0, imm: 0 };
}

/** One end of a connection: a device of its own, with a registered memory and one queue pair. */
export class Side {
  readonly device: Device = openDevice();
  readonly channel: CompletionChannel = this.device.createChannel();
  readonly pd: ProtectionDomain = this.device.allocPd();
  readonly memory: HostMemory = this.device.allocMemory(MEMORY_BYTES);
  readonly bytes = new Uint8Array(this.memory.buffer);
  readonly words = new BigUint64Array(this.memory.buffer);
  readonly mr: MemoryRegion = this.pd.regMr(this.memory, 0, MEMORY_BYTES, ALL_ACCESS);
  readonly sendCq: CompletionQueue;
  readonly recvCq: CompletionQueue;
  qp: QueuePair;

  constructor(cqDepth = 64) {
    this.sendCq = this.device.createCq(cqDepth, this.channel);
    this.recvCq = this.device.createCq(cqDepth, this.channel);
    this.qp = this.newQp();
  }

  newQp(): QueuePair {
    return this.pd.createQp({ sendCq: this.sendCq, recvCq: this.recvCq, maxSendWr: 16, maxRecvWr: 16 });
  }

  /** Post one request (`post` gets the flags), ring, and give the completion; throws if there is none. */
  run(post: (flags: number) => boolean): ReturnType<typeof emptyCompletion> {
    if (!post(SendFlag.SIGNALED)) throw new Error('the send queue is full');
    this.qp.doorbell();
    const done = emptyCompletion();
    if (!this.sendCq.poll(done)) throw new Error('no completion');
    return done;
  }

  status(post: (flags: number) => boolean): number {
    return this.run(post).status;
  }

  read(localAddr: number, remoteAddr: number, rkey: number, length = 8): number {
    return this.status((flags) =>
      this.qp.postRead(1, flags, localAddr, this.mr.lkey, length, remoteAddr, rkey),
    );
  }

  write(localAddr: number, remoteAddr: number, rkey: number, length = 8): number {
    return this.status((flags) =>
      this.qp.postWrite(1, flags, localAddr, this.mr.lkey, length, remoteAddr, rkey),
    );
  }

  bind(rkey: number, address: number, length: number, access: number, lkey = this.mr.lkey): number {
    return this.status((flags) => this.qp.postBindMw(2, flags, rkey, lkey, address, length, access));
  }

  invalidate(rkey: number): number {
    return this.status((flags) => this.qp.postLocalInv(3, flags, rkey));
  }

  /** All completions that are there. */
  drain(cq: CompletionQueue): ReturnType<typeof emptyCompletion>[] {
    const all: ReturnType<typeof emptyCompletion>[] = [];
    for (;;) {
      const done = emptyCompletion();
      if (!cq.poll(done)) return all;
      all.push(done);
    }
  }
}

/** A client and a node of one thread, connected. */
export class Rig {
  readonly node: Side;
  readonly client: Side;
  readonly listener: Listener;
  readonly connection: Connection;
  readonly accepted: Connection;

  constructor(cqDepth?: number) {
    this.node = new Side(cqDepth);
    this.client = new Side(cqDepth);
    this.listener = this.node.device.listen(this.node.channel);
    this.connection = this.client.device.connect(
      this.listener.address,
      [this.client.qp],
      this.client.channel,
    );
    this.accepted = this.listener.nextConnection()!;
    this.accepted.accept([this.node.qp]);
  }

  /** Bring both pairs from wherever they are to RTS, with nothing left from before. */
  recover(): void {
    for (const side of [this.node, this.client]) {
      for (const state of [0, 1, 2, 3] as const) side.qp.modify(state);
      side.drain(side.sendCq);
      side.drain(side.recvCq);
    }
  }

  close(): void {
    this.client.device.close();
    this.node.device.close();
  }
}
