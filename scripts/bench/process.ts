import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';

const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 5_000;

/** Whether a program is there and runs. */
export function isInstalled(program: string): boolean {
  try {
    execFileSync('which', [program], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Whether processes can be kept on a core each: taskset (util-linux), and more than one core. */
export function canPin(): boolean {
  return availableParallelism() > 1 && isInstalled('taskset');
}

/** The command line that keeps a program on one core; as it is where that can't be done. */
function pinned(core: number, program: string, args: readonly string[]): [string, string[]] {
  return canPin() ? ['taskset', ['--cpu-list', String(core), program, ...args]] : [program, [...args]];
}

/** A server in a process of its own. */
export class ServerProcess implements AsyncDisposable {
  readonly url: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, url: string) {
    this.#child = child;
    this.url = url;
  }

  /** Starts a Node.js program that prints its URL when it listens. */
  static async start(core: number, script: string, args: readonly string[] = []): Promise<ServerProcess> {
    const [program, programArgs] = pinned(core, process.execPath, [script, ...args]);
    const child = spawn(program, programArgs, { stdio: ['ignore', 'pipe', 'pipe'] });
    try {
      return new ServerProcess(child, await printedUrl(child, script));
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(timer);
  }
}

/** Runs a program on a core to its end; resolves to its standard output. */
export async function runPinned(
  core: number,
  program: string,
  args: readonly string[],
  timeoutMs: number,
): Promise<string> {
  const { stdout } = await promisify(execFile)(...pinned(core, program, args), { timeout: timeoutMs });
  return stdout;
}

function printedUrl(child: ChildProcess, script: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = '';
    const timer = setTimeout(() => reject(new Error(`${script} printed no URL`)), START_TIMEOUT_MS);
    const onData = (chunk: Buffer): void => {
      if (output.length > 65_536) return;
      output += chunk;
      const url = /https?:\/\/[\w.:[\]-]+:\d+/.exec(output)?.[0];
      if (url === undefined) return;
      clearTimeout(timer);
      resolve(url);
    };
    child.stdout?.on('data', onData);
    child.stderr?.on('data', onData);
    child.once('error', reject);
    child.once('exit', () => {
      clearTimeout(timer);
      reject(new Error(`${script} ended before it listened: ${output.trim()}`));
    });
  });
}
