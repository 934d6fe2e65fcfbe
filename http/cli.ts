#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { type Kv, openEmbedded, openRemote } from '../kv/index.js';
import { type Server, startServer } from './server.js';
import { formatSize, parseSize } from './size.js';

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;
/** More than a server's grace time: if closing takes longer than this, something hangs. */
const STOP_TIMEOUT_MS = 20_000;
const LEAST_MEMORY_BYTES = 4 * 2 ** 20;

interface CliOptions {
  readonly port: number;
  readonly host: string;
  readonly memory: number;
  readonly memoryNode?: readonly string[];
  readonly memcached?: string;
  readonly cluster?: string;
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535)
    throw new InvalidArgumentError('A port is a number from 0 to 65535.');
  return port;
}

function parseMemory(text: string): number {
  let bytes: number;
  try {
    bytes = parseSize(text);
  } catch (error) {
    throw new InvalidArgumentError(`It can't be read: ${(error as RangeError).message}.`);
  }
  if (bytes < LEAST_MEMORY_BYTES) throw new InvalidArgumentError('The least is 4MiB.');
  return bytes;
}

function packageVersion(): string {
  // From dist/http/ up.
  const manifest = readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

function program(): Command {
  return new Command('patronus-kv')
    .description(
      'Starts a key-value store that speaks HTTP. What it stores is in memory: gone when it stops, or the memory node does.',
    )
    .option('-p, --port <number>', 'TCP port; 0 takes any free one', parsePort, 8080)
    .option('--host <address>', 'address to listen on; 0.0.0.0 is all of IPv4, :: all', '127.0.0.1')
    .addOption(
      new Option('-m, --memory <size>', 'memory for keys and values, such as 64MiB or 2GB')
        .argParser(parseMemory)
        .default(parseSize('256MiB'), '256MiB'),
    )
    .addOption(
      new Option(
        '--memory-node <address>',
        'use the memory node of another process, at unix:PATH (see patronus memory-node); again for each of several',
      )
        .argParser((address: string, others: readonly string[] | undefined) => [...(others ?? []), address])
        .conflicts(['memory', 'memcached']),
    )
    .addOption(
      new Option('--memcached <host:port>', 'use the memory nodes of the cluster kept there').conflicts(
        'memory',
      ),
    )
    .option('--cluster <name>', 'the cluster at memcached; default patronus')
    .version(packageVersion(), '-V, --version', 'show the version')
    .helpOption('-h, --help', 'show this help')
    .allowExcessArguments(false)
    .exitOverride()
    .addHelpText(
      'after',
      `
Examples:
  $ patronus-kv
  $ patronus-kv --port 9000 --memory 1GiB
  $ patronus-kv --memory-node unix:node.sock
  $ curl -X PUT --data-binary 'hello' http://127.0.0.1:8080/v1/kv/greeting
  $ curl http://127.0.0.1:8080/v1/kv/greeting

SIGINT (Ctrl-C) or SIGTERM stops it after the requests under way are answered, a second one at once.`,
    );
}

function announce(server: Server, options: CliOptions): void {
  const { url } = server;
  process.stdout.write(`patronus-kv ${packageVersion()} listens on ${url}
${memoryOf(options)}

  store    curl -X PUT --data-binary 'hello' ${url}/v1/kv/greeting
  read     curl ${url}/v1/kv/greeting
  remove   curl -X DELETE ${url}/v1/kv/greeting
  figures  curl ${url}/v1/stats
`);
}

function memoryOf({ memory, memoryNode, memcached, cluster = 'patronus' }: CliOptions): string {
  if (memoryNode !== undefined) {
    const nodes = memoryNode.length === 1 ? 'the memory node' : 'the memory nodes';
    return `Keys and values are in ${nodes} at ${memoryNode.join(', ')}, and stay there.`;
  }
  if (memcached !== undefined)
    return `Keys and values are in the memory nodes of cluster ${cluster} at ${memcached}, and stay there.`;
  return `It has ${formatSize(memory)} of memory for keys and values. They are gone when it stops (Ctrl-C).`;
}

function openStore({ memory, memoryNode, memcached, cluster }: CliOptions): Promise<Kv> {
  if (memoryNode !== undefined) return openRemote({ memoryNode });
  if (memcached !== undefined)
    return openRemote(cluster === undefined ? { memcached } : { memcached, cluster });
  return openEmbedded({ memoryBytes: memory });
}

/** SIGINT and SIGTERM close the server and end the process, a second one ends it at once. */
function stopOnSignals(server: Server): void {
  let stopping = false;
  const stop = (signal: NodeJS.Signals, number: number): void => {
    if (stopping) process.exit(128 + number);
    stopping = true;
    process.stderr.write(`${signal}: stopping\n`);
    setTimeout(
      () => fail(`the server did not stop within ${STOP_TIMEOUT_MS / 1000} s`),
      STOP_TIMEOUT_MS,
    ).unref();
    // Then nothing keeps the process alive.
    server.close().catch((error: unknown) => fail(`the server stopped with an error: ${messageOf(error)}`));
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
}

function fail(message: string): never {
  process.stderr.write(`patronus-kv: ${message}\n`);
  process.exit(EXIT_FAILURE);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function startFailure(error: unknown, { host, port }: CliOptions): string {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'EADDRINUSE':
      return `port ${port} of ${host} is in use; --port chooses another one`;
    case 'EACCES':
      return `no permission to listen on port ${port} of ${host}`;
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return `${host} is no address of this machine`;
    default:
      return `it could not start: ${messageOf(error)}`;
  }
}

function parseOptions(): CliOptions {
  try {
    return program().parse().opts<CliOptions>();
  } catch (error) {
    // Commander has printed its message, or the help or version that was asked for.
    if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : EXIT_USAGE);
    throw error;
  }
}

const options = parseOptions();
try {
  const kv = await openStore(options);
  const server = await startServer({
    kv,
    host: options.host,
    port: options.port,
    onInternalError: (error) => console.error('patronus-kv: internal error:', error),
  });
  stopOnSignals(server);
  announce(server, options);
} catch (error) {
  fail(startFailure(error, options));
}
