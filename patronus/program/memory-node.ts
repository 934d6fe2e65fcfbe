import { type Keeper, memcachedKeeper, PatronusNode } from '../index.js';
import type { Settings } from './settings.js';
import { formatSize } from './size.js';

/** What runs, as the report says it. */
export interface Report {
  readonly version: string;
  readonly pid: number;
  readonly nodeId: number;
  /** Where clients connect. */
  readonly address: string;
  readonly memoryBytes: number;
  readonly leaseMemoryBytes: number;
  readonly maxClients: number;
  readonly maxLeases: number;
  readonly directories: number;
  readonly policy: Settings['policy'];
  readonly memcached: string | null;
  readonly cluster: string | null;
}

/** A memory node as a program runs it: with its keeper. */
export class RunningNode {
  readonly report: Report;
  /** Rejects when the node fails; resolves once it was closed. */
  readonly ended: Promise<void>;
  private readonly node: PatronusNode;
  private readonly keeper: Keeper | undefined;

  static async start(settings: Settings, version: string): Promise<RunningNode> {
    const { memcached, cluster, expirySeconds, device, hugePages, numaNode } = settings;
    const keeper =
      memcached === undefined ? undefined : memcachedKeeper(memcached, { cluster, expirySeconds });
    try {
      const node = await PatronusNode.start({
        nodeId: settings.nodeId,
        leaseBytes: settings.leaseMemory,
        allocBytes: settings.memory,
        maxLeases: settings.maxLeases,
        maxClients: settings.maxClients,
        listen: settings.listen,
        engineThreads: settings.engineThreads,
        directories: settings.directories,
        policy: settings.policy,
        allowUnboundedWindows: settings.allowUnboundedWindows,
        ...(device === undefined ? {} : { device }),
        ...(hugePages === undefined ? {} : { hugePages }),
        ...(numaNode === undefined ? {} : { numaNode }),
        ...(keeper === undefined ? {} : { keeper }),
      });
      return new RunningNode(node, keeper, settings, version);
    } catch (error) {
      await keeper?.close();
      throw error;
    }
  }

  private constructor(node: PatronusNode, keeper: Keeper | undefined, settings: Settings, version: string) {
    this.node = node;
    this.keeper = keeper;
    this.ended = node.ended;
    this.report = {
      version,
      pid: process.pid,
      nodeId: settings.nodeId,
      address: node.endpoint.address,
      memoryBytes: settings.memory,
      leaseMemoryBytes: settings.leaseMemory,
      maxClients: settings.maxClients,
      maxLeases: settings.maxLeases,
      directories: settings.directories,
      policy: settings.policy,
      memcached: settings.memcached ?? null,
      cluster: settings.memcached === undefined ? null : settings.cluster,
    };
  }

  /** Leave the cluster, end all leases and connections. */
  async close(): Promise<void> {
    try {
      await this.node.close();
    } finally {
      await this.keeper?.close();
    }
  }
}

/** For people. */
export function readable(report: Report): string {
  const found =
    report.memcached === null
      ? 'Clients find it by this address.'
      : `Clients find it by this address, or as a member of cluster ${report.cluster} at memcached ${report.memcached}.`;
  return `memory node ${report.nodeId} of patronus ${report.version} (process ${report.pid}) listens at ${report.address}
It has ${formatSize(report.memoryBytes)} to allocate and ${formatSize(report.leaseMemoryBytes)} at fixed addresses, for ${report.maxClients} clients with ${report.maxLeases} leases${report.directories === 1 ? '' : ` at each of ${report.directories} directories`}.
${found} What is in its memory is gone when it stops (Ctrl-C).
`;
}
