import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { signalChannel } from '../../native/index.js';
import { PatronusError, PatronusErrorCode } from '../errors.js';
import type { DirectoryClosed, DirectoryReady, DirectoryWorkerData } from './directory-worker.js';
import { STATS_LENGTH } from './stats.js';

/** A directory, as who started it sees it. */
export class DirectoryThread {
  readonly ready: DirectoryReady;
  /** See StatIndex. */
  readonly counters: Float64Array;
  /** Resolves once it has stopped and given everything back, rejects if it fails. */
  readonly ended: Promise<void>;
  private readonly worker: Worker;
  private readonly stopWord: Int32Array;
  private running = true;

  /** Resolves when clients can connect; rejects with ERR_PATRONUS_LISTEN. It does not keep the process alive. */
  static async start(data: Omit<DirectoryWorkerData, 'stopWord' | 'counters'>): Promise<DirectoryThread> {
    const stopWord = new Int32Array(new SharedArrayBuffer(4));
    const counters = new Float64Array(new SharedArrayBuffer(8 * STATS_LENGTH));
    const workerData: DirectoryWorkerData = { ...data, stopWord, counters };
    const worker = new Worker(new URL('./directory-worker.js', import.meta.url), { workerData });
    const ready = await started(worker, data.options.listen);
    worker.unref();
    return new DirectoryThread(worker, ready, stopWord, counters);
  }

  private constructor(worker: Worker, ready: DirectoryReady, stopWord: Int32Array, counters: Float64Array) {
    this.worker = worker;
    this.ready = ready;
    this.stopWord = stopWord;
    this.counters = counters;
    this.ended = new Promise<void>((resolve, reject) => {
      worker.once('error', reject);
      worker.once('exit', () => resolve());
      worker.on('message', (message: DirectoryClosed) => {
        if (message === 'closed') resolve();
      });
    }).finally(() => {
      this.running = false;
    });
    // Without somebody waiting for it the failure shows at the clients, as a lost connection, and when the node is closed.
    this.ended.catch(() => {});
  }

  /** See `ended`. */
  stop(): void {
    if (!this.running || Atomics.exchange(this.stopWord, 0, 1) !== 0) return;
    this.worker.ref();
    signalChannel(this.ready.channelFd);
  }
}

/** What the directory says once clients can connect. */
async function started(worker: Worker, listen: string | undefined): Promise<DirectoryReady> {
  try {
    const exited = once(worker, 'exit').then(([code]) => {
      throw new Error(`its thread ended with ${code}`);
    });
    exited.catch(() => {});
    const [ready] = (await Promise.race([once(worker, 'message'), exited])) as [DirectoryReady];
    return ready;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const where = listen === undefined ? '' : ` at ${listen}`;
    throw new PatronusError(PatronusErrorCode.LISTEN, `the memory node could not start${where}: ${why}`, {
      cause,
    });
  }
}
