import type { Device, ProtectionDomain } from '../../native/index.js';
import {
  AcquireFlag,
  type AcquireRequest,
  type AcquireResult,
  AcquireStatus,
  type AllocateRequest,
  type AllocateResult,
  type Batch,
  type NodeLayout,
} from '../api.js';
import type { PatronusError } from '../errors.js';
import { addressWithEnd } from '../wire/addresses.js';
import type { BufferPool } from './buffers.js';
import { type ConnectionOptions, NodeConnection, type Target } from './node-connection.js';
import { SplitBatch } from './split-batch.js';

/**
 * A memory node as a client knows it: connections to all its directories, which are lost together. A lease on allocated memory
 * comes from the directory that the memory belongs to, any other one from where the client is at home.
 */
export class ConnectedNode {
  /** By their numbers. */
  readonly directories: readonly NodeConnection[];
  /** In the order in which they are asked for memory: first where the client is at home. */
  private readonly fromHome: readonly NodeConnection[];

  static async open(
    device: Device,
    pd: ProtectionDomain,
    buffers: BufferPool,
    target: Target,
    options: ConnectionOptions,
  ): Promise<ConnectedNode> {
    const first = await NodeConnection.open(device, pd, buffers, target, options);
    const directories = [first];
    let home = 0;
    try {
      for (let directory = 1; directory < first.directories; directory++) {
        const introduction = await first.introduction(directory);
        home = introduction.home;
        const address = addressWithEnd(target.address, introduction.addressEnd);
        const node = { nodeId: first.layout.nodeId, address };
        directories.push(
          await NodeConnection.open(device, pd, buffers, node, options, { ...introduction, first }),
        );
      }
      return new ConnectedNode(directories, home);
    } catch (error) {
      for (const connection of directories) connection.close();
      throw error;
    }
  }

  private constructor(directories: readonly NodeConnection[], home: number) {
    this.directories = directories;
    this.fromHome = [...directories.slice(home), ...directories.slice(0, home)];
    if (directories.length === 1) return;
    for (const connection of directories) connection.whenLost = (error) => this.lose(error);
    // One may have been lost since.
    const { failure } = directories.find((connection) => connection.failure !== undefined) ?? directories[0]!;
    if (failure !== undefined) this.lose(failure);
  }

  get target(): Target {
    return this.directories[0]!.target;
  }

  get layout(): NodeLayout {
    return this.directories[0]!.layout;
  }

  get identity(): number {
    return this.directories[0]!.identity;
  }

  get epsilonNs(): number {
    return this.directories[0]!.clock.epsilonNs();
  }

  get failure(): PatronusError | undefined {
    return this.directories[0]!.failure;
  }

  /** The directory that grants leases on this range. */
  directoryOf(offset: number, size: number): NodeConnection {
    const [home] = this.fromHome as readonly [NodeConnection];
    if (this.directories.length === 1) return home;
    return this.directories.find((directory) => directory.hasPart(offset, size)) ?? home;
  }

  acquire(request: AcquireRequest, write: boolean): Promise<AcquireResult> {
    const { offset = 0, size, flags = 0 } = request;
    if ((flags & AcquireFlag.WithAllocation) === 0) {
      return this.directoryOf(offset, size).requests.acquire(request, write);
    }
    return this.whereMemoryIs((directory) => directory.requests.acquire(request, write));
  }

  allocate(request: AllocateRequest): Promise<AllocateResult> {
    return this.whereMemoryIs((directory) => directory.requests.allocate(request));
  }

  newBatch(): Batch {
    const [first] = this.directories as readonly [NodeConnection];
    return this.directories.length === 1 ? first.newBatch() : new SplitBatch(this.directories);
  }

  close(): void {
    for (const connection of this.directories) connection.close();
  }

  private async whereMemoryIs<T extends { readonly status: AcquireStatus }>(
    ask: (directory: NodeConnection) => Promise<T>,
  ): Promise<T> {
    let result: T | undefined;
    for (const directory of this.fromHome) {
      result = await ask(directory);
      if (result.status !== AcquireStatus.NoMem) break;
    }
    return result!;
  }

  private lose(error: PatronusError): void {
    for (const connection of this.directories) connection.lose(error);
  }
}
