#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { PatronusError } from './index.js';
import { RunningNode, readable } from './program/memory-node.js';
import { type Settings, SettingsError, settingsOf } from './program/settings.js';

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;
/** If closing takes longer than this, something hangs. */
const STOP_TIMEOUT_MS = 15_000;

function packageVersion(): string {
  // From dist/patronus/ up.
  const manifest = readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

function fail(message: string, exitCode = EXIT_FAILURE): never {
  process.stderr.write(`patronus: ${message}\n`);
  process.exit(exitCode);
}

function program(): Command {
  const patronus = new Command('patronus')
    .description('Leases and protected one-sided access to remote memory.')
    .version(packageVersion(), '-V, --version', 'show the version')
    .helpOption('-h, --help', 'show this help')
    .helpCommand(false)
    .exitOverride();
  patronus
    .command('memory-node')
    .description('Runs a memory node: memory that clients of other processes lease and access.')
    .option(
      '-l, --listen <address>',
      'where clients connect: unix:PATH, a socket that is made there, or ib:HOST:PORT over RDMA',
    )
    .option('--node-id <number>', 'its id, 0 to 65535, with memcached to 255; default 0')
    .option('-m, --memory <size>', 'memory to allocate from, such as 64MiB or 2GiB; default 256MiB')
    .option('--lease-memory <size>', 'memory at fixed addresses from 0, beside that; default 64KiB')
    .option('--max-clients <number>', 'connections at once; default 64')
    .option('--max-leases <number>', 'leases at once, of each directory; default 65536')
    .option('--directories <number>', 'threads that grant leases, each with a part of the memory; default 1')
    .option(
      '--engine-threads <number>',
      'threads that execute one-sided operations, of each directory; default 1',
    )
    .option('--policy <name>', 'who may lease allocated memory: its owner, or open to all; default owner')
    .option('--device <name>', 'the RDMA device for ib:HOST:PORT, such as ib:mlx5_0; default: the first')
    .option(
      '--allow-unbounded-windows',
      'serve over a device that does not hold accesses to the bounds of memory windows: no protection',
    )
    .option('--huge-pages <size>', 'memory in huge pages of 2MiB or 1GiB from the pool of the system')
    .option('--numa-node <number>', 'memory of this NUMA node only')
    .option('--memcached <host:port>', 'where the cluster keeps its members; default: the node joins none')
    .option('--cluster <name>', 'the cluster to join there; default patronus')
    .option('--expiry-seconds <number>', 'after its death the node is a member for so long; default 6')
    .option('-c, --config <file>', 'JSON object of these settings, in camel case; flags win')
    .option('--json', 'report the start as one line of JSON')
    .helpOption('-h, --help', 'show this help')
    .allowExcessArguments(false)
    .addHelpText(
      'after',
      `
Examples:
  $ patronus memory-node --listen unix:/run/user/1000/patronus.sock
  $ patronus memory-node --listen unix:node-1.sock --node-id 1 --memory 4GiB --memcached 127.0.0.1:11211
  $ patronus memory-node --config node.json       # {"listen": "unix:node.sock", "memory": "1GiB"}

At unix:PATH only processes of the same user can connect. SIGINT (Ctrl-C) or SIGTERM stops it, a second one at once. Exit codes: 0 stopped,
1 could not start or failed, 2 wrong usage.`,
    )
    .action(run);
  return patronus;
}

interface Flags extends Record<string, unknown> {
  readonly config?: string;
  readonly json?: boolean;
}

async function run(flags: Flags): Promise<void> {
  let settings: Settings;
  try {
    settings = settingsOf(flags, flags.config);
  } catch (error) {
    if (error instanceof SettingsError) fail(error.message, EXIT_USAGE);
    throw error;
  }
  const running = await RunningNode.start(settings, packageVersion()).catch((error: unknown) => {
    // What a setting asks for together with another one, such as a large id with memcached.
    if (error instanceof RangeError) fail(error.message, EXIT_USAGE);
    fail(error instanceof PatronusError ? error.message : `it could not start: ${String(error)}`);
  });
  // A memory node does not keep its process alive.
  const alive = setInterval(() => {}, 2 ** 30);
  running.ended.catch((error: unknown) => fail(`the memory node failed: ${String(error)}`));
  stopOnSignals(running, alive);
  const { report } = running;
  process.stdout.write(flags.json === true ? `${JSON.stringify(report)}\n` : readable(report));
}

/** SIGINT and SIGTERM close the node, a second one ends the process at once. */
function stopOnSignals(running: RunningNode, alive: NodeJS.Timeout): void {
  let stopping = false;
  const stop = (signal: NodeJS.Signals, number: number): void => {
    if (stopping) process.exit(128 + number);
    stopping = true;
    process.stderr.write(`${signal}: stopping\n`);
    const late = `the memory node did not stop within ${STOP_TIMEOUT_MS / 1000} s`;
    setTimeout(() => fail(late), STOP_TIMEOUT_MS).unref();
    clearInterval(alive);
    // Then nothing keeps the process alive.
    running
      .close()
      .catch((error: unknown) => fail(`the memory node stopped with an error: ${String(error)}`));
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
}

try {
  await program().parseAsync();
} catch (error) {
  // Commander has printed its message, or the help or version that was asked for.
  if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : EXIT_USAGE);
  throw error;
}
