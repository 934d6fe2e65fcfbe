/** The program `patronus` in a process of its own, which is killed at the latest by dispose. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Report } from '../../../patronus/program/memory-node.js';

const CLI = join(import.meta.dirname, '..', '..', '..', 'patronus', 'cli.js');
const START_TIMEOUT_MS = 60_000;

export class Program implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  stdout = '';
  stderr = '';

  constructor(script: string, args: readonly string[]) {
    this.child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stdout!.on('data', (chunk) => {
      this.stdout += chunk;
    });
    this.child.stderr!.on('data', (chunk) => {
      this.stderr += chunk;
    });
    // 'close', not 'exit': all output is there then.
    this.exited = once(this.child, 'close').then(([code, signal]) => ({ code, signal }));
  }

  static patronus(...args: string[]): Program {
    return new Program(CLI, args);
  }

  /** A memory node that listens; resolves when clients can connect. */
  static async memoryNode(...args: string[]): Promise<Program & { readonly report: Report }> {
    const program = Program.patronus('memory-node', '--json', ...args);
    const line = await program.line();
    return Object.assign(program, { report: JSON.parse(line) as Report });
  }

  /** The first line that it prints. */
  async line(): Promise<string> {
    const deadline = AbortSignal.timeout(START_TIMEOUT_MS);
    while (!this.stdout.includes('\n')) {
      const data = once(this.child.stdout!, 'data', { signal: deadline });
      const ended = this.exited.then(({ code }) => {
        throw new Error(`the program ended with ${code}: ${this.stderr}`);
      });
      data.catch(() => {});
      ended.catch(() => {});
      await Promise.race([data, ended]);
    }
    return this.stdout.slice(0, this.stdout.indexOf('\n'));
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGKILL');
    await this.exited;
  }
}

/** A folder for sockets and files of one test file. */
export class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'patronus-'));
  private count = 0;

  /** The address of a socket that there has not been yet. */
  address(): string {
    return `unix:${join(this.path, `${this.count++}.sock`)}`;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
