import type { HugePages } from '../../native/index.js';
import type { Keeper } from '../keeper/api.js';
import { addressEnd, listenAddress } from '../wire/addresses.js';
import type { Share } from './allocations.js';
import { SPAN_BYTES } from './allocator.js';
import { DirectoryThread } from './directory-thread.js';
import type { DirectoryOptions } from './options.js';
import { commonPlace, type Place } from './place.js';
import { type PolicyName, policies } from './policy.js';
import { type NodeStats, readStats } from './stats.js';

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
  /**
   * Threads that serve clients' requests, 1 to 16: each grants leases on its part of the allocation buffer, and one of them, for
   * each client another one, on everything else. So grants scale with cores, and one that is busy does not stop the
   * others. The parts are equal, and no allocation can be larger than one. Default 1.
   */
  readonly directories?: number;
  /** Leases that can be alive at once, of each directory. Default 65,536. */
  readonly maxLeases?: number;
  /** Of them, those of one client, of each directory. Default 16,384. */
  readonly maxLeasesPerClient?: number;
  /** Connections at once. Default 64. */
  readonly maxClients?: number;
  /**
   * Serve clients of other processes instead of those of this one. `unix:PATH`: over shared memory; the socket is for this
   * user's processes only. `ib:HOST:PORT`: over an RDMA device, for clients of any host; connections are set up over TCP,
   * with everybody who reaches that port. Directory i > 0 listens at PATH.i, or at the i-th port after PORT.
   */
  readonly listen?: string;
  /** The RDMA device for an address `ib:HOST:PORT`, as openDevice() names it. Default: the first. */
  readonly device?: string;
  /**
   * Serve although the device does not hold accesses to the bounds of memory windows, as Soft-RoCE does not: whoever has a
   * lease then reaches all memory of the node. For tests and measurements; every start warns of it. Default false.
   */
  readonly allowUnboundedWindows?: boolean;
  /** Threads that execute the one-sided operations of such clients, for each directory. Default 1. */
  readonly engineThreads?: number;
  /**
   * Take the node's memory in pages of this size from the system's pool of huge pages; the start fails if there are too few.
   * Default: ordinary pages, which the kernel joins to larger ones where it can.
   */
  readonly hugePages?: HugePages;
  /** Take the node's memory from this NUMA node only; the start fails if there is none. Default: from any. */
  readonly numaNode?: number;
  /** The node joins it under its id while it runs. It stays the caller's to close. */
  readonly keeper?: Keeper;
}

export const MAX_DIRECTORIES = 16;

/** What a client needs to connect; can be sent to other threads of the process. */
export interface NodeEndpoint {
  readonly nodeId: number;
  readonly address: string;
}

/** A memory node of this process: memory that clients reach one-sided, and threads that grant leases on it. */
export class PatronusNode implements AsyncDisposable {
  readonly endpoint: NodeEndpoint;
  /** Resolves once the node was closed, rejects if it fails. */
  readonly ended: Promise<void>;
  private readonly directories: readonly DirectoryThread[];

  /**
   * Start a memory node; resolves when clients can connect. It does not keep the process alive.
   * Rejects with ERR_PATRONUS_LISTEN if it can't listen at that address, has no memory, or the device does not protect
   * memory (see allowUnboundedWindows), and with what
   * Keeper.joinAsNode() rejects with.
   */
  static async start(options: PatronusNodeOptions = {}): Promise<PatronusNode> {
    const checked = directoryOptions(options);
    const directories = integer('directories', options.directories ?? 1, 1, MAX_DIRECTORIES);
    const threads = await startDirectories(checked, directories, options);
    const [{ ready }] = threads as [DirectoryThread];
    if (!ready.windowBounds) {
      process.emitWarning(
        `memory node ${checked.nodeId}: the device ${ready.device} does not hold accesses to the bounds of memory windows; whoever has a lease reaches all memory of the node`,
        { code: 'PATRONUS_UNBOUNDED_WINDOWS' },
      );
    }
    const node = new PatronusNode(checked.nodeId, threads, options.keeper);
    try {
      await options.keeper?.joinAsNode(checked.nodeId, ready.address);
    } catch (error) {
      await node.close();
      throw error;
    }
    return node;
  }

  private constructor(nodeId: number, directories: readonly DirectoryThread[], keeper: Keeper | undefined) {
    this.endpoint = { nodeId, address: directories[0]!.ready.address };
    this.directories = directories;
    // However it ends: nobody finds it any more.
    this.ended = allEnded(directories).finally(() => keeper?.leave());
    this.ended.catch(() => {});
  }

  /** Counters since the start, and what is in use now: of all directories together. */
  stats(): NodeStats {
    return readStats(this.directories.map(({ counters }) => counters));
  }

  /** The same of each directory. */
  directoryStats(): NodeStats[] {
    return this.directories.map(({ counters }) => readStats([counters]));
  }

  /**
   * End all leases and connections, give the memory back. Rejects with the reason if the node had failed before. The threads
   * stay, idle, for another quarter of a second, and the process with them unless it is told to exit.
   */
  async close(): Promise<void> {
    for (const directory of this.directories) directory.stop();
    await this.ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Directory 0 comes last: whoever reaches it can reach the others. The first one to start has the memory. */
async function startDirectories(
  options: DirectoryOptions,
  directories: number,
  { device, allowUnboundedWindows = false }: PatronusNodeOptions,
): Promise<DirectoryThread[]> {
  const common = commonPlace(options, directories);
  const threads: DirectoryThread[] = [];
  try {
    for (let directory = directories - 1; directory >= 0; directory--) {
      const others = threads.map(({ ready }) => addressEnd(ready.address));
      const memory = threads[0]?.ready.memory;
      const place: Place = { ...common, directory, memory, others };
      const own = { ...options, listen: listenAddress(options.listen, directory) };
      threads.unshift(await DirectoryThread.start({ options: own, device, allowUnboundedWindows, place }));
    }
    return threads;
  } catch (error) {
    for (const thread of threads) thread.stop();
    await Promise.allSettled(threads.map(({ ended }) => ended));
    throw error;
  }
}

/** A node without one of its directories is none: with the first one all end. Rejects with the first failure. */
async function allEnded(directories: readonly DirectoryThread[]): Promise<void> {
  const ends = directories.map(({ ended }) =>
    ended.finally(() => {
      for (const directory of directories) directory.stop();
    }),
  );
  const outcomes = await Promise.allSettled(ends);
  const failed = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
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
  const { listen, hugePages } = options;
  if (hugePages !== undefined && hugePages !== '2MiB' && hugePages !== '1GiB') {
    throw new RangeError(`hugePages must be 2MiB or 1GiB, not ${hugePages}`);
  }
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
    hugePages,
    numaNode: options.numaNode === undefined ? undefined : integer('numaNode', options.numaNode, 0, 1023),
  };
}

function integer(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${name} must be an integer from ${least} to ${most}, not ${value}`);
  }
  return value;
}
