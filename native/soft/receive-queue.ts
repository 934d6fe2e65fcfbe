import { addon } from '../addon.js';
import type { SharedReceiveQueue } from '../contract.js';
import { ReceiveRing } from '../receive-ring.js';
import type { SoftDevice } from './device.js';

export class SoftSharedReceiveQueue implements SharedReceiveQueue {
  readonly closeRank = 2;
  handle: number;
  private readonly device: SoftDevice;
  private readonly ring: ReceiveRing;

  constructor(device: SoftDevice, made: { handle: number; ring: ArrayBuffer }, maxWr: number) {
    this.device = device;
    this.handle = made.handle;
    this.ring = new ReceiveRing(made.ring, maxWr);
    device.children.add(this);
  }

  postRecv(wrId: number, localAddr: number, lkey: number, length: number): boolean {
    return this.ring.post(wrId, localAddr, lkey, length);
  }

  close(): void {
    if (this.handle === 0) return;
    addon.closeSrq(this.handle);
    this.handle = 0;
    this.ring.close();
    this.device.children.delete(this);
  }
}
