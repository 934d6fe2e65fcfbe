/** A client that works until it is killed: leases with and without memory, accesses, extensions of what it holds. */
import { AcquireFlag, type Lease, ModifyFlag, Patronus } from '../../../patronus/index.js';
import { random } from '../random.js';

const [address, seed] = process.argv.slice(2) as [string, string];
const next = random(Number(seed));
const client = await Patronus.connect({ endpoints: [address] });
process.stdout.write('ready\n');
const held: Lease[] = [];
for (;;) {
  const dice = next();
  if (dice < 0.4 && held.length < 50) {
    const flags = AcquireFlag.WithAllocation | (dice < 0.1 ? AcquireFlag.NoGc : 0);
    held.push(await client.writeLease({ size: 64 + Math.floor(next() * 4096), termNs: 3600e9, flags }));
  } else if (dice < 0.6 && held.length < 50) {
    held.push(await client.readLease({ offset: 0, size: 4096, termNs: 3600e9 }));
  } else if (dice < 0.9 && held.length > 0) {
    const lease = held[Math.floor(next() * held.length)]!;
    if (lease.writable) await lease.faa(0, 1n);
    else await lease.read(0, 64);
  } else if (held.length > 0) {
    const [lease] = held.splice(Math.floor(next() * held.length), 1);
    await lease!.relinquish(lease!.writable ? ModifyFlag.WithDeallocation : 0);
  }
}
