/**
 * A client that counts: `node counting-process.js PLAN`. It adds to some counters, many additions at a time, and makes the table
 * grow meanwhile; it says what it was told that the counters are, and ends.
 */
import { openTable } from '../../../kv/index.js';
import { Patronus } from '../../../patronus/index.js';
import { bytesOf } from '../random.js';

/** What a counting process is told. */
export interface CountingPlan {
  readonly address: string;
  readonly name: string;
  readonly counters: number;
  readonly additions: number;
}

const AT_A_TIME = 8;

const { address, name, counters, additions } = JSON.parse(process.argv[2]!) as CountingPlan;
const client = await Patronus.connect({ nodes: [{ nodeId: 0, address }] });
const kv = await openTable(client);
/** By counter; decimal digits. */
const told: string[][] = Array.from({ length: counters }, () => []);
process.send!('ready');
await new Promise((resolve) => process.once('message', resolve));
for (let i = 0; i < additions; i += AT_A_TIME) {
  const counts = Array.from({ length: AT_A_TIME }, async (_, j) => {
    const counter = (i + j) % counters;
    told[counter]!.push(String(await kv.incr(bytesOf(`counter ${counter}`))));
  });
  await Promise.all([...counts, kv.put(bytesOf(`${name}, ${i}`), bytesOf('x'))]);
}
const { splits } = kv.stats();
await kv.close();
await client.close();
process.send!({ told, splits }, () => process.exit());
