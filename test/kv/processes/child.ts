import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const READY_MS = 20_000;

/** A process of a module of this directory, which says that it is ready. */
export class Child {
  readonly ready: Promise<void>;
  /** Rejects if it ends by itself. */
  readonly failed: Promise<never>;
  readonly #process: ChildProcess;
  #killed = false;
  #ended: Error | undefined;

  constructor(module: string, argument: string) {
    const child = fork(fileURLToPath(new URL(module, import.meta.url)), [argument], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#process = child;
    this.failed = new Promise((_, reject) => {
      child.on('exit', (code, signal) => {
        if (this.#killed) return;
        this.#ended = new Error(`${module} ended: ${code ?? signal}`);
        reject(this.#ended);
      });
    });
    this.failed.catch(() => undefined);
    this.ready = Promise.race([
      once(child, 'message', { signal: AbortSignal.timeout(READY_MS) }).then(() => undefined),
      this.failed,
    ]);
    this.ready.catch(() => undefined);
  }

  /** Throws if it has ended by itself: it never does unless something is wrong. */
  check(): void {
    if (this.#ended !== undefined) throw this.#ended;
  }

  /** Sends it a message and resolves with the next one that it sends. */
  async ask(message: string): Promise<unknown> {
    const answer = once(this.#process, 'message').then(([first]) => first);
    this.#process.send(message);
    return Promise.race([answer, this.failed]);
  }

  stop(): void {
    this.#process.kill('SIGSTOP');
  }

  go(): void {
    this.#process.kill('SIGCONT');
  }

  /** At once, also while it stands still. */
  async kill(): Promise<void> {
    this.#killed = true;
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exited;
  }
}
