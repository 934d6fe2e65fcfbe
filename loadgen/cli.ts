#!/usr/bin/env node
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { DISTRIBUTIONS, type DistributionName } from './distribution.js';
import { HttpStore } from './drivers/http.js';
import { settingsOf } from './options.js';
import { formatProgress, formatResult } from './report.js';
import type { RunResult } from './result.js';
import { runWorkload } from './runner.js';
import type { Store } from './store.js';
import { errorMessage } from './tally.js';
import { WORKLOADS, type WorkloadName } from './workload.js';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const EXIT_INTERRUPTED = 130;

const DEFAULT_URL = 'http://127.0.0.1:8080';
const DEFAULT_HTTP_CONCURRENCY = 32;
const DEFAULT_MEMORY_BYTES = 256 * 2 ** 20;

const EXAMPLES = `
Examples:
  $ patronus-loadgen run --workload a
      half reads, half updates for 10 s against the server on ${DEFAULT_URL}
  $ patronus-loadgen run --workload c --no-load --seconds 60 --rate 20000
      reads only, of records that an earlier run has loaded, 20,000 per second
  $ patronus-loadgen run --workload b --embedded --memory 1GiB --records 1000000
      against a store in this process, without HTTP
  $ patronus-loadgen run --workload a --operations 100000 --json > result.json

Every value read is checked, byte by byte. Progress goes to standard error, the summary to
standard output. Exit status: 0 if all went well, 1 after errors, misses or wrong data,
2 for a wrong command line, 130 if interrupted (Ctrl-C ends a run with its summary so far).`;

interface Flags {
  readonly workload: WorkloadName;
  readonly url?: string;
  readonly embedded?: boolean;
  readonly memory?: number;
  readonly records: number;
  readonly load: boolean;
  readonly operations?: number;
  readonly seconds?: number;
  readonly valueBytes: number;
  readonly concurrency?: number;
  readonly distribution: DistributionName;
  readonly rate?: number;
  readonly seed: number;
  readonly json?: boolean;
}

interface OpenStore extends Store {
  close(): Promise<void>;
}

const program = new Command('patronus-loadgen')
  .description('YCSB-style load generator for patronus-kv')
  .exitOverride()
  .addHelpText('after', EXAMPLES);

program
  .command('run')
  .description('load the records, run a workload, print throughput and latencies')
  .addHelpText('after', EXAMPLES)
  .addOption(
    new Option('-w, --workload <name>', 'a: 50 % reads, 50 % updates; b: 95 %, 5 %; c: reads only')
      .choices(WORKLOADS)
      .makeOptionMandatory(),
  )
  .addOption(new Option('--url <url>', `the server (default: ${DEFAULT_URL})`).argParser(httpUrl))
  .addOption(
    new Option('--embedded', 'a new store in this process instead of a server').conflicts(['url', 'load']),
  )
  .addOption(
    new Option('--memory <size>', 'of the embedded store, such as 512MiB (default: 256MiB)').argParser(bytes),
  )
  .option('--records <n>', 'how many records there are', integer, 100_000)
  .option('--no-load', 'the records are there, from an earlier run with the same --records')
  .addOption(new Option('--operations <n>', 'end after n operations').argParser(integer).conflicts('seconds'))
  .addOption(new Option('--seconds <s>', 'end after s seconds (default: 10)').argParser(positive))
  .option('--value-bytes <n>', 'bytes of a value, at least 16', integer, 100)
  .addOption(
    new Option(
      '--concurrency <n>',
      `operations in flight, one connection each (default: ${DEFAULT_HTTP_CONCURRENCY}; 1 embedded)`,
    ).argParser(integer),
  )
  .addOption(
    new Option('--distribution <name>', 'how records are chosen').choices(DISTRIBUTIONS).default('zipfian'),
  )
  .addOption(
    new Option(
      '--rate <n>',
      'operations per second, on schedule; latency counts from the scheduled start',
    ).argParser(positive),
  )
  .option('--seed <n>', 'of the choice of operations and records', integer, 1)
  .option('--json', 'print the result as JSON')
  .action(async (flags: Flags, command: Command) => {
    if (flags.memory !== undefined && !flags.embedded) command.error("error: --memory needs '--embedded'");
    process.exitCode = await run(flags, command);
  });

async function run(flags: Flags, command: Command): Promise<number> {
  const { url: _url, embedded, memory: _memory, json, ...options } = flags;
  const concurrency = flags.concurrency ?? (embedded ? 1 : DEFAULT_HTTP_CONCURRENCY);
  try {
    settingsOf({ ...options, concurrency });
  } catch (error) {
    command.error(`error: ${errorMessage(error)}`);
  }
  const store = embedded ? await openEmbeddedStore(flags) : await connect(flags, concurrency);
  const interrupt = new AbortController();
  // Once: a second Ctrl-C ends the program at once.
  process.once('SIGINT', () => interrupt.abort());
  try {
    const result = await runWorkload({
      ...options,
      store,
      concurrency,
      signal: interrupt.signal,
      onProgress: (progress) => process.stderr.write(`${formatProgress(progress)}\n`),
    });
    process.stdout.write(`${json ? JSON.stringify(result, null, 2) : formatResult(result)}\n`);
    return exitCode(result);
  } finally {
    await store.close();
  }
}

async function connect(flags: Flags, connections: number): Promise<OpenStore> {
  const url = flags.url ?? DEFAULT_URL;
  const store = new HttpStore(url, { connections });
  try {
    await store.get(Buffer.from('user'));
  } catch (error) {
    await store.close();
    throw new Error(`no store answers at ${url}: ${errorMessage(error)}`, { cause: error });
  }
  return store;
}

async function openEmbeddedStore(flags: Flags): Promise<OpenStore> {
  // Only here: a run over HTTP needs no native addon.
  const { openEmbedded } = await import('../kv/index.js');
  return openEmbedded({ memoryBytes: flags.memory ?? DEFAULT_MEMORY_BYTES });
}

function exitCode(result: RunResult): number {
  if (!result.ok) return EXIT_FAILED;
  return result.interrupted ? EXIT_INTERRUPTED : 0;
}

function integer(text: string): number {
  if (!/^-?\d+$/.test(text)) throw new InvalidArgumentError('Not an integer.');
  return Number(text);
}

function positive(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value <= 0) {
    throw new InvalidArgumentError('Not a positive number.');
  }
  return value;
}

function bytes(text: string): number {
  const match = /^(\d+)(KiB|MiB|GiB)?$/.exec(text);
  if (match === null) throw new InvalidArgumentError('Not a size such as 512MiB.');
  const unit = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 }[match[2] ?? ''] ?? 1;
  return Number(match[1]) * unit;
}

function httpUrl(text: string): string {
  if (!URL.canParse(text) || !/^https?:/.test(text)) {
    throw new InvalidArgumentError('Not a URL that begins with http:// or https://.');
  }
  return text;
}

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
  } else {
    process.stderr.write(`error: ${errorMessage(error)}\n`);
    process.exitCode = EXIT_FAILED;
  }
}
