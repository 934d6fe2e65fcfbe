import { addon } from '../addon.js';
import { CompletionRing } from '../completion-ring.js';
import type { CompletionQueue } from '../contract.js';
import { CqArm, RingLayout } from '../verbs.js';
import type { SoftDevice } from './device.js';

const ARMED = RingLayout.NIC_COUNTER / 4;

export class SoftCompletionQueue extends CompletionRing implements CompletionQueue {
  readonly closeRank = 4;
  readonly depth: number;
  handle: number;
  private readonly device: SoftDevice;

  constructor(device: SoftDevice, made: { handle: number; ring: ArrayBuffer }, depth: number) {
    super(made.ring, depth);
    this.device = device;
    this.handle = made.handle;
    this.depth = depth;
    device.children.add(this);
  }

  arm(solicitedOnly = false): void {
    // Who is to be woken by any completion still is.
    if (solicitedOnly) Atomics.compareExchange(this.ring, ARMED, 0, CqArm.SOLICITED);
    else Atomics.store(this.ring, ARMED, CqArm.NEXT);
  }

  close(): void {
    if (this.handle === 0) return;
    addon.closeCq(this.handle);
    this.handle = 0;
    this.device.children.delete(this);
  }
}
