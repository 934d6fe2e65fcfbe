import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

const BUILD = join(import.meta.dirname, '..', '..');
const CLI = join(BUILD, 'http', 'cli.js');
const START_TIMEOUT_MS = 60_000;

/** How a process ended. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** The command-line program in a process of its own, which is killed at the latest by dispose. */
export class CliProcess implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly exited: Promise<Exit>;
  stdout = '';
  stderr = '';

  constructor(args: readonly string[]) {
    this.child = spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stdout!.on('data', (chunk) => {
      this.stdout += chunk;
    });
    this.child.stderr!.on('data', (chunk) => {
      this.stderr += chunk;
    });
    // 'close', not 'exit': all output is there then.
    this.exited = once(this.child, 'close').then(([code, signal]) => ({ code, signal }));
  }

  /** Starts a server on a free port and waits until it says where it listens. */
  static async serve(
    args: readonly string[] = [],
  ): Promise<{ process: CliProcess; url: string; port: number }> {
    const process = new CliProcess(['--port', '0', ...args]);
    const deadline = AbortSignal.timeout(START_TIMEOUT_MS);
    for (;;) {
      const found = /http:\/\/[\w.:[\]]+:(\d+)\n/.exec(process.stdout);
      if (found) return { process, url: found[0].trimEnd(), port: Number(found[1]) };
      const data = once(process.child.stdout!, 'data', { signal: deadline });
      const ended = process.exited.then(() => {
        throw new Error(`the server ended: ${process.stderr}`);
      });
      data.catch(() => {});
      ended.catch(() => {});
      await Promise.race([data, ended]);
    }
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGKILL');
    await this.exited;
  }
}

/** A memory node in a process of its own, which listens when this resolves. Dispose kills it. */
export async function memoryNode(address: string, ...args: string[]): Promise<AsyncDisposable> {
  const cli = join(BUILD, 'patronus', 'cli.js');
  const options = ['memory-node', '--listen', address, '--memory', '64MiB', '--json', ...args];
  const child = spawn(process.execPath, [cli, ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  await Promise.race([
    once(child.stdout, 'data', { signal: AbortSignal.timeout(START_TIMEOUT_MS) }),
    exited.then(() => {
      throw new Error(`the memory node at ${address} ended`);
    }),
  ]);
  return {
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
