import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { signalChannel } from '../../native/index.js';
import { PatronusError, PatronusErrorCode } from '../errors.js';
import type { Keeper } from '../keeper/api.js';
import type { Share } from './allocations.js';
import { SPAN_BYTES } from './allocator.js';
import type { DirectoryClosed, DirectoryReady, DirectoryWorkerData } from './directory-worker.js';
import type { DirectoryOptions } from './options.js';
import { type PolicyName, policies } from './policy.js';
import { type NodeStats, readStats, STATS_LENGTH } from './stats.js';

export interface PatronusNodeOptions {
  /** 0..65535. Default 0. */
  readonly nodeId?: number;
  /** Bytes of the lease buffer: memory at addresses that the application lays out itself. Default 64 KiB. */
  readonly leaseBytes?: number;
  /** Bytes of the allocation buffer, in whole 64 KiB. Default 64 MiB. */
  readonly allocBytes?: number;
  /**
   * Parts of the allocation buffer, each with an allocator of its own, for allocations with the same hint. What they leave is
   * for hint 0. Default: none.
   */
  readonly allocators?: readonly Share[];
  /**
   * Who may have leases on what: `open`, everybody on everything; `owner`, on allocated memory only who allocated it and
   * those that have a grant from it. Default `owner` with `listen`, else `open`.
   */
  readonly policy?: PolicyName;
  /** Give every client the key of all memory: for accesses without protection, to compare. Default false. */
  readonly bypass?: boolean;
  /** Let a lease that begins take the window of one that ends in the same batch. Default true; off to measure it. */
  readonly handover?: boolean;
  /** Take the window next that was given back last, rather than first. Default true; off to measure it. */
  readonly lastWindowFirst?: boolean;
  /** Leases that can be alive at once. Default 65,536. */
  readonly maxLeases?: number;
  /** Of them, those of one client. Default 16,384. */
  readonly maxLeasesPerClient?: number;
  /** Connections at once. Default 64. */
  readonly maxClients?: number;
  /**
   * Serve clients of other processes instead of those of this one. `unix:PATH`: over shared memory; the socket is for this
   * user's processes only. `ib:HOST:PORT`: over an RDMA device, for clients of any host; connections are set up over TCP,
   * with everybody who reaches that port.
   */
  readonly listen?: string;
  /** The RDMA device for an address `ib:HOST:PORT`, as openDevice() names it. Default: the first. */
  readonly device?: string;
  /**
   * Serve although the device does not hold accesses to the bounds of memory windows, as Soft-RoCE does not: whoever has a
   * lease then reaches all memory of the node. For tests and measurements; every start warns of it. Default false.
   */
  readonly allowUnboundedWindows?: boolean;
  /** Threads that execute the one-sided operations of such clients. Default 1. */
  readonly engineThreads?: number;
  /** The node joins it under its id while it runs. It stays the caller's to close. */
  readonly keeper?: Keeper;
}

/** What a client needs to connect; can be sent to other threads of the process. */
export interface NodeEndpoint {
  readonly nodeId: number;
  readonly address: string;
}

/** A memory node of this process: memory that clients reach one-sided, and a thread that grants leases on it. */
export class PatronusNode implements AsyncDisposable {
  readonly endpoint: NodeEndpoint;
  private readonly worker: Worker;
  private readonly stopWord: Int32Array;
  private readonly counters: Float64Array;
  private readonly channelFd: number;
  /** Resolves once the node was closed, rejects if it fails. */
  readonly ended: Promise<void>;
  private running = true;

  /**
   * Start a memory node; resolves when clients can connect. It does not keep the process alive.
   * Rejects with ERR_PATRONUS_LISTEN if it can't listen at that address, has no memory, or the device does not protect
   * memory (see allowUnboundedWindows), and with what
   * Keeper.joinAsNode() rejects with.
   */
  static async start(options: PatronusNodeOptions = {}): Promise<PatronusNode> {
    const directory = directoryOptions(options);
    const stopWord = new Int32Array(new SharedArrayBuffer(4));
    const counters = new Float64Array(new SharedArrayBuffer(8 * STATS_LENGTH));
    const { device, allowUnboundedWindows = false } = options;
    const workerData: DirectoryWorkerData = {
      options: directory,
      device,
      allowUnboundedWindows,
      stopWord,
      counters,
    };
    const worker = new Worker(new URL('./directory-worker.js', import.meta.url), { workerData });
    const ready = await started(worker, options.listen);
    worker.unref();
    if (!ready.windowBounds) {
      process.emitWarning(
        `memory node ${directory.nodeId}: the device ${ready.device} does not hold accesses to the bounds of memory windows; whoever has a lease reaches all memory of the node`,
        { code: 'PATRONUS_UNBOUNDED_WINDOWS' },
      );
    }
    const node = new PatronusNode(directory.nodeId, worker, ready, stopWord, counters, options.keeper);
    try {
      await options.keeper?.joinAsNode(directory.nodeId, ready.address);
    } catch (error) {
      await node.close();
      throw error;
    }
    return node;
  }

  private constructor(
    nodeId: number,
    worker: Worker,
    ready: DirectoryReady,
    stopWord: Int32Array,
    counters: Float64Array,
    keeper: Keeper | undefined,
  ) {
    this.endpoint = { nodeId, address: ready.address };
    this.worker = worker;
    this.stopWord = stopWord;
    this.counters = counters;
    this.channelFd = ready.channelFd;
    const stopped = new Promise<void>((resolve, reject) => {
      worker.once('error', reject);
      worker.once('exit', resolve);
      worker.on('message', (message: DirectoryClosed) => {
        if (message === 'closed') resolve();
      });
    }).finally(() => {
      this.running = false;
    });
    // However it ends: nobody finds it any more.
    this.ended = stopped.finally(() => keeper?.leave());
    // Without somebody waiting for it the failure shows at the clients, as a lost connection, and at close().
    this.ended.catch(() => {});
  }

  /** Counters since the start, and what is in use now. */
  stats(): NodeStats {
    return readStats(this.counters);
  }

  /**
   * End all leases and connections, give the memory back. Rejects with the reason if the node had failed before. The thread
   * stays, idle, for another quarter of a second, and the process with it unless it is told to exit.
   */
  async close(): Promise<void> {
    if (this.running && Atomics.exchange(this.stopWord, 0, 1) === 0) {
      this.worker.ref();
      signalChannel(this.channelFd);
    }
    await this.ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** What the directory says once clients can connect. */
async function started(worker: Worker, listen: string | undefined): Promise<DirectoryReady> {
  try {
    const [ready] = (await once(worker, 'message')) as [DirectoryReady];
    return ready;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const where = listen === undefined ? '' : ` at ${listen}`;
    throw new PatronusError(PatronusErrorCode.LISTEN, `the memory node could not start${where}: ${why}`, {
      cause,
    });
  }
}

function directoryOptions(options: PatronusNodeOptions): DirectoryOptions {
  const nodeId = integer('nodeId', options.nodeId ?? 0, 0, 0xffff);
  const leaseBytes = integer('leaseBytes', options.leaseBytes ?? 65536, 0, 2 ** 47);
  const allocBytes = integer('allocBytes', options.allocBytes ?? 64 * 2 ** 20, 0, 2 ** 47);
  const shares = options.allocators ?? [];
  for (const { hint, bytes } of shares) {
    integer('hint of an allocator', hint, 1, 0xffff);
    integer('bytes of an allocator', bytes, SPAN_BYTES, 2 ** 47);
    if (bytes % SPAN_BYTES !== 0)
      throw new RangeError(`bytes of an allocator must be a multiple of ${SPAN_BYTES}`);
  }
  if (new Set(shares.map((share) => share.hint)).size < shares.length) {
    throw new RangeError('two allocators have the same hint');
  }
  if (shares.reduce((sum, share) => sum + share.bytes, 0) > allocBytes) {
    throw new RangeError('the allocators need more than allocBytes');
  }
  const policy = options.policy ?? (options.listen === undefined ? 'open' : 'owner');
  if (!Object.hasOwn(policies, policy)) {
    throw new RangeError(`policy must be one of ${Object.keys(policies).join(', ')}, not ${policy}`);
  }
  const maxLeases = integer('maxLeases', options.maxLeases ?? 65536, 1, 2 ** 22);
  const { listen } = options;
  if (listen !== undefined && !/^(unix:.|ib:.*:\d)/s.test(listen)) {
    throw new RangeError(`listen must be unix:PATH or ib:HOST:PORT, not ${listen}`);
  }
  return {
    nodeId,
    leaseBytes,
    allocOffset: Math.ceil(leaseBytes / SPAN_BYTES) * SPAN_BYTES,
    allocBytes: Math.ceil(allocBytes / SPAN_BYTES) * SPAN_BYTES,
    shares: shares.map(({ hint, bytes }) => ({ hint, bytes })),
    policy,
    bypass: options.bypass ?? false,
    handover: options.handover ?? true,
    lastWindowFirst: options.lastWindowFirst ?? true,
    maxLeases,
    maxLeasesPerClient: integer(
      'maxLeasesPerClient',
      options.maxLeasesPerClient ?? Math.min(16384, maxLeases),
      1,
      maxLeases,
    ),
    maxClients: integer('maxClients', options.maxClients ?? 64, 1, 1024),
    listen,
    engineThreads: integer('engineThreads', options.engineThreads ?? 1, 1, 64),
  };
}

function integer(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${name} must be an integer from ${least} to ${most}, not ${value}`);
  }
  return value;
}
