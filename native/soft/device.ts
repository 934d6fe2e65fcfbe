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
import { SoftChannel } from './channel.js';
import { SoftCompletionQueue } from './completion-queue.js';
import { SoftConnection, SoftListener } from './connection.js';
import { SoftHostMemory, SoftProtectionDomain } from './memory.js';
import { SoftQueuePair } from './queue-pair.js';

const ATTR: DeviceAttr = {
  name: 'soft0',
  ...addon.limits,
  rebindBoundWindow: true,
  windowScope: 'pd',
  windowBounds: true,
  queuesAcrossConnections: true,
};

/** What is different when clients of this process reach listeners of others. */
const SHARED_ATTR = { name: 'shm0', ...addon.sharedLimits, queuesAcrossConnections: false };

const PORT: PortAttr = { active: true, linkLayer: 'software', activeMtu: 0, lid: 0, gids: [] };

export class SoftDevice implements Device {
  readonly attr: DeviceAttr;
  /** What was made from it and is open. */
  readonly children = new Set<Child>();
  private handle: number;

  /** `shared`: for connections to other processes. */
  constructor(shared = false) {
    this.attr = shared ? { ...ATTR, ...SHARED_ATTR } : ATTR;
    this.handle = addon.openDevice(shared);
  }

  allocMemory(byteLength: number, { hugePages, numaNode }: MemoryOptions = {}): HostMemory {
    const handle = addon.allocMemory(this.handle, byteLength, hugePageBytes(hugePages), numaNode);
    return new SoftHostMemory(this, handle, byteLength);
  }

  openMemory(number: number): HostMemory {
    const { handle, byteLength } = addon.openMemory(number);
    return new SoftHostMemory(this, handle, byteLength);
  }

  allocPd(): ProtectionDomain {
    return new SoftProtectionDomain(this, addon.allocPd(this.handle));
  }

  createChannel(): CompletionChannel {
    return new SoftChannel(this, addon.createChannel(this.handle));
  }

  createCq(depth: number, channel?: CompletionChannel): CompletionQueue {
    const channelHandle = channel === undefined ? undefined : softObject(SoftChannel, channel).handle;
    return new SoftCompletionQueue(this, addon.createCq(this.handle, depth, channelHandle), depth);
  }

  queryPort(): PortAttr {
    return PORT;
  }

  listen(channel: CompletionChannel, options: ListenOptions = {}): Listener {
    const { address, engineThreads = 1 } = options;
    return new SoftListener(
      this,
      addon.listen(softObject(SoftChannel, channel).handle, address, engineThreads),
    );
  }

  connect(address: string, qps: readonly QueuePair[], channel: CompletionChannel): Connection {
    const handles = qps.map((qp) => softObject(SoftQueuePair, qp).handle);
    return new SoftConnection(this, addon.connect(address, handles, softObject(SoftChannel, channel).handle));
  }

  close(): void {
    if (this.handle === 0) return;
    for (const child of [...this.children].sort((a, b) => a.closeRank - b.closeRank)) child.close();
    addon.closeObject(this.handle);
    this.handle = 0;
  }
}

/** Narrow an object of the contract to this provider's class; a TypeError for another provider's. */
export function softObject<T>(type: abstract new (...args: never[]) => T, object: unknown): T {
  if (!(object instanceof type)) throw new TypeError(`not a ${type.name}`);
  return object;
}
