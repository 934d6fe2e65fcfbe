import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { type Kv, type KvError, openRemote } from '../../kv/index.js';
import { Patronus, PatronusNode } from '../../patronus/index.js';

const directory = mkdtempSync(join(tmpdir(), 'patronus-restart-'));
const listen = `unix:${join(directory, 'node.sock')}`;
afterAll(() => rmSync(directory, { recursive: true }));

const start = () => PatronusNode.start({ listen, policy: 'open', allocBytes: 16 * 1024 * 1024 });
const lease = { offset: 0, size: 64, termNs: 1e9 };

test('a client connects again to a node that has started anew, unless it needs what the node held', async () => {
  let node = await start();
  const any = await Patronus.connect({ endpoints: [listen] });
  const same = await Patronus.connect({ endpoints: [listen] });
  same.requireMemory();
  const before = any.nodes[0]!.incarnation;
  await same.relinquish(await same.readLease(lease));
  await node.close();
  node = await start();
  try {
    // The first request may be the one that finds the connection over.
    await any.readLease(lease).catch(() => undefined);
    await any.relinquish(await any.readLease(lease));
    expect(any.nodes[0]!.incarnation).not.toBe(before);
    await same.readLease(lease).catch(() => undefined);
    await expect(same.readLease(lease)).rejects.toMatchObject({
      code: 'ERR_PATRONUS_DISCONNECTED',
      message: expect.stringContaining('started anew'),
    });
  } finally {
    await any.close();
    await same.close();
    await node.close();
  }
});

test("a store opens the table in a new node's memory anew, and does not take it for its own", async () => {
  const bytes = (text: string) => new TextEncoder().encode(text);
  const get = async (kv: Kv) => new TextDecoder().decode(await kv.get(bytes('key')));
  let node = await start();
  const old = await openRemote({ memoryNode: listen });
  await old.put(bytes('key'), bytes('old'));
  await node.close();
  node = await start();
  const fresh = await openRemote({ memoryNode: listen });
  try {
    await fresh.put(bytes('key'), bytes('new'));
    await expect(old.put(bytes('key'), bytes('older'))).rejects.toMatchObject({ code: 'ERR_KV_UNAVAILABLE' });
    for (let seen: string | undefined; seen === undefined; ) {
      seen = await get(old).catch((error: KvError) => {
        expect(error.code).toBe('ERR_KV_UNAVAILABLE');
        return undefined;
      });
      expect([undefined, 'new']).toContain(seen);
    }
    await old.put(bytes('key'), bytes('newer'));
    expect(await get(fresh)).toBe('newer');
  } finally {
    await old.close();
    await fresh.close();
    await node.close();
  }
});
