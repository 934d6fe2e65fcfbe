import type { TableContext } from '../../kv/context.js';
import { PieceState, pointerOf, SB_ORPHANS_OFFSET, UNIT_BYTES } from '../../kv/layout.js';
import { Pieces, registryBytes } from '../../kv/pieces.js';
import { Reachable } from '../../kv/reachable.js';
import { Words } from '../../kv/words.js';

export interface Accounts {
  /** Bytes that the table has from its node. */
  readonly keptBytes: number;
  /** Units of them that the index does not lead to and that are not free for others. */
  readonly lostUnits: number;
  /** Units that are in use and free, or free twice. */
  readonly doubleUnits: number;
}

/** Adds up a table's memory. While other clients have the table open, what they have free is counted as lost. */
export async function accountsOf(context: TableContext): Promise<Accounts> {
  const { client, keeper, superblock } = context;
  const node = client.nodes[0]!;
  const { allocOffset, allocBytes } = node;
  const uses = new Uint8Array(Math.ceil(allocBytes / UNIT_BYTES));
  const unitOf = (offset: number) => (offset - allocOffset) / UNIT_BYTES;
  const lead = (offset: number, units: number) => uses.fill(1, unitOf(offset), unitOf(offset) + units);
  lead(superblock.pieces, Math.ceil(registryBytes(allocBytes) / UNIT_BYTES));
  await new Reachable(context, async () => {}, lead).run();

  let doubleUnits = 0;
  const free = (offset: number, units: number) => {
    for (let unit = unitOf(offset); unit < unitOf(offset) + units; unit++)
      if (uses[unit]!++ > 0) doubleUnits++;
  };
  const [headLo, headHi] = await new Words(keeper, SB_ORPHANS_OFFSET, UNIT_BYTES).read(0, 8);
  const lists = new Words(keeper, allocOffset, allocBytes);
  for (let list = pointerOf(headLo!, headHi!), passed = 0; list !== 0; passed++) {
    if (passed > uses.length) throw new Error('the lists have no end');
    const at = list - allocOffset;
    const [nextLo, nextHi, count, units] = await lists.read(at, 16);
    free(list, units!);
    for (let i = 1; i <= count!; i++) {
      const [lo, hi, size] = await lists.read(at + 16 * i, 16);
      free(pointerOf(lo!, hi!), size!);
    }
    list = pointerOf(nextLo!, nextHi!);
  }

  let keptBytes = 0;
  let lostUnits = 0;
  for (const { offset, bytes, state } of await new Pieces(keeper, node, superblock.pieces).read()) {
    if (state !== PieceState.Kept) continue;
    keptBytes += bytes;
    for (let unit = unitOf(offset); unit < unitOf(offset + bytes); unit++) if (uses[unit] === 0) lostUnits++;
  }
  return { keptBytes, lostUnits, doubleUnits };
}

/** Collects, as soon as whoever died while it did has lost the lock. */
export async function collect({ collector, pacing }: TableContext): Promise<void> {
  for (let attempt = 0; !(await collector.collect()); attempt++) {
    if (attempt === 50) throw new Error('nothing could be collected');
    await pacing.sleep(20);
  }
}
