import { addon } from '../addon.js';
import type { QueuePair, SharedReceiveQueue } from '../contract.js';
import { ReceiveRing } from '../receive-ring.js';
import { ALL_REMOTE, SendRing } from '../send-ring.js';
import { QpState } from '../verbs.js';
import type { IbvDevice } from './device.js';

const { ibv } = addon;
const { doorbell, flushReceives, flushShared } = ibv;
/** No pair or queue is ever at this place. */
const CLOSED = 0xffffffff;

export class IbvQueuePair extends SendRing implements QueuePair {
  readonly closeRank = 1;
  readonly qpNum: number;
  handle: number;
  private readonly device: IbvDevice;
  /** Names the pair to the device. */
  private place: number;
  /** None if it takes from a shared queue. */
  private readonly receives: ReceiveRing | undefined;

  constructor(
    device: IbvDevice,
    made: { handle: number; qpNum: number; sendRing: ArrayBuffer; recvRing: ArrayBuffer; place: number },
    sendDepth: number,
    recvDepth: number,
    sharesReceives: boolean,
  ) {
    super(made.sendRing, sendDepth);
    this.device = device;
    this.handle = made.handle;
    this.qpNum = made.qpNum;
    this.place = made.place;
    this.receives = sharesReceives ? undefined : new ReceiveRing(made.recvRing, recvDepth);
    device.children.add(this);
  }

  get remoteQpNum(): number {
    return ibv.qpRemote(this.handle);
  }

  get state(): QpState {
    return ibv.qpState(this.handle) as QpState;
  }

  modify(state: QpState, access: number = ALL_REMOTE): void {
    // The reset drops what was posted, rung or not.
    if (state === QpState.RESET) this.publish();
    ibv.modifyQp(this.handle, state, access);
  }

  doorbell(): void {
    this.publish();
    doorbell(this.place);
  }

  postRecv(wrId: number, localAddr: number, lkey: number, length: number): boolean {
    if (this.receives === undefined || !this.receives.post(wrId, localAddr, lkey, length)) return false;
    flushReceives(this.place);
    return true;
  }

  close(): void {
    if (this.handle === 0) return;
    ibv.closeQp(this.handle);
    this.handle = 0;
    this.closeRing();
    this.receives?.close();
    this.place = CLOSED;
    this.device.children.delete(this);
  }
}

export class IbvSharedReceiveQueue implements SharedReceiveQueue {
  readonly closeRank = 3;
  handle: number;
  private readonly device: IbvDevice;
  private readonly ring: ReceiveRing;
  private place: number;

  constructor(device: IbvDevice, made: { handle: number; ring: ArrayBuffer; place: number }, depth: number) {
    this.device = device;
    this.handle = made.handle;
    this.place = made.place;
    this.ring = new ReceiveRing(made.ring, depth);
    device.children.add(this);
  }

  postRecv(wrId: number, localAddr: number, lkey: number, length: number): boolean {
    if (!this.ring.post(wrId, localAddr, lkey, length)) return false;
    flushShared(this.place);
    return true;
  }

  close(): void {
    if (this.handle === 0) return;
    ibv.closeSrq(this.handle);
    this.handle = 0;
    this.ring.close();
    this.place = CLOSED;
    this.device.children.delete(this);
  }
}
