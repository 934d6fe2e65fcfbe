import { readFileSync } from 'node:fs';
import {
  type ConnectOptions,
  type Lease,
  Patronus,
  PatronusNode,
  type PatronusNodeOptions,
} from '../../../patronus/index.js';
import { median } from '../report.js';

/** A memory node with a thread of its own and a client on this one. */
export class Sides {
  readonly node: PatronusNode;
  readonly client: Patronus;

  static async start(node: PatronusNodeOptions = {}, client: ConnectOptions = {}): Promise<Sides> {
    const started = await PatronusNode.start(node);
    return new Sides(started, await Patronus.connect({ nodes: [started.endpoint], ...client }));
  }

  private constructor(node: PatronusNode, client: Patronus) {
    this.node = node;
    this.client = client;
  }

  async close(): Promise<void> {
    await this.client.close();
    await this.node.close();
  }
}

/** Do something with some sides, and close them whatever comes of it. */
export async function withSides<T>(
  starting: readonly Promise<Sides>[],
  work: (...sides: Sides[]) => Promise<T>,
): Promise<T> {
  const started = await Promise.all(starting);
  try {
    return await work(...started);
  } finally {
    await Promise.all(started.map((sides) => sides.close()));
  }
}

/** CPU time of the calling thread, ns. */
export function threadCpuNs(): number {
  return Number(readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ')[0]);
}

/** CPU time of all threads of this process, ns. */
export function processCpuNs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

/**
 * One operation after another until the time is over; operations per second, by the median of slices of `inSlice`
 * operations: so short that the scheduler's interruptions fall into few of them.
 */
export async function rateOf(seconds: number, inSlice: number, operate: () => unknown): Promise<number> {
  const sliceMs: number[] = [];
  let nowMs = performance.now();
  for (const endMs = nowMs + seconds * 1000; nowMs < endMs; ) {
    for (let i = 0; i < inSlice; i++) {
      const status = operate();
      expectOk(typeof status === 'object' ? await status : status);
    }
    const startMs = nowMs;
    nowMs = performance.now();
    sliceMs.push(nowMs - startMs);
  }
  return (inSlice * 1000) / median(sliceMs);
}

export function expectOk(status: unknown): void {
  if (status !== 0) throw new Error(`an operation ended with status ${String(status)}`);
}

export async function longLease(sides: Sides, size: number, flags = 0): Promise<Lease> {
  return sides.client.writeLease({ offset: 0, size, termNs: 3600e9, flags });
}
