// A lock that survives the crash of its holder. The holder is a process of its own; it is killed while it has the lock.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AcquireFlag, AcquireStatus, Patronus, PatronusNode } from 'patronus-kv/patronus';

/** The lock is the lease: whoever has it can write the 64 bytes that it protects, and nobody else gets it meanwhile. */
const lock = { offset: 0, size: 64, termNs: 300e6, flags: AcquireFlag.WithConflictDetect };

async function hold(address) {
  const client = await Patronus.connect({ endpoints: [address] });
  const lease = await client.writeLease(lock);
  await lease.faa(0, 1n);
  process.send('locked');
  // Goes on for as long as it lives.
  for (;;) {
    await lease.extend(100e6);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function watch() {
  const folder = mkdtempSync(join(tmpdir(), 'patronus-lock-'));
  const address = `unix:${join(folder, 'node.sock')}`;
  const node = await PatronusNode.start({ listen: address });
  const client = await Patronus.connect({ endpoints: [address] });

  const holder = fork(import.meta.filename, [address]);
  await once(holder, 'message');
  const { status } = await client.getWlease(lock);
  console.log('while it is held:', status === AcquireStatus.LockedErr ? 'locked' : status);

  holder.kill('SIGKILL');
  await once(holder, 'exit');
  for (;;) {
    const { lease } = await client.getWlease(lock);
    if (lease === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      continue;
    }
    console.log('after the crash of its holder: acquired; counted', await lease.faa(0, 1n));
    await lease.relinquish();
    break;
  }
  await client.close();
  await node.close();
  rmSync(folder, { recursive: true });
}

await (process.argv[2] === undefined ? watch() : hold(process.argv[2]));
