/** The long run: `npm run soak:kv -- [SECONDS] [FIRST SEED]`. Each seed is a run of its own on a new table. */
import { PROTECTIONS, run } from './run.js';

const seconds = Number(process.argv[2] ?? 600);
const first = Number(process.argv[3] ?? 1);
if (!(seconds > 0) || !Number.isSafeInteger(first))
  throw new RangeError('usage: soak [SECONDS] [FIRST SEED]');

const RUN_MS = 10_000;
const until = performance.now() + seconds * 1000;
let failed = 0;
let judged = 0;
for (let seed = first; performance.now() < until; seed++) {
  const {
    histories,
    wrong,
    lost,
    operations,
    unknown,
    codes,
    kills,
    pauses,
    subtables,
    collections,
    keptBytes,
  } = await run({
    seed,
    ms: RUN_MS,
    protection: PROTECTIONS[seed % PROTECTIONS.length]!,
  });
  judged += histories.size;
  const counts = `${histories.size} histories, ${operations} operations (${unknown} of unknown outcome)`;
  const memory = `${collections} collections, ${keptBytes / 2 ** 20} MiB`;
  const events = `${kills} kills, ${pauses} pauses, ${subtables} subtables, ${memory}`;
  console.log(`seed ${seed}: ${counts}; ${events}; ${JSON.stringify(codes)}`);
  for (const key of wrong) console.log(`NOT LINEARIZABLE ${key}: ${JSON.stringify(histories.get(key))}`);
  for (const line of lost) console.log(`LOST ${line}`);
  failed += wrong.length + lost.length;
}
console.log(`${judged} histories, ${failed} wrong`);
process.exitCode = failed > 0 ? 1 : 0;
