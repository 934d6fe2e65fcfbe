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
import { IbvCompletionQueue } from './completion-queue.js';
import { type IbvDevice, ibvObject } from './device.js';
import { IbvQueuePair, IbvSharedReceiveQueue } from './queue-pair.js';

const { ibv } = addon;

export class IbvHostMemory implements HostMemory {
  readonly closeRank = 6;
  readonly byteLength: number;
  handle: number;
  private readonly device: IbvDevice;
  private view: ArrayBuffer | undefined;

  constructor(device: IbvDevice, handle: number, byteLength: number) {
    this.device = device;
    this.handle = handle;
    this.byteLength = byteLength;
    device.children.add(this);
  }

  get buffer(): ArrayBuffer {
    this.view ??= ibv.memoryBuffer(this.handle);
    return this.view;
  }

  publish(): number {
    return ibv.publishMemory(this.handle);
  }

  close(): void {
    if (this.handle === 0) return;
    ibv.closeObject(this.handle);
    this.handle = 0;
    this.device.children.delete(this);
  }
}

export class IbvProtectionDomain implements ProtectionDomain {
  readonly closeRank = 7;
  readonly device: IbvDevice;
  handle: number;

  constructor(device: IbvDevice, handle: number) {
    this.device = device;
    this.handle = handle;
    device.children.add(this);
  }

  regMr(memory: HostMemory, offset: number, length: number, access: number, iova = offset): MemoryRegion {
    const memoryHandle = ibvObject(IbvHostMemory, memory).handle;
    const keys = ibv.regMr(this.handle, memoryHandle, offset, length, access, iova);
    return new IbvRegion(this, keys, iova, length);
  }

  allocMw(): MemoryWindow {
    return new IbvWindow(this, ibv.allocMw(this.handle));
  }

  createSrq(maxWr: number): SharedReceiveQueue {
    return new IbvSharedReceiveQueue(this.device, ibv.createSrq(this.handle, maxWr), maxWr);
  }

  createQp(init: QueuePairInit): QueuePair {
    const { maxSendWr, maxRecvWr } = init;
    const sendCq = ibvObject(IbvCompletionQueue, init.sendCq).handle;
    const recvCq = ibvObject(IbvCompletionQueue, init.recvCq).handle;
    const srq = init.srq && ibvObject(IbvSharedReceiveQueue, init.srq).handle;
    const made = ibv.createQp(this.handle, sendCq, recvCq, maxSendWr, maxRecvWr, srq);
    return new IbvQueuePair(this.device, made, maxSendWr, maxRecvWr, srq !== undefined);
  }

  close(): void {
    if (this.handle === 0) return;
    ibv.closePd(this.handle);
    this.handle = 0;
    this.device.children.delete(this);
  }
}

class IbvRegion implements MemoryRegion {
  readonly closeRank = 3;
  readonly lkey: number;
  readonly rkey: number;
  readonly iova: number;
  readonly length: number;
  private readonly pd: IbvProtectionDomain;
  private open = true;

  constructor(pd: IbvProtectionDomain, keys: { lkey: number; rkey: number }, iova: number, length: number) {
    this.pd = pd;
    this.lkey = keys.lkey;
    this.rkey = keys.rkey;
    this.iova = iova;
    this.length = length;
    pd.device.children.add(this);
  }

  close(): void {
    if (!this.open) return;
    ibv.deregMr(this.pd.handle, this.lkey);
    this.open = false;
    this.pd.device.children.delete(this);
  }
}

class IbvWindow implements MemoryWindow {
  readonly closeRank = 2;
  readonly keyBase: number;
  private readonly pd: IbvProtectionDomain;
  private open = true;

  constructor(pd: IbvProtectionDomain, keyBase: number) {
    this.pd = pd;
    this.keyBase = keyBase;
    pd.device.children.add(this);
  }

  close(): void {
    if (!this.open) return;
    ibv.deallocMw(this.pd.handle, this.keyBase);
    this.open = false;
    this.pd.device.children.delete(this);
  }
}
