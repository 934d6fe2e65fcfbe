/** What the tests of the shared-memory link share: nodes and clients of other processes, and a client in this one. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Completion, Connection } from '../../native/index.js';
import { openDevice, QpState, type QueuePair, SendFlag } from '../../native/index.js';
import { ALL_ACCESS, emptyCompletion, until } from './rig.js';
import type { ClientFacts, NodeCommand, NodeFacts } from './shm-node.js';

/** Memory of a node of shm-node.ts. */
export const NODE_BYTES = 1 << 20;

/** What shm-hammer.ts writes through while keys end: so many windows of each client, each of so many bytes. */
export const HAMMERED_WINDOWS = 8;
export const HAMMERED_BYTES = 1024;
/** Where a node tells their newest keys, a word each. */
export const KEYS_AT = NODE_BYTES - 4096;

const WAIT_MS = 10_000;

export function socketDirectory(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'patronus-shm-'));
  return { path, remove: () => rmSync(path, { recursive: true }) };
}

/** A process that was forked from a module of this directory and talks over IPC. */
export class Child {
  readonly process: ChildProcess;
  readonly messages: Record<string, unknown>[] = [];
  private calls = 0;

  constructor(module: string, args: readonly string[]) {
    const path = fileURLToPath(new URL(module, import.meta.url));
    this.process = fork(path, [...args], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.process.on('message', (message) => this.messages.push(message as Record<string, unknown>));
  }

  /** The next message with this key that was not taken yet. */
  async message<T>(key: string): Promise<T> {
    const find = () => this.messages.findIndex((message) => key in message);
    await until(() => find() >= 0, `${key} from a child`);
    return this.messages.splice(find(), 1)[0]![key] as T;
  }

  async call<T>(command: NodeCommand, waitMs = WAIT_MS): Promise<T> {
    const call = ++this.calls;
    this.process.send({ call, command });
    const find = () => this.messages.findIndex((message) => message.call === call);
    await until(() => find() >= 0 || this.process.exitCode !== null, `an answer to ${command.do}`, waitMs);
    return this.messages.splice(find(), 1)[0]!.result as T;
  }

  async kill(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exited = once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await exited;
  }
}

export class NodeProcess extends Child {
  readonly address: string;

  private constructor(address: string, engineThreads: number) {
    super('shm-node.js', [address, String(engineThreads)]);
    this.address = address;
  }

  static async start(path: string, engineThreads = 1): Promise<NodeProcess> {
    const node = new NodeProcess(`unix:${path}`, engineThreads);
    await node.message('listening');
    return node;
  }

  facts(): Promise<NodeFacts> {
    return this.call({ do: 'facts' });
  }
}

/** A client in this process. */
export class ShmClient {
  readonly device = openDevice('shm0');
  readonly channel = this.device.createChannel();
  readonly pd = this.device.allocPd();
  readonly memory = this.device.allocMemory(1 << 16);
  readonly words = new BigUint64Array(this.memory.buffer);
  readonly mr = this.pd.regMr(this.memory, 0, 1 << 16, ALL_ACCESS);
  readonly sendCq = this.device.createCq(256, this.channel);
  readonly recvCq = this.device.createCq(256, this.channel);
  readonly qps: readonly QueuePair[];
  connection: Connection | undefined;
  facts: ClientFacts | undefined;

  constructor(pairs = 1) {
    this.qps = Array.from({ length: pairs }, () =>
      this.pd.createQp({ sendCq: this.sendCq, recvCq: this.recvCq, maxSendWr: 64, maxRecvWr: 64 }),
    );
  }

  get qp(): QueuePair {
    return this.qps[0]!;
  }

  get rkey(): number {
    return this.facts!.rkey;
  }

  async connect(node: NodeProcess): Promise<this> {
    this.connection = this.device.connect(node.address, this.qps, this.channel);
    await until(() => this.connection!.state !== 'connecting', 'an answer of the listener');
    if (this.connection.state === 'established') this.facts = await node.message('connected');
    return this;
  }

  /** Ring, and the status of the one signalled request. */
  async run(post: (flags: number) => boolean): Promise<number> {
    if (!post(SendFlag.SIGNALED)) throw new Error('the send queue is full');
    this.qp.doorbell();
    return (await this.completion()).status;
  }

  async completion(cq = this.sendCq): Promise<Completion> {
    const completion = emptyCompletion();
    for (let i = 0; i < 1000; i++) if (cq.poll(completion)) return completion;
    await until(() => cq.poll(completion), 'a completion');
    return completion;
  }

  write(local: number, remote: number, length = 8): Promise<number> {
    return this.run((flags) => this.qp.postWrite(1, flags, local, this.mr.lkey, length, remote, this.rkey));
  }

  read(local: number, remote: number, length = 8): Promise<number> {
    return this.run((flags) => this.qp.postRead(1, flags, local, this.mr.lkey, length, remote, this.rkey));
  }

  cycle(): void {
    for (const state of [QpState.RESET, QpState.INIT, QpState.RTR, QpState.RTS]) this.qp.modify(state);
  }
}
