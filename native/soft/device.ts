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
  ProtectionDomain,
  QueuePair,
} from '../contract.js';
import { SoftChannel } from './channel.js';
import { SoftCompletionQueue } from './completion-queue.js';
import { SoftConnection, SoftListener } from './connection.js';
import { SoftHostMemory, SoftProtectionDomain } from './memory.js';
import { SoftQueuePair } from './queue-pair.js';

const ATTR: DeviceAttr = {
  name: 'soft0',
  maxQp: 65536,
  maxQpWr: 32768,
  maxCq: 65536,
  maxCqe: 2 ** 22,
  maxMr: 2 ** 22,
  maxMw: 2 ** 22,
  maxPd: 65536,
  maxInline: 0,
  rebindBoundWindow: true,
  windowScope: 'pd',
  windowBounds: true,
};

/** What is different when clients of this process reach listeners of others. */
const SHARED_ATTR = { name: 'shm0', maxMr: 2 ** 16 - 1, maxMw: 2 ** 16 - 1 };

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

  allocMemory(byteLength: number): HostMemory {
    return new SoftHostMemory(this, addon.allocMemory(this.handle, byteLength), byteLength);
  }

  allocPd(): ProtectionDomain {
    return new SoftProtectionDomain(this, addon.allocPd(this.handle));
  }

  createChannel(): CompletionChannel {
    return new SoftChannel(this, addon.createChannel(this.handle));
  }

  createCq(depth: number, channel?: CompletionChannel): CompletionQueue {
    const channelHandle = channel === undefined ? undefined : softObject(SoftChannel, channel).handle;
    return new SoftCompletionQueue(this, addon.createCq(this.handle, 2 * depth, channelHandle), depth);
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

/** An object of a device. Lower ranks are closed first, as what they use has a higher one. */
export interface Child {
  readonly closeRank: number;
  close(): void;
}

/** Narrow an object of the contract to this provider's class; a TypeError for another provider's. */
export function softObject<T>(type: abstract new (...args: never[]) => T, object: unknown): T {
  if (!(object instanceof type)) throw new TypeError(`not a ${type.name}`);
  return object;
}
