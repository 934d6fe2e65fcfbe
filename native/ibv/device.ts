import { addon } from '../addon.js';
import type {
  CompletionChannel,
  CompletionQueue,
  Connection,
  Device,
  DeviceAttr,
  HostMemory,
  Listener,
  ListenOptions,
  MemoryOptions,
  PortAttr,
  ProtectionDomain,
  QueuePair,
} from '../contract.js';
import { hugePageBytes } from '../huge-pages.js';
import type { Child } from '../memory.js';
import { WqeLayout } from '../verbs.js';
import { IbvChannel } from './channel.js';
import { IbvCompletionQueue } from './completion-queue.js';
import { IbvConnection, IbvListener } from './connection.js';
import { IbvHostMemory, IbvProtectionDomain } from './memory.js';
import { IbvQueuePair } from './queue-pair.js';

const { ibv } = addon;

/** How a device of libibverbs is to be used. */
export interface IbvOptions {
  /** As libibverbs names it, e.g. `mlx5_0`, `rxe0`. */
  readonly device: string;
  readonly port: number;
  /** Place in the port's table of global identifiers; undefined chooses. */
  readonly gid: number | undefined;
  /** Type of the memory windows; undefined chooses what the device does best. */
  readonly windows: 1 | 2 | undefined;
}

/** What a device does with memory windows, as seen and not as it says: see probe(). */
export type WindowAttr = Pick<DeviceAttr, 'windowScope' | 'windowBounds' | 'rebindBoundWindow'>;

/** Before the probe: nothing is promised. */
const UNKNOWN: WindowAttr = { windowScope: 'qp', windowBounds: false, rebindBoundWindow: false };

export class IbvDevice implements Device {
  readonly attr: DeviceAttr;
  /** What was made from it and is open. */
  readonly children = new Set<Child>();
  private handle: number;

  /** `windows`: what a probe has found out, if there was one; null: they do not work, so there are none. */
  constructor(options: IbvOptions, windowType: 1 | 2, windows: WindowAttr | null = UNKNOWN) {
    const { handle, ...limits } = ibv.openDevice(options.device, options.port, options.gid, windowType);
    this.handle = handle;
    this.attr = {
      name: `ib:${options.device}`,
      ...limits,
      maxMw: windows === null ? 0 : limits.maxMw,
      maxInline: WqeLayout.INLINE_BYTES,
      ...(windows ?? UNKNOWN),
      queuesAcrossConnections: true,
    };
  }

  allocMemory(byteLength: number, { hugePages, numaNode }: MemoryOptions = {}): HostMemory {
    const handle = ibv.allocMemory(this.handle, byteLength, hugePageBytes(hugePages), numaNode);
    return new IbvHostMemory(this, handle, byteLength);
  }

  openMemory(number: number): HostMemory {
    const { handle, byteLength } = ibv.openMemory(number);
    return new IbvHostMemory(this, handle, byteLength);
  }

  allocPd(): ProtectionDomain {
    return new IbvProtectionDomain(this, ibv.allocPd(this.handle));
  }

  createChannel(): CompletionChannel {
    return new IbvChannel(this, ibv.createChannel(this.handle));
  }

  createCq(depth: number, channel?: CompletionChannel): CompletionQueue {
    const channelHandle = channel === undefined ? undefined : ibvObject(IbvChannel, channel).handle;
    return new IbvCompletionQueue(this, ibv.createCq(this.handle, 2 * depth, channelHandle), depth);
  }

  queryPort(): PortAttr {
    return ibv.queryPort(this.handle);
  }

  listen(channel: CompletionChannel, options: ListenOptions = {}): Listener {
    const channelHandle = ibvObject(IbvChannel, channel).handle;
    return new IbvListener(this, ibv.listen(this.handle, options.address, channelHandle));
  }

  connect(address: string, qps: readonly QueuePair[], channel: CompletionChannel): Connection {
    const handles = qps.map((qp) => ibvObject(IbvQueuePair, qp).handle);
    const channelHandle = ibvObject(IbvChannel, channel).handle;
    const connection = new IbvConnection(this, ibv.connect(this.handle, address, handles, channelHandle));
    connection.pursue();
    return connection;
  }

  close(): void {
    if (this.handle === 0) return;
    for (const child of [...this.children].sort((a, b) => a.closeRank - b.closeRank)) child.close();
    ibv.closeObject(this.handle);
    this.handle = 0;
  }
}

/** Narrow an object of the contract to this provider's class; a TypeError for another provider's. */
export function ibvObject<T>(type: abstract new (...args: never[]) => T, object: unknown): T {
  if (!(object instanceof type)) throw new TypeError(`not a ${type.name}`);
  return object;
}
