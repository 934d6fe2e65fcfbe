/**
 * Virtual time and what happens in it, in an order that follows from a seed. One event runs at a time, with all promises that it
 * settles. Timers and clocks of the process are replaced, so that the product's own waiting is part of it.
 */
import { random } from '../random.js';

interface Event {
  readonly time: number;
  /** Order among events of one time. */
  readonly number: number;
  readonly run: () => void;
  cancelled: boolean;
}

const realImmediate = setImmediate;

export class Scheduler {
  /** ns. */
  now = 1e9;
  steps = 0;
  readonly random: () => number;
  /** A binary heap, earliest first. */
  private readonly heap: Event[] = [];
  private number = 0;

  constructor(seed: number) {
    this.random = random(seed);
  }

  /** From `least` to below `most`. */
  between(least: number, most: number): number {
    return least + Math.floor(this.random() * (most - least));
  }

  chance(probability: number): boolean {
    return this.random() < probability;
  }

  after(delayNs: number, run: () => void): Event {
    const event = { time: this.now + delayNs, number: this.number++, run, cancelled: false };
    const { heap } = this;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!earlier(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
    return event;
  }

  /** Run the next event and all that it settles; false if there is none. */
  async step(): Promise<boolean> {
    const event = this.pop();
    if (event === undefined) return false;
    if (event.cancelled) return true;
    this.now = Math.max(this.now, event.time);
    this.steps++;
    event.run();
    await new Promise((resolve) => realImmediate(resolve));
    return true;
  }

  private pop(): Event | undefined {
    const { heap } = this;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && earlier(heap[child + 1]!, heap[child]!)) child++;
      if (!earlier(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }

  /** Replace the timers and the clock of the process. */
  install(): void {
    const cancel = (timer: { event: Event } | undefined): void => {
      if (timer !== undefined) timer.event.cancelled = true;
    };
    const handle = (event: Event) => {
      const timer = { event, unref: () => timer, ref: () => timer };
      return timer;
    };
    Object.assign(globalThis, {
      setImmediate: (run: () => void) => handle(this.after(this.between(300, 3000), run)),
      clearImmediate: cancel,
      setTimeout: (run: () => void, ms: number) =>
        handle(this.after(ms * 1e6 + this.between(0, 10_000), run)),
      clearTimeout: cancel,
      setInterval: (run: () => void, ms: number) => {
        const timer = handle(this.after(ms * 1e6, again));
        const scheduler = this;
        function again(): void {
          timer.event = scheduler.after(ms * 1e6, again);
          run();
        }
        return timer;
      },
      clearInterval: cancel,
    });
    performance.now = () => this.now / 1e6;
  }
}

function earlier(a: Event, b: Event): boolean {
  return a.time < b.time || (a.time === b.time && a.number < b.number);
}
