import { addon } from '../addon.js';
import type {
  HostMemory,
  MemoryRegion,
  MemoryWindow,
  ProtectionDomain,
  QueuePair,
  QueuePairInit,
  SharedReceiveQueue,
} from '../contract.js';
import { MappedMemory, Region, Window } from '../memory.js';
import { SoftCompletionQueue } from './completion-queue.js';
import { type SoftDevice, softObject } from './device.js';
import { SoftQueuePair } from './queue-pair.js';
import { SoftSharedReceiveQueue } from './receive-queue.js';

export class SoftHostMemory extends MappedMemory {
  constructor(device: SoftDevice, handle: number, byteLength: number) {
    super(addon, device, handle, byteLength);
  }
}

export class SoftProtectionDomain implements ProtectionDomain {
  readonly closeRank = 7;
  readonly device: SoftDevice;
  handle: number;

  constructor(device: SoftDevice, handle: number) {
    this.device = device;
    this.handle = handle;
    device.children.add(this);
  }

  regMr(memory: HostMemory, offset: number, length: number, access: number, iova = offset): MemoryRegion {
    const memoryHandle = softObject(SoftHostMemory, memory).handle;
    const key = addon.regMr(this.handle, memoryHandle, offset, length, access, iova);
    return new Region(addon, this, { lkey: key, rkey: key }, iova, length);
  }

  allocMw(): MemoryWindow {
    return new Window(addon, this, addon.allocMw(this.handle));
  }

  createSrq(maxWr: number): SharedReceiveQueue {
    return new SoftSharedReceiveQueue(this.device, addon.createSrq(this.handle, maxWr), maxWr);
  }

  createQp(init: QueuePairInit): QueuePair {
    const { maxSendWr, maxRecvWr } = init;
    const srq = init.srq === undefined ? undefined : softObject(SoftSharedReceiveQueue, init.srq).handle;
    const sendCq = softObject(SoftCompletionQueue, init.sendCq).handle;
    const recvCq = softObject(SoftCompletionQueue, init.recvCq).handle;
    return new SoftQueuePair(
      this.device,
      addon.createQp(this.handle, sendCq, recvCq, maxSendWr, maxRecvWr, srq),
      maxSendWr,
      maxRecvWr,
    );
  }

  close(): void {
    if (this.handle === 0) return;
    addon.closePd(this.handle);
    this.handle = 0;
    this.device.children.delete(this);
  }
}
