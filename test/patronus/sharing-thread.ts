/** Random work of one client among others, checked by itself; reports once. */
import { parentPort, workerData } from 'node:worker_threads';
import { AcquireFlag, type Lease, ModifyFlag, type NodeEndpoint, Patronus } from '../../patronus/index.js';
import { random } from './random.js';

const STEPS = 1500;
const LONG_NS = 60e9;
const PIECE = 256;

const { endpoint, id, seed } = workerData as { endpoint: NodeEndpoint; id: number; seed: number };
const next = random(seed * 101 + id);
const wrong: string[] = [];
let added = 0;

async function refused(what: string, access: Promise<unknown>): Promise<void> {
  const code = await access.then(
    () => 'allowed',
    (error) => error.code,
  );
  if (code !== 'ERR_PATRONUS_PROTECTION') wrong.push(`client ${id}: ${what}: ${code}`);
}

{
  await using client = await Patronus.connect({ nodes: [endpoint] });
  /** Pieces that this client allocated, full of its id. */
  const pieces: Lease[] = [];
  for (let step = 0; step < STEPS; step++) {
    const dice = next();
    if (dice < 0.3) {
      await using counter = await client.writeLease({ offset: 0, size: 8, termNs: LONG_NS });
      await counter.faa(0, 1n);
      added++;
    } else if (dice < 0.5 && pieces.length < 20) {
      const flags = AcquireFlag.WithAllocation;
      const piece = await client.writeLease({ size: PIECE, termNs: LONG_NS, flags });
      await piece.write(0, new Uint8Array(PIECE).fill(id));
      pieces.push(piece);
    } else if (dice < 0.7 && pieces.length > 0) {
      const at = Math.floor(next() * pieces.length);
      const bytes = await pieces[at]!.read(0, PIECE);
      if (bytes.some((byte) => byte !== id)) wrong.push(`client ${id}: another's bytes at step ${step}`);
    } else if (dice < 0.9 && pieces.length > 0) {
      const [piece] = pieces.splice(Math.floor(next() * pieces.length), 1);
      await piece!.relinquish(ModifyFlag.WithDeallocation);
    } else {
      await using reader = await client.readLease({ offset: 0, size: 8, termNs: LONG_NS });
      await refused('a write under a read lease', reader.faa(0, 1000n));
      await refused('a read outside', reader.read(8, 8));
    }
  }
  await Promise.all(pieces.map((piece) => piece.relinquish(ModifyFlag.WithDeallocation)));
}
parentPort!.postMessage({ added, wrong });
