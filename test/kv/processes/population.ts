import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pick, seeded } from '../random.js';
import { Child } from './child.js';
import { NodeProcess } from './node.js';

/** A client stands still for up to so long: some three terms of a lock. */
const MAX_PAUSE_MS = 300;

/** What every client process is told, beside the options of its module. */
export interface ClientPlan {
  readonly address: string;
  /** A file that exists. */
  readonly log: string;
  readonly seed: number;
}

export interface Life {
  readonly module: string;
  readonly options?: object;
  readonly seed: number;
  readonly clients: number;
  readonly ms: number;
  /** Whether clients are stopped for a while, or only killed. */
  readonly pauses: boolean;
}

/**
 * Runs `body` with a memory node in a process of its own and clients in others; all of them have ended afterwards. With
 * `bypass` the node gives the key of all its memory away.
 */
export async function withNode<T>(
  bypass: boolean,
  body: (address: string, population: Population) => Promise<T>,
): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'patronus-kv-'));
  const address = `unix:${join(directory, 'node')}`;
  const node = new NodeProcess('node-process.js', JSON.stringify({ address, nodeId: 0, bypass }));
  const population = new Population(directory, address);
  try {
    await node.ready;
    return await Promise.race([body(address, population), node.failed]);
  } finally {
    await population.end();
    await node.kill();
    rmSync(directory, { recursive: true });
  }
}

export class Population {
  kills = 0;
  pauses = 0;
  /** The files of all clients that there have been. */
  readonly logs: string[] = [];
  readonly #clients = new Set<Child>();
  readonly #directory: string;
  readonly #address: string;

  constructor(directory: string, address: string) {
    this.#directory = directory;
    this.#address = address;
  }

  /** Clients that are killed and replaced, or stopped for a while, one after the other; at last all are killed. */
  async live(life: Life): Promise<void> {
    const random = seeded(life.seed);
    for (let i = 0; i < life.clients; i++) this.#add(life);
    await Promise.all([...this.#clients].map(({ ready }) => ready));
    const until = performance.now() + life.ms;
    while (performance.now() < until) {
      await sleep(50 + 350 * random());
      const victim = pick(random, [...this.#clients]);
      await victim.ready;
      const stops = life.pauses && random() < 0.75;
      if (stops) {
        victim.stop();
        await sleep(MAX_PAUSE_MS * random());
        this.pauses++;
      }
      if (random() < 0.4) {
        this.#clients.delete(victim);
        await victim.kill();
        this.kills++;
        this.#add(life);
      } else if (stops) victim.go();
    }
    for (const client of this.#clients) client.check();
    await this.end();
  }

  async end(): Promise<void> {
    const clients = [...this.#clients];
    this.#clients.clear();
    this.kills += clients.length;
    await Promise.all(clients.map((client) => client.kill()));
  }

  #add({ module, options, seed }: Life): void {
    const log = join(this.#directory, `log ${this.logs.length}`);
    const plan: ClientPlan = { address: this.#address, log, seed: seed * 1000 + this.logs.length };
    // A client may be killed before it has begun.
    writeFileSync(log, '');
    this.logs.push(log);
    this.#clients.add(new Child(module, JSON.stringify({ ...options, ...plan })));
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
