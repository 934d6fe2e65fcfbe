/** Connects some times to the memory node at an address; forked with a profiler on, whose signals interrupt it. */
import { Patronus } from '../../patronus/index.js';

for (let i = 0; i < 20; i++) {
  await using client = await Patronus.connect({ nodes: [{ nodeId: 0, address: process.argv[2]! }] });
  const lease = await client.writeLease({ offset: 0, size: 64, termNs: 1e9 });
  await lease.write(0, new Uint8Array(8));
}
