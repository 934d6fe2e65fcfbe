import { openSync, readFileSync, writeSync } from 'node:fs';
import type { Observation, Task } from '../recorder.js';

/** What a client notes before an operation. */
interface Begun {
  readonly id: number;
  readonly task: Task;
  readonly call: number;
  readonly callDate: number;
}

type Line = Begun | { readonly id: number; readonly seen: Observation };

/** The history of one client, in a file: each line is written before the client goes on, so SIGKILL loses none. */
export class HistoryLog {
  readonly #file: number;
  #next = 0;

  constructor(path: string) {
    this.#file = openSync(path, 'a');
  }

  begin(task: Task, call: number, callDate: number): number {
    const id = this.#next++;
    this.#write({ id, task, call, callDate });
    return id;
  }

  end(id: number, seen: Observation): void {
    // JSON has no Infinity.
    this.#write({ id, seen: Number.isFinite(seen.end) ? seen : { ...seen, end: -1 } });
  }

  #write(line: Line): void {
    writeSync(this.#file, `${JSON.stringify(line)}\n`);
  }
}

/** All operations of a log. Those without an end may have happened at any time after their call, or never. */
export function readHistory(path: string): Observation[] {
  const begun = new Map<number, Begun>();
  const observations: Observation[] = [];
  const lines = readFileSync(path, 'utf8').split('\n');
  // What follows the last newline is empty, or a line that was cut off with its writer.
  for (const text of lines.slice(0, -1)) {
    const line = JSON.parse(text) as Line;
    if ('task' in line) begun.set(line.id, line);
    else {
      begun.delete(line.id);
      const { seen } = line;
      observations.push(seen.end < 0 ? { ...seen, end: Number.POSITIVE_INFINITY } : seen);
    }
  }
  for (const { task, call, callDate } of begun.values()) {
    const { key, kind, value, version, ttlMs } = task;
    observations.push({
      key,
      kind,
      value,
      call,
      callDate,
      end: Number.POSITIVE_INFINITY,
      ...(ttlMs !== undefined && { expiry: callDate + ttlMs, latestExpiry: Number.POSITIVE_INFINITY }),
      wanted: version ?? '0',
    });
  }
  return observations;
}
