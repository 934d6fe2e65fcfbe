import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, describe, expect, test } from 'vitest';
import { AcquireFlag, memcachedKeeper, Patronus } from '../../../patronus/index.js';
import { SettingsError, settingsOf } from '../../../patronus/program/settings.js';
import { Memcached } from '../keeper/memcached.js';
import { Folder, Program } from './process.js';

const folder = new Folder();
afterAll(() => folder[Symbol.dispose]());

async function run(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  await using program = Program.patronus(...args);
  const { code } = await program.exited;
  return { code, stdout: program.stdout, stderr: program.stderr };
}

function file(content: string): string {
  const path = join(folder.path, `${Math.random()}.json`);
  writeFileSync(path, content);
  return path;
}

describe('usage', () => {
  test('--help shows every option, with its default, and examples', async () => {
    const { code, stdout, stderr } = await run('memory-node', '--help');
    expect([code, stderr]).toEqual([0, '']);
    const words = [
      '--listen',
      '--node-id',
      '--memory',
      '256MiB',
      '--lease-memory',
      '64KiB',
      '--max-clients',
      '64',
    ];
    words.push(
      '--max-leases',
      '--engine-threads',
      '--device',
      '--allow-unbounded-windows',
      '--huge-pages',
      '--numa-node',
      '--directories',
      '--memcached',
      '--cluster',
      '--expiry-seconds',
      '--config',
    );
    for (const word of [
      ...words,
      '--policy',
      '--json',
      'Examples:',
      '$ patronus memory-node',
      'SIGTERM',
      'Exit codes',
    ]) {
      expect(stdout).toContain(word);
    }
    expect((await run('--help')).stdout).toContain('memory-node');
    expect((await run('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  test.each([
    [[], /Usage: patronus/],
    [['memory'], /unknown command/],
    [['memory-node', '--bogus'], /unknown option/],
    [['memory-node', 'more', '--listen', 'unix:x'], /too many arguments/],
    [['memory-node', '--listen', 'tcp:x'], /--listen must be unix:PATH/],
    [['memory-node', '--config', 'nowhere.json'], /nowhere\.json can't be read as JSON: ENOENT/],
    [
      ['memory-node', '--listen', 'unix:x', '--node-id', '256', '--memcached', '127.0.0.1:1'],
      /nodeId must be .* 255/,
    ],
  ])('%j is wrong: exit code 2', async (args, message) => {
    const { code, stdout, stderr } = await run(...args);
    expect(code).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toMatch(message);
  });

  test.each([
    [{}, /^--listen is needed/],
    [{ listen: `unix:${'x'.repeat(108)}` }, /^--listen must be unix:PATH/],
    [{ nodeId: '65536' }, /^--node-id must be an integer from 0 to 65535, not "65536"/],
    [{ nodeId: '1x' }, /^--node-id must be an integer/],
    [{ memory: 'lots' }, /^--memory must be a size/],
    [{ memory: '1KiB' }, /^--memory must be a size from 65536 bytes/],
    [{ memory: '1025GiB' }, /^--memory must be a size/],
    [{ leaseMemory: '0.3' }, /^--lease-memory must be a size/],
    [{ maxClients: '0' }, /^--max-clients must be an integer from 1/],
    [{ directories: '17' }, /^--directories must be an integer from 1 to 16/],
    [{ memcached: 'localhost' }, /^--memcached must be HOST:PORT/],
    [{ cluster: 'a b' }, /^--cluster must be 1 to 64 letters/],
    [{ policy: 'mine' }, /^--policy must be open or owner/],
    [{ expirySeconds: '1' }, /^--expiry-seconds must be/],
    [{ device: 'mlx5_0' }, /^--device must be ib:NAME/],
    [{ hugePages: '4MiB' }, /^--huge-pages must be 2MiB or 1GiB/],
    [{ numaNode: '1024' }, /^--numa-node must be an integer from 0 to 1023/],
  ])('flags %j are wrong', (flags, message) => {
    expect(() => settingsOf(flags, undefined)).toThrow(message);
    expect(() => settingsOf(flags, undefined)).toThrow(SettingsError);
  });

  test.each([
    ['{', /can't be read as JSON/],
    ['[]', /must hold a JSON object/],
    ['null', /must hold a JSON object/],
    ['{"listen": "unix:x", "colour": 1}', /there is no setting colour/],
    ['{"listen": "unix:x", "__proto__": 1}', /there is no setting __proto__/],
    ['{"listen": 5}', /listen must be unix:PATH.*, not 5/],
    ['{"listen": "unix:x", "allowUnboundedWindows": "yes"}', /allowUnboundedWindows must be true or false/],
    ['{"listen": "unix:x", "nodeId": 1.5}', /nodeId must be an integer/],
    ['{"listen": "unix:x", "memory": null}', /memory must be a size/],
    ['{"nodeId": 1}', /--listen is needed/],
  ])('a configuration file with %s is wrong', (content, message) => {
    expect(() => settingsOf({}, file(content))).toThrow(message);
  });
});

describe('a memory node', () => {
  test('says what it is and serves', async () => {
    const listen = folder.address();
    await using node = await Program.memoryNode('--listen', listen, '--node-id', '300', '--memory', '1.5MiB');
    expect(node.report).toMatchObject({
      pid: node.child.pid,
      nodeId: 300,
      address: listen,
      memoryBytes: 1.5 * 2 ** 20,
      leaseMemoryBytes: 65_536,
      maxClients: 64,
      maxLeases: 65_536,
      directories: 1,
      policy: 'owner',
      memcached: null,
      cluster: null,
    });
    await using client = await Patronus.connect({ endpoints: [listen] });
    expect(client.nodes).toMatchObject([{ nodeId: 300, leaseBytes: 65_536, allocBytes: 1.5 * 2 ** 20 }]);
    const lease = await client.writeLease({ size: 64, termNs: 60e9, flags: AcquireFlag.WithAllocation });
    await lease.write(0, Uint8Array.of(1, 2, 3));
    expect(await lease.read(0, 3)).toEqual(Uint8Array.of(1, 2, 3));
  });

  test('takes its settings from a file, flags first', async () => {
    const listen = folder.address();
    const config = file(
      JSON.stringify({
        listen,
        nodeId: 4,
        memory: '1MiB',
        maxClients: '2',
        leaseMemory: 128,
        directories: 2,
      }),
    );
    await using node = await Program.memoryNode('--config', config, '--node-id', '5');
    const expected = {
      nodeId: 5,
      memoryBytes: 2 ** 20,
      maxClients: 2,
      leaseMemoryBytes: 128,
      directories: 2,
      address: listen,
    };
    expect(node.report).toMatchObject(expected);
  });

  test('reports in words unless told otherwise', async () => {
    const listen = folder.address();
    await using node = Program.patronus('memory-node', '--listen', listen, '--memory', '1GiB');
    await node.line();
    expect(node.stdout).toContain(`memory node 0 of patronus`);
    expect(node.stdout).toContain(`listens at ${listen}\n`);
    expect(node.stdout).toContain('1 GiB to allocate and 64 KiB');
  });

  test('an address that is taken, a folder that is not there: exit code 1', async () => {
    const listen = folder.address();
    await using _node = await Program.memoryNode('--listen', listen);
    const second = await run('memory-node', '--listen', listen);
    expect(second).toMatchObject({ code: 1, stdout: '' });
    expect(second.stderr).toMatch(/^patronus: the memory node could not start at unix:.*somebody listens/);
    const nowhere = await run('memory-node', '--listen', `unix:${folder.path}/nowhere/x.sock`);
    expect(nowhere).toMatchObject({ code: 1, stdout: '' });
    expect(nowhere.stderr).toMatch(/No such file or directory/);
  });

  test.each(['SIGTERM', 'SIGINT'] as const)('%s stops it: exit code 0, clients are told', async (signal) => {
    const listen = folder.address();
    await using node = await Program.memoryNode('--listen', listen);
    await using client = await Patronus.connect({ endpoints: [listen] });
    const lease = await client.writeLease({ offset: 0, size: 8, termNs: 60e9 });
    node.kill(signal);
    expect(await node.exited).toEqual({ code: 0, signal: null });
    expect(node.stderr).toBe(`${signal}: stopping\n`);
    await expect(lease.read(0, 8)).rejects.toMatchObject({
      code: expect.stringMatching(/_(?:EXECUTION|OUTCOME_UNKNOWN)$/),
    });
    await expect(client.readLease({ offset: 0, size: 8, termNs: 1e9 })).rejects.toMatchObject({
      code: 'ERR_PATRONUS_DISCONNECTED',
    });
    expect(existsSync(listen.slice('unix:'.length))).toBe(false);
  });
});

describe('a cluster at memcached', () => {
  test('its nodes are found, and gone after they stop or die', async () => {
    await using memcached = await Memcached.start();
    // So long that a busy machine does not keep a living node from saying so.
    const shared = ['--memcached', memcached.address, '--expiry-seconds', '6', '--cluster', 'c'];
    const wide = [...shared, '--directories', '3', '--memory', '192KiB'];
    const options = { cluster: 'c', expirySeconds: 6 };
    await using one = await Program.memoryNode('--listen', folder.address(), '--node-id', '1', ...shared);
    await using two = await Program.memoryNode('--listen', folder.address(), '--node-id', '2', ...wide);
    expect(one.report).toMatchObject({ memcached: memcached.address, cluster: 'c' });
    const taken = await run('memory-node', '--listen', folder.address(), '--node-id', '2', ...shared);
    expect(taken).toMatchObject({ code: 1 });
    expect(taken.stderr).toMatch(/node 2 is there already/);

    await using keeper = memcachedKeeper(memcached.address, options);
    await using client = await Patronus.connect({ keeper });
    expect(client.nodes.map(({ nodeId }) => nodeId)).toEqual([1, 2]);
    for (const nodeId of [1, 2]) await client.writeLease({ nodeId, offset: 0, size: 8, termNs: 60e9 });
    // One entry stands for all directories of the node; each has a third of its memory.
    for (let i = 0; i < 3; i++) {
      const flags = AcquireFlag.WithAllocation;
      const lease = await client.writeLease({ nodeId: 2, size: 65_536, termNs: 60e9, flags });
      expect(await lease.faa(0, 1n)).toBe(0n);
    }

    one.kill('SIGTERM');
    await one.exited;
    expect((await keeper.members('node')).map(({ number }) => number)).toEqual([2]);
    two.kill('SIGKILL');
    await two.exited;
    while ((await keeper.members('node')).length > 0) await pause(50);

    // Back, elsewhere: the client asks the keeper where.
    await expect(client.readLease({ nodeId: 2, offset: 0, size: 8, termNs: 1e9 })).rejects.toMatchObject({
      code: 'ERR_PATRONUS_DISCONNECTED',
    });
    await using _again = await Program.memoryNode('--listen', folder.address(), '--node-id', '2', ...wide);
    const lease = await client.readLease({ nodeId: 2, offset: 0, size: 8, termNs: 60e9 });
    expect(await lease.read(0, 8)).toEqual(new Uint8Array(8));
  }, 120_000);

  test('that is not there: exit code 1', async () => {
    const { code, stderr } = await run(
      'memory-node',
      '--listen',
      folder.address(),
      '--memcached',
      '127.0.0.1:1',
    );
    expect(code).toBe(1);
    expect(stderr).toMatch(/^patronus: memcached at 127\.0\.0\.1:1 can't be used: .*ECONNREFUSED/);
  });
});
