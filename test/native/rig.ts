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
  QueuePairInit,
} from '../../native/index.js';
import { Access, openDevice, QpState, SendFlag } from '../../native/index.js';
import { type Link, LOOPBACK } from './conformance/link.js';

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

type Received = ReturnType<typeof emptyCompletion>;

const WAIT_MS = 60_000;
const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Blocks this thread until `done` says so: what it waits for needs no event loop. Throws when that takes too long. */
export function spinUntil(done: () => boolean, what: string): void {
  const deadline = performance.now() + WAIT_MS;
  for (let i = 0; !done(); i++) {
    if (i < 1000) continue;
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    Atomics.wait(sleeper, 0, 0, 1);
  }
}

/** The same for what may need the event loop. */
export async function until(done: () => boolean, what: string, waitMs = WAIT_MS): Promise<void> {
  const deadline = performance.now() + waitMs;
  while (!done()) {
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** One end of a connection: a device of its own, with a registered memory and one queue pair. */
export class Side {
  readonly device: Device;
  readonly channel: CompletionChannel;
  readonly pd: ProtectionDomain;
  readonly memory: HostMemory;
  readonly bytes: Uint8Array;
  readonly words: BigUint64Array;
  readonly mr: MemoryRegion;
  readonly sendCq: CompletionQueue;
  readonly recvCq: CompletionQueue;
  qp: QueuePair;

  constructor(device = openDevice(), cqDepth = 64) {
    this.device = device;
    this.channel = device.createChannel();
    this.pd = device.allocPd();
    this.memory = device.allocMemory(MEMORY_BYTES);
    this.bytes = new Uint8Array(this.memory.buffer);
    this.words = new BigUint64Array(this.memory.buffer);
    this.mr = this.pd.regMr(this.memory, 0, MEMORY_BYTES, ALL_ACCESS);
    this.sendCq = device.createCq(cqDepth, this.channel);
    this.recvCq = device.createCq(cqDepth, this.channel);
    this.qp = this.newQp();
  }

  newQp(init: Partial<QueuePairInit> = {}): QueuePair {
    const { sendCq, recvCq } = this;
    return this.pd.createQp({ sendCq, recvCq, maxSendWr: 16, maxRecvWr: 16, ...init });
  }

  /** Post one request (`post` gets the flags), ring, and give the completion. */
  run(post: (flags: number) => boolean): Received {
    if (!post(SendFlag.SIGNALED)) throw new Error('the send queue is full');
    this.qp.doorbell();
    return this.take(this.sendCq, 1)[0]!;
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

  /** The next `count` completions. */
  take(cq: CompletionQueue, count: number): Received[] {
    return Array.from({ length: count }, (_, i) => {
      const done = emptyCompletion();
      spinUntil(() => cq.poll(done), `completion ${i + 1} of ${count}`);
      return done;
    });
  }

  /** All completions that are there. */
  drain(cq: CompletionQueue): Received[] {
    const all: Received[] = [];
    for (;;) {
      const done = emptyCompletion();
      if (!cq.poll(done)) return all;
      all.push(done);
    }
  }

  /** Bring the pair from wherever it is to RTS, with nothing left from before. */
  restart(): void {
    for (const state of [QpState.RESET, QpState.INIT, QpState.RTR, QpState.RTS]) this.qp.modify(state);
    this.drain(this.sendCq);
    this.drain(this.recvCq);
  }
}

/** A client and a node of one thread, connected. */
export class Rig {
  readonly node: Side;
  readonly client: Side;
  readonly listener: Listener;
  readonly connection: Connection;
  readonly accepted: Connection;

  private constructor(
    node: Side,
    client: Side,
    listener: Listener,
    connection: Connection,
    accepted: Connection,
  ) {
    this.node = node;
    this.client = client;
    this.listener = listener;
    this.connection = connection;
    this.accepted = accepted;
  }

  static async open(link: Link = LOOPBACK, cqDepth?: number): Promise<Rig> {
    const offer = await Offer.make(link, cqDepth);
    const { node, client, listener, connection, incoming } = offer;
    incoming.accept([node.qp]);
    await until(() => connection.state === 'established', 'the connection');
    return new Rig(node, client, listener, connection, incoming);
  }

  /** Bring both pairs from wherever they are to RTS, with nothing left from before. */
  recover(): void {
    this.node.restart();
    this.client.restart();
  }

  close(): void {
    this.client.device.close();
    this.node.device.close();
  }
}

/** A client that has asked a node for a connection. */
export class Offer {
  readonly node: Side;
  readonly client: Side;
  readonly listener: Listener;
  readonly connection: Connection;
  incoming!: Connection;

  private constructor(link: Link, cqDepth?: number) {
    this.node = new Side(link.openNode(), cqDepth);
    this.client = new Side(link.openClient(), cqDepth);
    this.listener = this.node.device.listen(this.node.channel, link.listenOptions());
    this.connection = this.client.device.connect(
      this.listener.address,
      [this.client.qp],
      this.client.channel,
    );
  }

  static async make(link: Link, cqDepth?: number): Promise<Offer> {
    const offer = new Offer(link, cqDepth);
    offer.incoming = await nextConnection(offer.listener);
    return offer;
  }

  close(): void {
    this.client.device.close();
    this.node.device.close();
  }
}

export async function nextConnection(listener: Listener): Promise<Connection> {
  let connection: Connection | undefined;
  await until(() => {
    connection = listener.nextConnection();
    return connection !== undefined;
  }, 'a connection');
  return connection!;
}
