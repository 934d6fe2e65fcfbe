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
import { SoftCompletionQueue } from './completion-queue.js';
import { type SoftDevice, softObject } from './device.js';
import { SoftQueuePair } from './queue-pair.js';
import { SoftSharedReceiveQueue } from './receive-queue.js';

export class SoftHostMemory implements HostMemory {
  readonly closeRank = 6;
  readonly byteLength: number;
  handle: number;
  private readonly device: SoftDevice;
  private view: ArrayBuffer | undefined;

  constructor(device: SoftDevice, handle: number, byteLength: number) {
    this.device = device;
    this.handle = handle;
    this.byteLength = byteLength;
    device.children.add(this);
  }

  get buffer(): ArrayBuffer {
    this.view ??= addon.memoryBuffer(this.handle);
    return this.view;
  }

  publish(): number {
    return addon.publishMemory(this.handle);
  }

  close(): void {
    if (this.handle === 0) return;
    addon.closeObject(this.handle);
    this.handle = 0;
    this.device.children.delete(this);
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
    return new SoftRegion(
      this,
      addon.regMr(this.handle, memoryHandle, offset, length, access, iova),
      iova,
      length,
    );
  }

  allocMw(): MemoryWindow {
    return new SoftWindow(this, addon.allocMw(this.handle));
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

class SoftRegion implements MemoryRegion {
  readonly closeRank = 3;
  readonly lkey: number;
  readonly rkey: number;
  readonly iova: number;
  readonly length: number;
  private readonly pd: SoftProtectionDomain;
  private open = true;

  constructor(pd: SoftProtectionDomain, key: number, iova: number, length: number) {
    this.pd = pd;
    this.lkey = key;
    this.rkey = key;
    this.iova = iova;
    this.length = length;
    pd.device.children.add(this);
  }

  close(): void {
    if (!this.open) return;
    addon.deregMr(this.pd.handle, this.lkey);
    this.open = false;
    this.pd.device.children.delete(this);
  }
}

class SoftWindow implements MemoryWindow {
  readonly closeRank = 2;
  readonly keyBase: number;
  private readonly pd: SoftProtectionDomain;
  private open = true;

  constructor(pd: SoftProtectionDomain, keyBase: number) {
    this.pd = pd;
    this.keyBase = keyBase;
    pd.device.children.add(this);
  }

  close(): void {
    if (!this.open) return;
    addon.deallocMw(this.pd.handle, this.keyBase);
    this.open = false;
    this.pd.device.children.delete(this);
  }
}
