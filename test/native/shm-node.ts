/**
 * A memory node of its own process for the tests of the shared-memory link: forked with the address to listen at, it
 * accepts every client, gives each a window on its memory and answers to commands over the IPC channel.
 */
import { readdirSync, readFileSync } from 'node:fs';
import {
  Access,
  type Connection,
  type MemoryRegion,
  type MemoryWindow,
  openDevice,
  QpState,
  type QueuePair,
  SendFlag,
} from '../../native/index.js';
import { ALL_ACCESS, emptyCompletion } from './rig.js';
import { NODE_BYTES } from './shm-rig.js';

interface Client {
  readonly connection: Connection;
  readonly qps: readonly QueuePair[];
  readonly mr: MemoryRegion;
  readonly window: MemoryWindow;
  tag: number;
}

export interface ClientFacts {
  readonly id: number;
  readonly pid: number;
  /** Of the window on the first half of the memory. */
  readonly rkey: number;
  /** Of all of it. */
  readonly regionRkey: number;
}

export type NodeCommand =
  | { readonly do: 'block'; readonly ms: number }
  | { readonly do: 'reject'; readonly count: number }
  | { readonly do: 'send'; readonly id: number; readonly count: number }
  | { readonly do: 'cycle'; readonly id: number }
  | { readonly do: 'add'; readonly offset: number; readonly count: number }
  | { readonly do: 'revoke'; readonly id: number; readonly times: number }
  | { readonly do: 'close'; readonly id: number }
  | { readonly do: 'facts' };

export interface NodeFacts {
  /** Their connections' ids. */
  readonly clients: readonly number[];
  readonly gone: number;
  readonly mappings: number;
  readonly descriptors: number;
  readonly cpuMs: number;
  readonly words: readonly string[];
}

const device = openDevice();
const channel = device.createChannel();
const memory = device.allocMemory(NODE_BYTES);
const words = new BigUint64Array(memory.buffer);
const listener = device.listen(channel, {
  address: process.argv[2]!,
  engineThreads: Number(process.argv[3] ?? 1),
});
const clients = new Map<number, Client>();
const completion = emptyCompletion();
let gone = 0;
let toReject = 0;

function run(qp: QueuePair, post: () => boolean, cq: { poll(into: typeof completion): boolean }): number {
  if (!post()) throw new Error('the send queue is full');
  qp.doorbell();
  while (!cq.poll(completion));
  return completion.status;
}

const controlCq = device.createCq(1024);

function bind(client: Pick<Client, 'qps' | 'mr' | 'window'>, tag: number): number {
  const rkey = client.window.keyBase | tag;
  const status = run(
    client.qps[0]!,
    () =>
      client.qps[0]!.postBindMw(
        1,
        SendFlag.SIGNALED,
        rkey,
        client.mr.lkey,
        0,
        NODE_BYTES / 2,
        Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC,
      ),
    controlCq,
  );
  if (status !== 0) throw new Error(`bind: ${status}`);
  return rkey;
}

function accept(connection: Connection): void {
  if (toReject > 0) {
    toReject--;
    connection.reject();
    return;
  }
  const pd = device.allocPd();
  const mr = pd.regMr(memory, 0, NODE_BYTES, ALL_ACCESS);
  const window = pd.allocMw();
  const qps = Array.from({ length: connection.qpCount }, () =>
    pd.createQp({ sendCq: controlCq, recvCq: controlCq, maxSendWr: 64, maxRecvWr: 64 }),
  );
  connection.accept(qps);
  const client = { connection, qps, mr, window, tag: 1 };
  clients.set(connection.id, client);
  const rkey = bind(client, 1);
  process.send!({ connected: { id: connection.id, pid: connection.peer!.pid, rkey, regionRkey: mr.rkey } });
}

channel.onSignal(() => {
  for (let ended = listener.nextDisconnection(); ended !== undefined; ended = listener.nextDisconnection()) {
    const client = clients.get(ended.id)!;
    clients.delete(ended.id);
    gone++;
    ended.close();
    for (const qp of client.qps) qp.close();
    client.window.close();
    client.mr.close();
    process.send!({ disconnected: ended.id });
  }
  for (let next = listener.nextConnection(); next !== undefined; next = listener.nextConnection())
    accept(next);
});

/** Where the newest key of the hammered window is told. */
const KEY_WORD = NODE_BYTES / 8 - 1;

/**
 * Ends the window's key and looks whether anything still changes under it, so many times. The client writes over its second
 * pair all the time; when that is refused it waits for the next key.
 */
async function revoke(client: Client, times: number): Promise<number> {
  const hammered = client.qps[1]!;
  const lanes = words.subarray(0, 64);
  const before = new BigUint64Array(lanes.length);
  let violations = 0;
  for (let i = 0; i < times; i++) {
    const old = client.window.keyBase | client.tag;
    const control = client.qps[0]!;
    const status = run(control, () => control.postLocalInv(2, SendFlag.SIGNALED, old), controlCq);
    if (status !== 0) throw new Error(`invalidate: ${status}`);
    before.set(lanes);
    for (let look = 0; look < 3; look++)
      for (let lane = 0; lane < lanes.length; lane++)
        if (Atomics.load(lanes, lane) !== before[lane]) violations++;
    while (hammered.state !== QpState.ERR) await new Promise((resolve) => setImmediate(resolve));
    for (const state of [QpState.RESET, QpState.INIT, QpState.RTR, QpState.RTS]) hammered.modify(state);
    client.tag = (client.tag + 1) & 0xff;
    Atomics.store(words, KEY_WORD, BigInt(bind(client, client.tag)));
  }
  return violations;
}

async function answer(command: NodeCommand): Promise<unknown> {
  switch (command.do) {
    case 'block': {
      const until = performance.now() + command.ms;
      while (performance.now() < until);
      return {};
    }
    case 'reject':
      toReject = command.count;
      return {};
    case 'send': {
      const client = clients.get(command.id)!;
      const statuses: number[] = [];
      for (let i = 0; i < command.count; i++) {
        words[0] = BigInt(i);
        statuses.push(
          run(
            client.qps[0]!,
            () => client.qps[0]!.postSend(3, SendFlag.SIGNALED, 0, client.mr.lkey, 8),
            controlCq,
          ),
        );
      }
      return statuses;
    }
    case 'cycle':
      for (const qp of clients.get(command.id)!.qps)
        for (const state of [0, 1, 2, 3] as const) qp.modify(state);
      return {};
    case 'add':
      for (let i = 0; i < command.count; i++) Atomics.add(words, command.offset / 8, 1n);
      return {};
    case 'revoke':
      return revoke(clients.get(command.id)!, command.times);
    case 'close':
      clients.get(command.id)!.connection.close();
      return {};
    case 'facts': {
      const usage = process.cpuUsage();
      const facts: NodeFacts = {
        clients: [...clients.keys()],
        gone,
        mappings: readFileSync('/proc/self/maps', 'latin1').split('memfd:patronus').length - 1,
        descriptors: readdirSync('/proc/self/fd').length,
        cpuMs: (usage.user + usage.system) / 1000,
        words: [...words.subarray(0, 64)].map(String),
      };
      return facts;
    }
  }
}

process.on('message', (request: { readonly call: number; readonly command: NodeCommand }) => {
  void answer(request.command).then((result) => process.send!({ call: request.call, result }));
});
process.on('disconnect', () => process.exit());
process.send!({ listening: listener.address });
