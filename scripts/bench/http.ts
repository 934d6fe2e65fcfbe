import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { HttpStore } from '../../loadgen/index.js';
import { isInstalled, runPinned, ServerProcess } from './process.js';
import type { Comparison } from './report.js';
import { type BenchSettings, type Contender, compare } from './runner.js';

const RECORDS = 10_000;
const VALUE_BYTES = 100;
const CONNECTIONS = 32;
/** Servers share a core, as one of them works at a time; the load has the other. */
const SERVER_CORE = 0;
const LOAD_CORE = 1;

/**
 * The HTTP server beside Fastify over a Map, each in a process of its own, under the same load of wrk. Rejects if wrk
 * is not there, or if any request of a run fails.
 */
export async function benchHttp(settings: BenchSettings): Promise<Comparison[]> {
  if (!isInstalled('wrk')) {
    throw new Error('the HTTP benchmark needs wrk (Debian, Ubuntu: apt-get install wrk)');
  }
  await using baseline = await ServerProcess.start(SERVER_CORE, compiled('./map-server.js'));
  await using server = await ServerProcess.start(SERVER_CORE, compiled('../../http/cli.js'), ['--port', '0']);
  const contenders = [
    { name: 'Fastify over a Map', url: baseline.url },
    { name: 'patronus-kv', url: server.url },
  ];
  for (const { url } of contenders) await fill(url);
  const title = (verb: string): string => `HTTP ${verb}, ${CONNECTIONS} connections, ${VALUE_BYTES} B values`;
  const under = (script: string): Contender[] =>
    contenders.map(({ name, url }) => ({ name, run: (seconds) => wrk(url, script, seconds) }));
  return [
    await compare(title('GET'), under('get.lua'), settings),
    await compare(title('PUT'), under('put.lua'), settings),
  ];
}

async function fill(url: string): Promise<void> {
  const store = new HttpStore(url, { connections: CONNECTIONS });
  const value = Buffer.alloc(VALUE_BYTES, 'v');
  try {
    for (let from = 0; from < RECORDS; from += CONNECTIONS) {
      const records = Array.from({ length: Math.min(CONNECTIONS, RECORDS - from) }, (_, i) => from + i);
      await Promise.all(
        records.map((i) => store.put(Buffer.from(`user${String(i).padStart(12, '0')}`), value)),
      );
    }
  } finally {
    await store.close();
  }
}

/** One run of wrk: requests per second. */
async function wrk(url: string, script: string, seconds: number): Promise<number> {
  const args = [
    '-t',
    '1',
    '-c',
    String(CONNECTIONS),
    '-d',
    `${Math.ceil(seconds)}s`,
    '-s',
    source(script),
    url,
  ];
  const output = await runPinned(
    LOAD_CORE,
    'wrk',
    [...args, '--', String(RECORDS), String(VALUE_BYTES)],
    (seconds + 30) * 1000,
  );
  return parseWrk(output);
}

/** Requests per second in the output of wrk. Throws if requests failed. */
export function parseWrk(output: string): number {
  const failed = /^\s*(Non-2xx or 3xx responses|Socket errors):.*$/m.exec(output);
  if (failed !== null) throw new Error(`requests failed: ${failed[0].trim()}`);
  const rate = /^Requests\/sec:\s+([\d.]+)$/m.exec(output)?.[1];
  if (rate === undefined) throw new Error(`no rate in the output of wrk: ${output}`);
  return Number(rate);
}

function compiled(path: string): string {
  return fileURLToPath(new URL(path, import.meta.url));
}

/** The compiler leaves Lua scripts where they are: scripts/bench/ beside dist/. */
function source(script: string): string {
  const path = fileURLToPath(new URL(`../../../scripts/bench/${script}`, import.meta.url));
  if (!existsSync(path)) throw new Error(`${path} is missing: run the benchmark in the source tree`);
  return path;
}
