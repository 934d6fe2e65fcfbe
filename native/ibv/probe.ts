import type { Completion, CompletionQueue, MemoryRegion, QueuePair } from '../contract.js';
import { Access, QpState, SendFlag, WcStatus } from '../verbs.js';
import type { IbvDevice, WindowAttr } from './device.js';

const MEMORY_BYTES = 8192;
/** Of the region; room before and behind it. */
const WINDOW_AT = 4096;
const WINDOW_BYTES = 64;
const WINDOW_ACCESS = Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC;
/** For an answer of the device or of the connection; what it takes is microseconds, but errors take retries. */
const LONGEST_WAIT_MS = 10_000;

/**
 * Find out what a device does with memory windows by doing it, on queue pairs connected to one another. Null if
 * windows do not work: no access through one, no atomics, or access after its end.
 */
export function probe(device: IbvDevice): WindowAttr | null {
  if (device.attr.maxMw === 0) return null;
  const loop = new Loop(device);
  const window = loop.pd.allocMw();
  const first = (window.keyBase | 0x11) >>> 0;
  const second = (window.keyBase | 0x12) >>> 0;
  if (loop.bind(first, WINDOW_AT) !== WcStatus.SUCCESS) return null;
  if (loop.read(0, WINDOW_AT, first) !== WcStatus.SUCCESS) return null;
  if (loop.faa(0, WINDOW_AT, first) !== WcStatus.SUCCESS) return null;

  const windowScope = loop.read(1, WINDOW_AT, first) === WcStatus.SUCCESS ? 'pd' : 'qp';
  loop.recover();
  const behindRefused = loop.read(0, WINDOW_AT + WINDOW_BYTES, first) === WcStatus.REM_ACCESS_ERR;
  loop.recover();
  const beforeRefused = loop.write(0, WINDOW_AT - 8, first) === WcStatus.REM_ACCESS_ERR;
  loop.recover();
  const rebindBoundWindow = loop.rebinds(first, second);
  loop.recover();
  const last = rebindBoundWindow ? second : first;
  if (loop.invalidate(last) !== WcStatus.SUCCESS) return null;
  if (loop.read(0, WINDOW_AT, last) === WcStatus.SUCCESS) return null;
  return { windowScope, windowBounds: behindRefused && beforeRefused, rebindBoundWindow };
}

/** Two queue pairs of the device connected to two others of it. */
class Loop {
  readonly pd;
  private readonly region: MemoryRegion;
  private readonly cq: CompletionQueue;
  private readonly clients: readonly QueuePair[];
  private readonly nodes: readonly QueuePair[];
  private readonly done: Completion = {
    wrId: 0,
    status: 0,
    opcode: 0,
    flags: 0,
    byteLen: 0,
    qpNum: 0,
    imm: 0,
  };

  constructor(device: IbvDevice) {
    this.pd = device.allocPd();
    const memory = device.allocMemory(MEMORY_BYTES);
    this.region = this.pd.regMr(memory, 0, MEMORY_BYTES, Access.LOCAL_WRITE | Access.MW_BIND);
    this.cq = device.createCq(64);
    const channel = device.createChannel();
    const pair = () => this.pd.createQp({ sendCq: this.cq, recvCq: this.cq, maxSendWr: 8, maxRecvWr: 1 });
    this.clients = [pair(), pair()];
    this.nodes = [pair(), pair()];
    const listener = device.listen(channel);
    const connection = device.connect(listener.address, this.clients, channel);
    const arrived = until(
      () => listener.nextConnection(),
      () => channel.wait(1e6),
    );
    arrived.accept(this.nodes);
    until(
      () => connection.state === 'established' || undefined,
      () => channel.wait(1e6),
    );
  }

  bind(rkey: number, address: number): number {
    return this.run(this.nodes[0]!, (qp) =>
      qp.postBindMw(1, SendFlag.SIGNALED, rkey, this.region.lkey, address, WINDOW_BYTES, WINDOW_ACCESS),
    );
  }

  invalidate(rkey: number): number {
    return this.run(this.nodes[0]!, (qp) => qp.postLocalInv(1, SendFlag.SIGNALED, rkey));
  }

  read(pair: number, address: number, rkey: number): number {
    return this.run(this.clients[pair]!, (qp) =>
      qp.postRead(1, SendFlag.SIGNALED, 0, this.region.lkey, 8, address, rkey),
    );
  }

  write(pair: number, address: number, rkey: number): number {
    return this.run(this.clients[pair]!, (qp) =>
      qp.postWrite(1, SendFlag.SIGNALED, 0, this.region.lkey, 8, address, rkey),
    );
  }

  faa(pair: number, address: number, rkey: number): number {
    return this.run(this.clients[pair]!, (qp) =>
      qp.postFaa(1, SendFlag.SIGNALED, 0, this.region.lkey, address, rkey, 1, 0),
    );
  }

  /** Bind the window, bound under `before`, to another place under `after`: that one works and the other does not. */
  rebinds(before: number, after: number): boolean {
    return (
      this.bind(after, WINDOW_AT + 1024) === WcStatus.SUCCESS &&
      this.read(0, WINDOW_AT + 1024, after) === WcStatus.SUCCESS &&
      this.read(0, WINDOW_AT, before) === WcStatus.REM_ACCESS_ERR
    );
  }

  /** All pairs to RTS, with nothing left from before. */
  recover(): void {
    for (const qp of [...this.clients, ...this.nodes]) qp.modify(QpState.RESET);
    for (const state of [QpState.INIT, QpState.RTR, QpState.RTS]) {
      for (const qp of [...this.nodes, ...this.clients]) qp.modify(state);
    }
    while (this.cq.poll(this.done)) {
      // Of what failed.
    }
  }

  /** Post one request; its status. */
  private run(qp: QueuePair, post: (qp: QueuePair) => boolean): number {
    post(qp);
    qp.doorbell();
    until(
      () => this.cq.poll(this.done) || undefined,
      () => {},
    );
    return this.done.status;
  }
}

function until<T>(look: () => T | undefined, pause: () => void): T {
  const deadline = performance.now() + LONGEST_WAIT_MS;
  for (;;) {
    const found = look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error('the RDMA device does not answer');
    pause();
  }
}
