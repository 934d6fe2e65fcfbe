/** A virtual machine that runs a part of test/guest/inside, seen from outside: what it prints, and its end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { GuestResult } from './inside/vitest.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const RESULT = '@result ';
const REACHED = '@reached ';
const BUILD_MS = 240_000;
/** Exit code of scripts/guest/app.sh where a guest can't be had. */
const UNAVAILABLE = 3;

/** Pack the guest. `unavailable`: why there is none to be had on this machine. */
export async function buildGuest(): Promise<{ readonly code: number | null; readonly unavailable?: string }> {
  const child = spawn('sh', ['scripts/guest/app.sh'], { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
  const output = new Output(child, BUILD_MS);
  const code = await output.ended;
  if (code === 0) return { code };
  if (code === UNAVAILABLE) return { code, unavailable: output.lines.at(-1)! };
  process.stdout.write(`${output.lines.join('\n')}\n`);
  return { code };
}

export class Guest {
  private readonly child: ChildProcess;
  private readonly output: Output;

  /** `args`: of scripts/guest/boot.sh. It is killed after so long. */
  constructor(args: readonly string[], limitMs: number) {
    this.child = spawn('sh', ['scripts/guest/boot.sh', ...args], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.output = new Output(this.child, limitMs);
  }

  /** All but the results: what says why it ended early, if it did. */
  get messages(): string {
    return this.output.lines.filter((line) => !line.startsWith(RESULT)).join('\n');
  }

  get results(): readonly GuestResult[] {
    return this.output.lines
      .filter((line) => line.startsWith(RESULT))
      .map((line) => JSON.parse(line.slice(RESULT.length)) as GuestResult);
  }

  /** Resolves when it has ended. */
  get ended(): Promise<unknown> {
    return this.output.ended;
  }

  /** Wait until it says, after the first `since` lines, that it has reached this; rejects if it ends before. */
  async reaches(what: string, since = 0): Promise<void> {
    for (;;) {
      if (this.output.lines.indexOf(`${REACHED}${what}`, since) >= 0) return;
      if (!(await this.output.more()))
        throw new Error(`the guest ended before this: ${what}\n${this.messages}`);
    }
  }

  /** How many lines it has printed. */
  get lineCount(): number {
    return this.output.lines.length;
  }

  /** As if its host lost its power. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.output.ended;
  }
}

/** The whole lines that a process has printed. */
class Output {
  readonly lines: string[] = [];
  readonly ended: Promise<number | null>;
  private rest = '';
  private over = false;
  private wake = () => {};

  constructor(child: ChildProcess, limitMs: number) {
    const timer = setTimeout(() => child.kill('SIGKILL'), limitMs);
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on('data', (chunk: Buffer) => this.take(chunk.toString('latin1')));
    }
    this.ended = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code) => {
        clearTimeout(timer);
        this.take('\n');
        this.over = true;
        this.wake();
        resolve(code);
      });
    });
  }

  /** Wait for more; false if there is none. */
  async more(): Promise<boolean> {
    if (this.over) return false;
    await new Promise<void>((resolve) => {
      this.wake = resolve;
    });
    return true;
  }

  private take(text: string): void {
    const lines = `${this.rest}${text}`.split(/\r?\n/);
    this.rest = lines.pop()!;
    this.lines.push(...lines.filter((line) => line !== ''));
    this.wake();
  }
}
