/** `npm run bench:verbs`: the operations of the verbs layer over each link, beside memcpy and an empty native call. */
import { parseArgs } from 'node:util';
import { formatMachine } from './bench/report.js';
import { benchVerbs } from './bench/verbs.js';
import { LINKS } from './bench/verbs-links.js';

const USAGE = `usage: npm run bench:verbs -- [--quick] [${LINKS.map(({ name }) => `'${name}'`).join('] [')}]

Measures the links named, or all, with 1 and 2 clients, in batches of 1 to 64. --quick: shorter runs.`;

async function main(): Promise<number> {
  let quick: boolean;
  let names: string[];
  try {
    const { values, positionals } = parseArgs({
      options: { quick: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
      allowPositionals: true,
    });
    const unknown = positionals.find((name) => !LINKS.some((link) => link.name === name));
    if (unknown !== undefined) throw new TypeError(`no link is called ${unknown}`);
    if (values.help) {
      process.stdout.write(`${USAGE}\n`);
      return 0;
    }
    quick = values.quick;
    names = positionals.length > 0 ? positionals : LINKS.map(({ name }) => name);
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n${USAGE}\n`);
    return 2;
  }
  const ms = quick ? 10 : 100;
  const rounds = quick ? 3 : 5;
  process.stdout.write(`${formatMachine()}\nmedians of ${rounds} runs of ${ms} ms each, in turns\n`);
  for (const link of LINKS.filter(({ name }) => names.includes(name))) {
    for (const clients of [1, 2]) {
      process.stdout.write(`\n${await benchVerbs(link, { clients, ms, rounds })}\n`);
    }
  }
  return 0;
}

process.exitCode = await main();
