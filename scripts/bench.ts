/** `npm run bench`: the store and the server beside their baselines, in the same run. */
import { parseArgs } from 'node:util';
import { benchHttp } from './bench/http.js';
import { benchKv } from './bench/kv.js';
import { type Comparison, formatComparisons, formatMachine } from './bench/report.js';
import type { BenchSettings } from './bench/runner.js';

const BENCHES: Readonly<Record<string, (settings: BenchSettings) => Promise<Comparison[]>>> = {
  kv: benchKv,
  http: benchHttp,
};
const USAGE = `usage: npm run bench -- [--quick] [${Object.keys(BENCHES).join('] [')}]

Runs the benchmarks named, or all. --quick: runs of 1 s instead of 5 s.`;

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

  const settings = { seconds: quick ? 1 : 5, rounds: 3 };
  process.stdout.write(
    `${formatMachine()}\n${settings.rounds} runs of ${settings.seconds} s each, in turns\n`,
  );
  let code = 0;
  for (const name of names) {
    try {
      const comparisons = await BENCHES[name]!(settings);
      process.stdout.write(`\n${formatComparisons(comparisons)}\n`);
    } catch (error) {
      process.stderr.write(`${name}: ${(error as Error).message}\n`);
      code = 1;
    }
  }
  return code;
}

process.exitCode = await main();
