import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { openDevice, QpState, SendFlag, WcStatus } from '../../native/index.js';
import { emptyCompletion, failureOf, until } from './rig.js';
import type { NodeFacts } from './shm-node.js';
import { Child, NodeProcess, ShmClient, socketDirectory } from './shm-rig.js';

const directory = socketDirectory();
let sockets = 0;
const freshPath = () => join(directory.path, `${++sockets}.sock`);
const children: Child[] = [];
const clients: ShmClient[] = [];

async function startNode(engineThreads = 1, path = freshPath()): Promise<NodeProcess> {
  const node = await NodeProcess.start(path, engineThreads);
  children.push(node);
  return node;
}

async function connected(node: NodeProcess, pairs = 1): Promise<ShmClient> {
  const client = new ShmClient(pairs);
  clients.push(client);
  return client.connect(node);
}

/** `share`: which of the revoked windows are its own; without, it writes where it likes. */
async function startHammer(node: NodeProcess, share?: number): Promise<{ hammer: Child; id: number }> {
  const hammer = new Child('shm-hammer.js', [node.address, ...(share === undefined ? [] : [String(share)])]);
  children.push(hammer);
  await hammer.message('established');
  const facts = await node.message<{ id: number; rkey: number; regionRkey: number }>('connected');
  hammer.process.send({ ...facts });
  await hammer.message('hammering');
  return { hammer, id: facts.id };
}

/** What a node has of others it gives back soon, on a thread of its own. */
async function untilFacts(
  node: NodeProcess,
  expected: Pick<NodeFacts, 'clients' | 'mappings' | 'descriptors'>,
): Promise<void> {
  const { clients, mappings, descriptors } = expected;
  const same = async () => {
    const now = await node.facts();
    return now.mappings === mappings && now.descriptors <= descriptors;
  };
  for (let i = 0; i < 2000 && !(await same()); i++) await new Promise((resolve) => setTimeout(resolve, 5));
  const after = await node.facts();
  expect(after).toMatchObject({ clients, mappings });
  expect(after.descriptors).toBeLessThanOrEqual(descriptors);
}

afterEach(async () => {
  for (const client of clients.splice(0)) client.device.close();
  for (const child of children.splice(0)) await child.kill();
});
afterAll(() => directory.remove());

describe('a connection over shared memory', () => {
  test('reads, writes and adds in the memory of another process', async () => {
    const node = await startNode();
    const client = await connected(node);
    client.words[0] = 0x1234_5678_9abc_def0n;
    expect(await client.write(0, 64)).toBe(WcStatus.SUCCESS);
    expect(await client.read(8, 64)).toBe(WcStatus.SUCCESS);
    expect(client.words[1]).toBe(client.words[0]);
    expect(
      await client.run((flags) => client.qp.postFaa(1, flags, 16, client.mr.lkey, 64, client.rkey, 1, 0)),
    ).toBe(WcStatus.SUCCESS);
    expect(client.words[2]).toBe(client.words[0]);
    expect((await node.facts()).words[8]).toBe(String(client.words[0]! + 1n));
  });

  test('is refused by the listener and can be asked for again with the same pairs', async () => {
    const node = await startNode();
    await node.call({ do: 'reject', count: 1 });
    const client = await connected(node);
    expect(client.connection!.state).toBe('rejected');
    client.connection!.close();
    expect(client.qp.state).toBe(QpState.RESET);
    await client.connect(node);
    expect(await client.write(0, 0)).toBe(WcStatus.SUCCESS);
  });

  test('moves what one request can carry, in slices that leave others their turn', async () => {
    const node = await startNode();
    const client = await connected(node);
    const other = await connected(node);
    const bytes = 1 << 16;
    for (let i = 0; i < 32; i++)
      client.qp.postWrite(i, SendFlag.SIGNALED, 0, client.mr.lkey, bytes, 0, client.rkey);
    client.qp.doorbell();
    expect(await other.read(0, 0)).toBe(WcStatus.SUCCESS);
    for (let i = 0; i < 32; i++)
      expect(await client.completion()).toMatchObject({ wrId: i, status: WcStatus.SUCCESS });
  });

  test('carries messages from the node, whose receipt wakes a sleeping client', async () => {
    const node = await startNode();
    const client = await connected(node);
    const count = 40;
    const got: bigint[] = [];
    const completion = emptyCompletion();
    for (let i = 0; i < count; i++) client.qp.postRecv(i, i * 8, client.mr.lkey, 8);
    client.recvCq.arm();
    client.channel.onSignal(() => {
      do {
        while (client.recvCq.poll(completion)) got.push(client.words[completion.wrId]!);
        client.recvCq.arm();
      } while (client.recvCq.poll(completion) && got.push(client.words[completion.wrId]!));
    });
    expect(await node.call({ do: 'send', id: client.facts!.id, count })).toEqual(
      new Array(count).fill(WcStatus.SUCCESS),
    );
    await until(() => got.length === count, 'all messages');
    expect(got).toEqual(Array.from({ length: count }, (_, i) => BigInt(i)));
    client.channel.onSignal(undefined);
  });

  test('grows: memory that is registered later can be used, what was closed can not', async () => {
    const node = await startNode();
    const client = await connected(node);
    const later = client.device.allocMemory(8192);
    const mr = client.pd.regMr(later, 4096, 4096, 1);
    new BigUint64Array(later.buffer)[512] = 77n;
    const write = () =>
      client.run((flags) => client.qp.postWrite(1, flags, 4096, mr.lkey, 8, 128, client.rkey));
    expect(await write()).toBe(WcStatus.SUCCESS);
    expect((await node.facts()).words[16]).toBe('77');
    const { lkey } = mr;
    mr.close();
    expect(await client.run((flags) => client.qp.postWrite(1, flags, 4096, lkey, 8, 128, client.rkey))).toBe(
      WcStatus.LOC_PROT_ERR,
    );
  });

  test('is reset by both sides after a refused access and goes on', async () => {
    const node = await startNode();
    const client = await connected(node);
    for (let i = 0; i < 50; i++) {
      expect(await client.write(0, 1 << 19)).toBe(WcStatus.REM_ACCESS_ERR);
      expect(client.qp.state).toBe(QpState.ERR);
      expect(await client.write(0, 0)).toBe(WcStatus.WR_FLUSH_ERR);
      client.cycle();
      await node.call({ do: 'cycle', id: client.facts!.id });
      expect(await client.write(0, 0)).toBe(WcStatus.SUCCESS);
    }
  });

  test('ends for good when it guesses keys; refused requests with its own key are no guesses', async () => {
    const node = await startNode();
    const client = await connected(node);
    const { id, rkey } = client.facts!;
    const refused = async (key: number) => {
      const status = await client.run((flags) =>
        client.qp.postWrite(1, flags, 0, client.mr.lkey, 8, 1 << 19, key),
      );
      expect(status).toBe(WcStatus.REM_ACCESS_ERR);
      client.cycle();
      await node.call({ do: 'cycle', id });
    };
    for (let i = 0; i < 500; i++) await refused(rkey ^ (i & 1));
    expect(client.connection!.state).toBe('established');
    let guesses = 0;
    const guess = async () => {
      await refused(0x1234_0000 + guesses * 256);
      guesses++;
    };
    await expect(
      (async () => {
        for (let i = 0; i < 5000; i++) await guess();
      })(),
    ).rejects.toThrow('refused request');
    expect(guesses).toBeGreaterThan(200);
    await until(() => client.connection!.state === 'closed', 'the end');
    const other = await connected(node);
    expect(await other.write(0, 0)).toBe(WcStatus.SUCCESS);
  }, 120_000);

  test('is closed by the node: what is pending is flushed, the channel is signalled', async () => {
    const node = await startNode();
    const client = await connected(node);
    for (let i = 0; i < 5; i++) client.qp.postRecv(i, 0, client.mr.lkey, 8);
    let signals = 0;
    client.channel.onSignal(() => signals++);
    await node.call({ do: 'close', id: client.facts!.id });
    await until(() => client.connection!.state === 'closed' && signals > 0, 'the end');
    client.channel.onSignal(undefined);
    for (let i = 0; i < 5; i++)
      expect(await client.completion(client.recvCq)).toMatchObject({
        wrId: i,
        status: WcStatus.WR_FLUSH_ERR,
      });
    expect(client.qp.state).toBe(QpState.ERR);
    expect(await client.write(0, 0)).toBe(WcStatus.WR_FLUSH_ERR);
  });

  test('leaves nothing in the node', async () => {
    const node = await startNode();
    const warm = await connected(node);
    warm.device.close();
    await node.message('disconnected');
    const before = await node.facts();
    for (let i = 0; i < 50; i++) {
      const client = await connected(node, 3);
      client.device.close();
      await node.message('disconnected');
    }
    await untilFacts(node, { clients: [], mappings: 0, descriptors: before.descriptors });
  });
});

describe('what can not be connected', () => {
  test('nobody listens', () => {
    const client = new ShmClient();
    const connect = (address: string) => () => client.device.connect(address, client.qps, client.channel);
    expect(failureOf(connect(`unix:${freshPath()}`))).toBe('ERR_NATIVE_NO_LISTENER');
    expect(failureOf(connect(`unix:/${'x'.repeat(120)}`))).toBe('RangeError');
    client.device.close();
  });

  test('a device whose memory is its own, or a completion queue that others use', async () => {
    const node = await startNode();
    const own = openDevice('soft0');
    const channel = own.createChannel();
    const cq = own.createCq(16);
    const qp = own.allocPd().createQp({ sendCq: cq, recvCq: cq, maxSendWr: 4, maxRecvWr: 4 });
    expect(failureOf(() => own.connect(node.address, [qp], channel))).toBe('TypeError');
    own.close();
    const client = new ShmClient(2);
    expect(failureOf(() => client.device.connect(node.address, [client.qp], client.channel))).toBe(
      'ERR_NATIVE_BUSY',
    );
    client.device.close();
  });

  test('a listener that is no listener of this kind', async () => {
    const path = freshPath();
    const server = createServer((socket) => socket.end('220 hello'));
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const client = new ShmClient();
    expect(failureOf(() => client.device.connect(`unix:${path}`, client.qps, client.channel))).toBe(
      'ERR_NATIVE_NO_LISTENER',
    );
    client.device.close();
    server.close();
  });

  test('a path at which somebody listens, or at which something else is; a dead socket is replaced', async () => {
    const path = freshPath();
    const node = await startNode(1, path);
    const device = openDevice();
    const channel = device.createChannel();
    const listen = (to: string) => failureOf(() => device.listen(channel, { address: to }));
    expect(listen(`unix:${path}`)).toBe('ERR_NATIVE_BUSY');
    await node.kill();
    expect(listen(`unix:${path}`)).toBeUndefined();
    const file = freshPath();
    writeFileSync(file, 'not a socket');
    expect(listen(`unix:${file}`)).toBe('TypeError');
    expect(listen('tcp:1')).toBe('RangeError');
    expect(
      failureOf(() => device.listen(channel, { address: `unix:${freshPath()}`, engineThreads: 0 })),
    ).toBe('RangeError');
    device.close();
  });
});

describe('no JavaScript of the node is needed', () => {
  test.each([1, 3])(
    'reads and writes go on while its thread is blocked: %i engines',
    async (engines) => {
      const node = await startNode(engines);
      const some = [await connected(node, 2), await connected(node), await connected(node)];
      const unblocked = node.call({ do: 'block', ms: 1000, offset: 512 }, 120_000);
      await node.message('blocking');
      for (let round = 1; round <= 100; round++) {
        for (const client of some) {
          client.words[0] = BigInt(round);
          expect(await client.write(0, 256)).toBe(WcStatus.SUCCESS);
          expect(await client.read(8, 256)).toBe(WcStatus.SUCCESS);
          expect(client.words[1]).toBe(client.words[0]);
        }
      }
      // Only this ends it.
      expect(await some[0]!.write(0, 512)).toBe(WcStatus.SUCCESS);
      await unblocked;
    },
    150_000,
  );
});

describe('atomics', () => {
  test('of different links on the same word', async () => {
    const node = await startNode(2);
    const some = [await connected(node), await connected(node)];
    const count = 20_000;
    const adding = node.call({ do: 'add', offset: 0, count });
    for (let done = 0; done < count; done += 50) {
      for (const { qp, mr, facts } of some) {
        for (let i = 0; i < 50; i++)
          qp.postFaa(1, i === 49 ? SendFlag.SIGNALED : 0, 0, mr.lkey, 0, facts!.rkey, 1, 0);
        qp.doorbell();
      }
      for (const client of some) expect((await client.completion()).status).toBe(WcStatus.SUCCESS);
    }
    await adding;
    expect((await node.facts()).words[0]).toBe(String(3 * count));
  });
});

describe('the end of a permission', () => {
  test('is final, while clients of other processes write', async () => {
    const times = Number(process.env.PATRONUS_REVOCATIONS ?? 10_000);
    const node = await startNode(2);
    const ids = [(await startHammer(node, 0)).id, (await startHammer(node, 1)).id];
    expect(await node.call({ do: 'revoke', ids, times }, 300_000 + 5 * times)).toBe(0);
  }, 3_600_000);
});

describe('death', () => {
  test('of clients at any moment: the node learns of it, nothing else stops, all comes back', async () => {
    const node = await startNode(2);
    const honest = await connected(node);
    const before = await node.facts();
    for (let i = 0; i < 12; i++) {
      const { hammer, id } = await startHammer(node);
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
      const killed = hammer.kill();
      for (let k = 0; k < 20; k++) expect(await honest.write(0, 512)).toBe(WcStatus.SUCCESS);
      await killed;
      expect(await node.message('disconnected')).toBe(id);
    }
    await untilFacts(node, before);
  }, 120_000);

  test('of clients in the middle of the handshake', async () => {
    const node = await startNode();
    const starts = Array.from({ length: 8 }, () => new Child('shm-hammer.js', [node.address]));
    children.push(...starts);
    await Promise.all(
      starts.map(async (child, i) => {
        await new Promise((resolve) => setTimeout(resolve, 40 + 10 * i));
        await child.kill();
      }),
    );
    const honest = await connected(node).catch(() => undefined);
    await until(() => node.process.exitCode === null, 'the node');
    expect(honest).toBeDefined();
    expect(await honest!.write(0, 0)).toBe(WcStatus.SUCCESS);
  });

  test('of the node: everything pending of every client completes with an error, and a new node can be reached', async () => {
    for (let round = 0; round < 6; round++) {
      const path = freshPath();
      const node = await startNode(2, path);
      const some = [await connected(node, 2), await connected(node), await connected(node)];
      const posted = some.map(() => 0);
      const settled = some.map(() => 0);
      const completion = emptyCompletion();
      let failures = 0;
      let killed: Promise<void> | undefined;
      const began = performance.now();
      const post = (client: ShmClient, at: number) => {
        for (let i = 0; i < 4; i++)
          if (client.qp.postWrite(i, SendFlag.SIGNALED, 0, client.mr.lkey, 4096, 0, client.rkey))
            posted[at]!++;
        client.qp.doorbell();
      };
      for (const client of some) for (let i = 0; i < 8; i++) client.qp.postRecv(i, 0, client.mr.lkey, 8);
      while (failures < 30) {
        some.forEach(post);
        if (killed === undefined && performance.now() - began > 20 + 10 * round) killed = node.kill();
        await new Promise((resolve) => setImmediate(resolve));
        some.forEach((client, at) => {
          while (client.sendCq.poll(completion)) {
            settled[at]!++;
            if (completion.status !== WcStatus.SUCCESS) failures++;
          }
        });
        if (performance.now() - began > 8000) throw new Error('requests hang');
      }
      await killed;
      const receives = some.map(() => 0);
      await until(() => {
        some.forEach((client, at) => {
          while (client.sendCq.poll(completion)) settled[at]!++;
          while (client.recvCq.poll(completion)) receives[at]!++;
        });
        return settled.join() === posted.join() && receives.every((count) => count === 8);
      }, `completions: ${settled.join()} of ${posted.join()}, ${receives.join()} receives`);
      for (const client of some) expect(client.connection!.state).toBe('closed');
      const next = await startNode(1, path);
      const client = await connected(next);
      expect(await client.write(0, 0)).toBe(WcStatus.SUCCESS);
    }
  }, 120_000);
});

describe('waiting', () => {
  test('costs next to nothing', async () => {
    const node = await startNode(2);
    const client = await connected(node, 3);
    client.channel.onSignal(() => {});
    expect(await client.write(0, 0)).toBe(WcStatus.SUCCESS);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const before = await node.facts();
    const idleMs = 2000;
    await new Promise((resolve) => setTimeout(resolve, idleMs));
    const used = (await node.facts()).cpuMs - before.cpuMs;
    client.channel.onSignal(undefined);
    expect(used).toBeLessThan(idleMs / 100);
    expect(await client.write(0, 0)).toBe(WcStatus.SUCCESS);
  });

  test('loses no wake-up, whenever the work comes', async () => {
    const node = await startNode();
    const client = await connected(node);
    for (let i = 0; i < 3000; i++) {
      expect(await client.write(0, 0)).toBe(WcStatus.SUCCESS);
      // Around the time after which the engine falls asleep.
      const until = performance.now() + 0.03 + Math.random() * 0.05;
      while (performance.now() < until);
    }
  }, 120_000);
});
