/** `npm run bench:kv`: YCSB mixes on the embedded store, by protection, beside other stores in the same run. */
import { parseArgs } from 'node:util';
import { benchGets } from './bench/gets.js';
import { loadTable } from './bench/load-table.js';
import { benchProtection } from './bench/protection.js';
import { formatComparisons, formatMachine } from './bench/report.js';
import { compare } from './bench/runner.js';
import { type BenchStore, isThere, openStore, STORES, type StoreName } from './bench/stores.js';
import { keyOf, YCSB, YcsbClient, type YcsbName } from './bench/ycsb.js';

const USAGE = `usage: npm run bench:kv -- [options]

  --workloads a,b,c,d,f    YCSB mixes
  --stores ${STORES.join(',')}
                           region, block, mr and none are this store by its protection; the first is the ratios' 1
  --records 100000         records, also several: 100000,1000000
  --value-bytes 100        bytes of a value, also several
  --seconds 2              length of a run
  --rounds 3               runs of each store, in turns
  --load 10000000          instead: load so many 32-byte records into one table, and what that takes
  --writers 1              threads that load it
  --in-flight 1            puts of each under way at a time
  --shared                 over shared-memory rings instead of loopback
  --protection 2000        instead: what protection costs one table, by so many turns of 512 operations
  --gets 300               instead: how long a get takes, embedded and over shared memory, by so many turns of 1280`;

/** For each record beside its value: key, header, rounding, index; and room for overwritten ones in their grace period. */
const RECORD_BYTES = 256;
const SPARE_BYTES = 512 * 2 ** 20;

interface Settings {
  readonly workloads: readonly YcsbName[];
  readonly stores: readonly StoreName[];
  readonly records: readonly number[];
  readonly valueBytes: readonly number[];
  readonly seconds: number;
  readonly rounds: number;
}

async function bench(settings: Settings): Promise<void> {
  const { workloads, stores, seconds, rounds } = settings;
  for (const missing of stores.filter((name) => !isThere(name))) {
    process.stderr.write(`left out, not installed: ${missing}\n`);
  }
  for (const records of settings.records) {
    for (const valueBytes of settings.valueBytes) {
      const loaded: BenchStore[] = [];
      try {
        for (const name of stores.filter(isThere)) {
          const store = await openStore(name, records * (valueBytes + RECORD_BYTES) + SPARE_BYTES);
          loaded.push(store);
          await load(store, records, valueBytes);
        }
        for (const workload of workloads) {
          const contenders = loaded.map((store) => {
            const client = new YcsbClient(store, workload, records, valueBytes);
            return { name: store.name, run: (length: number) => client.run(length) };
          });
          const title = `YCSB ${workload.toUpperCase()}, ${records} records, ${valueBytes} B values`;
          const comparison = await compare(title, contenders, { seconds, rounds });
          process.stdout.write(`\n${formatComparisons([comparison])}\n`);
        }
      } finally {
        for (const store of loaded) await store[Symbol.asyncDispose]();
      }
    }
  }
}

async function load(store: BenchStore, records: number, valueBytes: number): Promise<void> {
  const value = new Uint8Array(valueBytes).fill(0x76);
  for (let record = 0; record < records; record += 64) {
    const end = Math.min(record + 64, records);
    await Promise.all(Array.from({ length: end - record }, (_, i) => store.put(keyOf(record + i), value)));
  }
}

function list<T extends string>(name: string, text: string, known: readonly T[]): T[] {
  return text.split(',').map((word) => {
    if (!(known as readonly string[]).includes(word)) throw new RangeError(`--${name}: what is ${word}?`);
    return word as T;
  });
}

function numbers(name: string, text: string, least: number): number[] {
  return text.split(',').map((word) => {
    const value = Number(word);
    if (!Number.isInteger(value) || value < least)
      throw new RangeError(`--${name}: integers from ${least}, not ${word}`);
    return value;
  });
}

async function main(): Promise<number> {
  let work: () => Promise<void>;
  try {
    const { values } = parseArgs({
      options: {
        workloads: { type: 'string', default: 'a,b,c,d,f' },
        stores: { type: 'string', default: STORES.join(',') },
        records: { type: 'string', default: '100000' },
        'value-bytes': { type: 'string', default: '100' },
        seconds: { type: 'string', default: '2' },
        rounds: { type: 'string', default: '3' },
        load: { type: 'string' },
        protection: { type: 'string' },
        gets: { type: 'string' },
        writers: { type: 'string', default: '1' },
        'in-flight': { type: 'string', default: '1' },
        shared: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      process.stdout.write(`${USAGE}\n`);
      return 0;
    }
    const settings: Settings = {
      workloads: list('workloads', values.workloads, Object.keys(YCSB) as YcsbName[]),
      stores: list('stores', values.stores, STORES),
      records: numbers('records', values.records, 1),
      valueBytes: numbers('value-bytes', values['value-bytes'], 0),
      seconds: numbers('seconds', values.seconds, 1)[0]!,
      rounds: numbers('rounds', values.rounds, 1)[0]!,
    };
    work = () => bench(settings);
    if (values.load !== undefined) {
      const load = {
        records: numbers('load', values.load, 1)[0]!,
        writers: numbers('writers', values.writers, 1)[0]!,
        inFlight: numbers('in-flight', values['in-flight'], 1)[0]!,
        shared: values.shared,
      };
      work = () => loadTable(load);
    } else if (values.protection !== undefined) {
      const turns = numbers('protection', values.protection, 5)[0]!;
      work = async () => void process.stdout.write(`\n${await benchProtection(turns)}\n`);
    } else if (values.gets !== undefined) {
      const turns = numbers('gets', values.gets, 5)[0]!;
      work = async () => void process.stdout.write(`\n${await benchGets(turns)}\n`);
    }
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n${USAGE}\n`);
    return 2;
  }
  process.stdout.write(`${formatMachine()}\n`);
  try {
    await work();
    return 0;
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    return 1;
  }
}

process.exitCode = await main();
