import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { PatronusNode } from '../../patronus/index.js';

test('signals at a client do not disturb its connecting', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'patronus-'));
  const address = `unix:${join(directory, 'node')}`;
  const node = await PatronusNode.start({ listen: address });
  try {
    const client = fork(fileURLToPath(new URL('./profiled-client.js', import.meta.url)), [address], {
      execArgv: ['--cpu-prof', '--cpu-prof-interval', '100', '--cpu-prof-dir', directory],
    });
    expect(await once(client, 'exit')).toEqual([0, null]);
  } finally {
    await node.close();
    rmSync(directory, { recursive: true });
  }
});
