import type { Pacing } from '../../kv/pacing.js';
import type { RetCode } from '../../patronus/index.js';
import type { FakeNode } from './fake-patronus.js';
import { seeded } from './random.js';

/** Whose process may stand still. */
interface Actor {
  readonly pausedUntilNs: number;
}

interface Task {
  readonly actor: Actor;
  readonly steps: Generator<undefined, RetCode>;
  readonly resolve: (status: RetCode) => void;
}

interface Sleeper {
  readonly untilNs: number;
  readonly wake: () => void;
}

const MAX_STEPS = 200_000;

/**
 * Decides from a seed whose next memory access comes first. Runs one access at a time, and the clients' code in between until
 * all of them wait again: the same seed gives the same run.
 */
export class Scheduler implements Pacing {
  readonly random: () => number;
  /** Steps so far: the time of histories. */
  time = 0;
  /** How much virtual time an access takes. */
  stepNs = 100;
  readonly #node: FakeNode;
  readonly #tasks: Task[] = [];
  readonly #sleepers: Sleeper[] = [];

  constructor(node: FakeNode, seed: number) {
    this.#node = node;
    this.random = seeded(seed);
  }

  perform(actor: Actor, steps: Generator<undefined, RetCode>): Promise<RetCode> {
    return new Promise((resolve) => this.#tasks.push({ actor, steps, resolve }));
  }

  async sleep(ms: number): Promise<void> {
    if (ms <= 0) return;
    await new Promise<void>((wake) => this.#sleepers.push({ untilNs: this.#node.clockNs + ms * 1e6, wake }));
  }

  idle(ms: number): Promise<void> {
    return this.sleep(ms);
  }

  wallMs(): number {
    return Math.floor(this.#node.clockNs / 1e6);
  }

  async run<T>(work: Promise<T>): Promise<T> {
    let settled = false;
    const end = () => {
      settled = true;
    };
    work.then(end, end);
    for (let quiet = false; !settled; ) {
      if (!quiet) await new Promise((resolve) => setImmediate(resolve));
      if (settled) break;
      if (++this.time > MAX_STEPS) throw new Error('the run does not end');
      quiet = this.#step();
    }
    return work;
  }

  /** True: nobody's code can go on because of this step. */
  #step(): boolean {
    if (this.#tasks.length === 0 && this.#sleepers.length === 0) throw new Error('everybody waits');
    if (this.#tasks.length === 0 || (this.#sleepers.length > 0 && this.random() < 0.1)) {
      const next = this.#sleepers.reduce((a, b) => (b.untilNs < a.untilNs ? b : a));
      this.#sleepers.splice(this.#sleepers.indexOf(next), 1);
      this.#node.clockNs = Math.max(this.#node.clockNs, next.untilNs);
      next.wake();
      return false;
    }
    this.#node.clockNs += this.stepNs;
    let index = Math.floor(this.random() * this.#tasks.length);
    for (let i = 0; i < this.#tasks.length && this.#paused(index); i++)
      index = (index + 1) % this.#tasks.length;
    const task = this.#tasks[index]!;
    // Only those who stand still have something to do: time goes on until one wakes.
    this.#node.clockNs = Math.max(this.#node.clockNs, task.actor.pausedUntilNs);
    const { done, value } = task.steps.next();
    if (!done) return true;
    this.#tasks.splice(index, 1);
    task.resolve(value);
    return false;
  }

  #paused(index: number): boolean {
    return this.#tasks[index]!.actor.pausedUntilNs > this.#node.clockNs;
  }
}
