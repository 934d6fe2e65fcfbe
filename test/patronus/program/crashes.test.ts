import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, expect, test } from 'vitest';
import { type Lease, Patronus, PatronusNode } from '../../../patronus/index.js';
import { random } from '../random.js';
import { stopProcess } from '../stop-process.js';
import { until } from '../until.js';
import { Folder, Program } from './process.js';

const folder = new Folder();
afterAll(() => folder[Symbol.dispose]());

/** Some access or other, again and again, and how each ended. */
async function work(client: Patronus, codes: Set<string>, stopped: () => boolean): Promise<void> {
  let lease: Lease | undefined;
  while (!stopped()) {
    try {
      lease ??= await client.writeLease({ offset: 0, size: 64, termNs: 60e9 });
      await lease.faa(0, 1n);
      codes.add('ok');
    } catch (error) {
      codes.add((error as { code: string }).code);
      lease = undefined;
    }
    await pause(1);
  }
}

test('a memory node that is killed and comes back: errors at once, then work again', async () => {
  const listen = folder.address();
  let node = await Program.memoryNode('--listen', listen);
  const clients = await Promise.all([0, 1, 2, 3].map(() => Patronus.connect({ endpoints: [listen] })));
  // One that does nothing while the node is away.
  const idle = clients[3]!;
  const codes = [0, 1, 2].map(() => new Set<string>());
  let stopped = false;
  const workers: Promise<void>[] = [];
  for (const [i, seen] of codes.entries()) workers.push(work(clients[i]!, seen, () => stopped));
  const old = await idle.writeLease({ offset: 0, size: 8, termNs: 60e9 });
  for (let life = 0; life < 3; life++) {
    await until(() => codes.every((seen) => seen.has('ok')));
    for (const seen of codes) seen.clear();
    node.kill('SIGKILL');
    await node.exited;
    await until(() => codes.every((seen) => seen.has('ERR_PATRONUS_DISCONNECTED')));
    const possible = [
      'ok',
      'ERR_PATRONUS_DISCONNECTED',
      'ERR_PATRONUS_EXECUTION',
      'ERR_PATRONUS_OUTCOME_UNKNOWN',
    ];
    expect(
      [...new Set(codes.flatMap((seen) => [...seen]))].filter((code) => !possible.includes(code)),
    ).toEqual([]);
    for (const seen of codes) seen.clear();
    node = await Program.memoryNode('--listen', listen);
  }
  await until(() => codes.every((seen) => seen.has('ok')));
  stopped = true;
  await Promise.all(workers);
  await expect(old.faa(0, 1n)).rejects.toMatchObject({
    code: expect.stringMatching(/_(?:EXECUTION|OUTCOME_UNKNOWN)$/),
  });
  await expect(old.relinquish()).rejects.toMatchObject({ code: 'ERR_PATRONUS_DISCONNECTED' });
  const lease = await idle.readLease({ offset: 0, size: 8, termNs: 60e9 });
  expect(await lease.read(0, 8)).toBeInstanceOf(Uint8Array);
  await Promise.all(clients.map((client) => client.close()));
  node.kill('SIGTERM');
  expect(await node.exited).toEqual({ code: 0, signal: null });
}, 120_000);

test('clients that are killed at any moment leave nothing behind and disturb nobody', async () => {
  const listen = folder.address();
  await using node = await PatronusNode.start({ listen });
  await using bystander = await Patronus.connect({ endpoints: [listen] });
  const lease = await bystander.writeLease({ offset: 8192, size: 64, termNs: 3600e9 });
  let added = 0n;
  let stopped = false;
  const steady = (async () => {
    for (; !stopped; added++) {
      expect(await lease.faa(0, 1n)).toBe(added);
      await pause(1);
    }
  })();
  const seed = Date.now() % 1e6;
  const next = random(seed);
  const script = join(import.meta.dirname, 'victim.js');
  for (let round = 0; round < 6; round++) {
    const victims = [0, 1].map((i) => new Program(script, [listen, String(seed + 2 * round + i)]));
    // From before it connects to in the middle of its work.
    if (round > 0) await Promise.all(victims.map((victim) => victim.line()));
    await pause(next() * (round > 0 ? 150 : 400));
    for (const victim of victims) victim.kill('SIGKILL');
    for (const victim of victims) expect(await victim.exited).toEqual({ code: null, signal: 'SIGKILL' });
    await until(() => node.stats().connections === 1);
    expect(node.stats(), `seed ${seed}, round ${round}`).toMatchObject({ liveLeases: 1, malformed: 0 });
  }
  stopped = true;
  await steady;
}, 120_000);

test('a memory node that hangs: errors in bounded time, and work again when it goes on', async () => {
  const listen = folder.address();
  await using node = await Program.memoryNode('--listen', listen);
  const connect = () => Patronus.connect({ endpoints: [listen] });
  await using accessing = await connect();
  await using requesting = await connect();
  const request = { offset: 0, size: 8, termNs: 3600e9 };
  const lease = await accessing.writeLease(request);
  await stopProcess(node.child);
  const outcomes = await Promise.allSettled([lease.faa(0, 1n), requesting.writeLease(request)]);
  expect(outcomes).toMatchObject([
    { status: 'rejected', reason: { code: 'ERR_PATRONUS_OUTCOME_UNKNOWN' } },
    { status: 'rejected', reason: { code: 'ERR_PATRONUS_TIMEOUT' } },
  ]);
  expect(lease.live).toBe(false);
  node.kill('SIGCONT');
  for (const client of [accessing, requesting]) {
    expect(await (await client.writeLease(request)).faa(0, 0n)).toBeTypeOf('bigint');
  }
}, 120_000);
