import { addon } from '../addon.js';
import { CompletionRing } from '../completion-ring.js';
import type { Completion, CompletionQueue } from '../contract.js';
import type { IbvDevice } from './device.js';

const { armCq, closeCq, pump } = addon.ibv;
/** No queue is ever at this place. */
const CLOSED = 0xffffffff;

export class IbvCompletionQueue extends CompletionRing implements CompletionQueue {
  readonly closeRank = 4;
  readonly depth: number;
  handle: number;
  private readonly device: IbvDevice;
  /** Names the queue to the device. */
  private place: number;

  constructor(device: IbvDevice, made: { handle: number; ring: ArrayBuffer; place: number }, depth: number) {
    super(made.ring, depth);
    this.device = device;
    this.handle = made.handle;
    this.place = made.place;
    this.depth = depth;
    device.children.add(this);
  }

  override poll(into: Completion): boolean {
    if (super.poll(into)) return true;
    // What the device's own queue has goes over into the ring, many at a time.
    pump(this.place);
    return super.poll(into);
  }

  arm(solicitedOnly = false): void {
    if (this.handle !== 0) armCq(this.handle, solicitedOnly);
  }

  close(): void {
    if (this.handle === 0) return;
    closeCq(this.handle);
    this.handle = 0;
    this.place = CLOSED;
    this.device.children.delete(this);
  }
}
