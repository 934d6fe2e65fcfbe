// A memory node, a client, and a lease: what it allows, and what it does not.
import { AcquireFlag, Patronus, PatronusNode } from 'patronus-kv/patronus';

const node = await PatronusNode.start({ allocBytes: 1024 * 1024 });
const client = await Patronus.connect({ nodes: [node.endpoint] });

// 256 bytes of the node's memory, to read and write, for a tenth of a second.
const request = { size: 256, termNs: 100e6, flags: AcquireFlag.WithAllocation };
const lease = await client.writeLease(request);
await lease.write(0, new TextEncoder().encode('hello, lease'));
console.log(new TextDecoder().decode(await lease.read(0, 12)));

// One-sided atomics: the old value comes back.
console.log('counted', await lease.faa(64, 1n), await lease.faa(64, 1n), await lease.faa(64, 1n));

// The NIC refuses what lies outside.
await lease.read(256, 1).catch((error) => console.log('outside:', error.code));

// An extension takes no thread of the memory node. Then the term ends by itself.
await lease.extend(100e6);
while (lease.live) await new Promise((resolve) => setTimeout(resolve, 10));
await lease.read(0, 12).catch((error) => console.log('after its term:', error.code));

await client.close();
await node.close();
