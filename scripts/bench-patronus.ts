/** `npm run bench:patronus`: leases, their ends, and accesses under them, each beside its baseline in the same run. */
import { parseArgs } from 'node:util';
import { benchAccesses } from './bench/patronus/accesses.js';
import { benchCpu, benchDepths, benchKinds } from './bench/patronus/acquire.js';
import { benchDirectory } from './bench/patronus/directory.js';
import { benchLateness } from './bench/patronus/lateness.js';
import { benchRecovery } from './bench/patronus/recovery.js';
import { type Comparison, formatComparisons, formatMachine } from './bench/report.js';
import type { BenchSettings } from './bench/runner.js';

type Result = string | Comparison | Comparison[];
const BENCHES: Readonly<Record<string, readonly ((settings: BenchSettings) => Promise<Result>)[]>> = {
  directory: [benchDirectory],
  acquire: [benchCpu, benchDepths, benchKinds],
  accesses: [benchAccesses],
  recovery: [benchRecovery],
  lateness: [benchLateness],
};
const USAGE = `usage: npm run bench:patronus -- [--quick] [${Object.keys(BENCHES).join('] [')}]

Runs the benchmarks named, or all. --quick: fewer runs.`;

async function main(): Promise<number> {
  let quick: boolean;
  let names: string[];
  try {
    const { values, positionals } = parseArgs({
      options: { quick: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
      allowPositionals: true,
    });
    const unknown = positionals.find((name) => !Object.hasOwn(BENCHES, name));
    if (unknown !== undefined) throw new TypeError(`no benchmark is called ${unknown}`);
    if (values.help) {
      process.stdout.write(`${USAGE}\n`);
      return 0;
    }
    quick = values.quick;
    names = positionals.length > 0 ? positionals : Object.keys(BENCHES);
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n${USAGE}\n`);
    return 2;
  }
  // Short and many: who else uses the machine then meets all contenders alike.
  const settings = { seconds: 0.1, rounds: quick ? 3 : 15 };
  process.stdout.write(
    `${formatMachine()}\n${settings.rounds} runs of ${settings.seconds} s each, in turns\n`,
  );
  for (const bench of names.flatMap((name) => BENCHES[name]!)) {
    const result = await bench(settings);
    const text = typeof result === 'string' ? result : formatComparisons([result].flat());
    process.stdout.write(`\n${text}\n`);
  }
  return 0;
}

process.exitCode = await main();
