import { addon } from '../addon.js';
import type { QueuePair } from '../contract.js';
import { LOADS_IN_ORDER } from '../loads.js';
import { ReceiveRing } from '../receive-ring.js';
import { ALL_REMOTE, SendRing } from '../send-ring.js';
import { QpState, RingLayout } from '../verbs.js';
import type { SoftDevice } from './device.js';

const { doorbell } = addon;
const ringing = new Uint32Array(addon.ringing, 0, 1);
const STATE = RingLayout.QP_STATE / 4;
/** No pair is ever at this place. */
const CLOSED = 0xffffffff;

export class SoftQueuePair extends SendRing implements QueuePair {
  readonly closeRank = 1;
  readonly qpNum: number;
  /** Names the pair to the doorbell. */
  private place: number;
  handle: number;
  private readonly device: SoftDevice;
  /** None if it takes from a shared queue. */
  private readonly receives: ReceiveRing | undefined;

  constructor(
    device: SoftDevice,
    made: {
      handle: number;
      qpNum: number;
      sendRing: ArrayBuffer;
      recvRing?: ArrayBuffer;
      place: number;
    },
    sendDepth: number,
    recvDepth: number,
  ) {
    super(made.sendRing, sendDepth);
    this.device = device;
    this.handle = made.handle;
    this.qpNum = made.qpNum;
    this.receives = made.recvRing && new ReceiveRing(made.recvRing, recvDepth);
    this.place = made.place;
    device.children.add(this);
  }

  get remoteQpNum(): number {
    return addon.qpRemote(this.handle);
  }

  get state(): QpState {
    return addon.qpState(this.handle) as QpState;
  }

  modify(state: QpState, access: number = ALL_REMOTE): void {
    addon.modifyQp(this.handle, state, access);
    if (state === QpState.RESET) this.goOnAfterReset();
  }

  doorbell(): void {
    this.publish();
    this.ring();
  }

  postRecv(wrId: number, localAddr: number, lkey: number, length: number): boolean {
    if (this.receives === undefined || !this.receives.post(wrId, localAddr, lkey, length)) return false;
    // A pair that fails flushes what it sees: either it has seen this buffer, or its state is seen here.
    if ((LOADS_IN_ORDER ? this.send[STATE] : Atomics.load(this.send, STATE)) === QpState.ERR) this.ring();
    return true;
  }

  private ring(): void {
    ringing[0] = this.place;
    doorbell();
  }

  close(): void {
    if (this.handle === 0) return;
    addon.closeQp(this.handle);
    this.handle = 0;
    this.closeRing();
    this.receives?.close();
    this.place = CLOSED;
    this.device.children.delete(this);
  }
}
