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
  type ProtectionDomain,
  QpState,
  type QueuePair,
  SendFlag,
} from '../../native/index.js';
import { ALL_ACCESS, emptyCompletion, spinUntil } from './rig.js';
import { HAMMERED_BYTES, KEYS_AT, NODE_BYTES } from './shm-rig.js';

interface Client {
  readonly connection: Connection;
  readonly qps: readonly QueuePair[];
  readonly pd: ProtectionDomain;
  readonly mr: MemoryRegion;
  readonly window: MemoryWindow;
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
  | { readonly do: 'block'; readonly ms: number; readonly offset: number }
  | { readonly do: 'reject'; readonly count: number }
  | { readonly do: 'send'; readonly id: number; readonly count: number }
  | { readonly do: 'cycle'; readonly id: number }
  | { readonly do: 'add'; readonly offset: number; readonly count: number }
  | { readonly do: 'revoke'; readonly ids: readonly number[]; readonly times: number }
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

const GRANTED = Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC;

function bind({ qps, mr }: Client, window: MemoryWindow, tag: number, start: number, bytes: number): number {
  const rkey = window.keyBase | tag;
  const post = () => qps[0]!.postBindMw(1, SendFlag.SIGNALED, rkey, mr.lkey, start, bytes, GRANTED);
  const status = run(qps[0]!, post, controlCq);
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
  const client = { connection, qps, pd, mr, window };
  clients.set(connection.id, client);
  const rkey = bind(client, window, 1, 0, NODE_BYTES / 2);
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

/** A window that one pair of a client hammers. */
interface Target {
  readonly client: Client;
  readonly qp: QueuePair;
  readonly window: MemoryWindow;
  readonly start: number;
  readonly lanes: BigUint64Array;
  /** What the lanes held when the key ended. */
  readonly left: BigUint64Array;
  tag: number;
}

/** One for each pair of the clients but their first. */
function targetsOf(hammers: readonly Client[]): Target[] {
  const pairs = hammers.flatMap((client) => client.qps.slice(1).map((qp) => ({ client, qp })));
  return pairs.map(({ client, qp }, i) => {
    const start = i * HAMMERED_BYTES;
    const lanes = words.subarray(start / 8, (start + HAMMERED_BYTES) / 8);
    const left = new BigUint64Array(lanes.length);
    return { client, qp, window: client.pd.allocMw(), start, lanes, left, tag: 0 };
  });
}

/**
 * Ends the windows' keys while each is written through, and looks whether anything still changes under them, until so many
 * have ended. A pair is broken by the refusal that follows; its client then waits for the next key. One window after
 * the other, since all that the processes wait for then has to be waited for once a round.
 */
function revoke(hammers: readonly Client[], times: number): number {
  const targets = targetsOf(hammers);
  let violations = 0;
  const look = ({ lanes, left }: Target) => {
    for (let lane = 0; lane < lanes.length; lane++)
      if (Atomics.load(lanes, lane) !== left[lane]) violations++;
  };
  for (let revoked = 0; revoked < times; revoked += targets.length) {
    targets.forEach((target, i) => {
      target.left.set(target.lanes);
      target.tag = (target.tag + 1) & 0xff;
      const rkey = bind(target.client, target.window, target.tag, target.start, HAMMERED_BYTES);
      Atomics.store(words, KEYS_AT / 8 + i, BigInt(rkey));
    });
    for (const { lanes, left } of targets)
      spinUntil(() => Atomics.load(lanes, 0) !== left[0], 'a write through every window');
    for (const target of targets) {
      const control = target.client.qps[0]!;
      const old = target.window.keyBase | target.tag;
      const status = run(control, () => control.postLocalInv(2, SendFlag.SIGNALED, old), controlCq);
      if (status !== 0) throw new Error(`invalidate: ${status}`);
      target.left.set(target.lanes);
      for (let i = 0; i < 3; i++) look(target);
    }
    for (const { qp } of targets) spinUntil(() => qp.state === QpState.ERR, 'a refusal');
    for (const target of targets) {
      look(target);
      for (const state of [QpState.RESET, QpState.INIT, QpState.RTR, QpState.RTS]) target.qp.modify(state);
    }
  }
  return violations;
}

async function answer(command: NodeCommand): Promise<unknown> {
  switch (command.do) {
    case 'block': {
      // At least for so long, until a client has written there.
      await new Promise((resolve) => process.send!({ blocking: true }, resolve));
      const until = performance.now() + command.ms;
      while (performance.now() < until || Atomics.load(words, command.offset / 8) === 0n);
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
      return revoke(
        command.ids.map((id) => clients.get(id)!),
        command.times,
      );
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
