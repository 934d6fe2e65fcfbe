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
import { IbvCompletionQueue } from './completion-queue.js';
import { type IbvDevice, ibvObject } from './device.js';
import { IbvQueuePair, IbvSharedReceiveQueue } from './queue-pair.js';

const { ibv } = addon;

export class IbvHostMemory extends MappedMemory {
  constructor(device: IbvDevice, handle: number, byteLength: number) {
    super(ibv, device, handle, byteLength);
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
    return new Region(ibv, this, keys, iova, length);
  }

  allocMw(): MemoryWindow {
    return new Window(ibv, this, ibv.allocMw(this.handle));
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
