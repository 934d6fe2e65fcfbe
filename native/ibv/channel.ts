import { addon } from '../addon.js';
import type { CompletionChannel } from '../contract.js';
import type { IbvDevice } from './device.js';

const { ibv } = addon;

export class IbvChannel implements CompletionChannel {
  readonly closeRank = 5;
  readonly fd: number;
  handle: number;
  private readonly device: IbvDevice;

  constructor(device: IbvDevice, made: { handle: number; fd: number }) {
    this.device = device;
    this.handle = made.handle;
    this.fd = made.fd;
    device.children.add(this);
  }

  wait(timeoutNs: number): boolean {
    return ibv.waitChannel(this.handle, Math.ceil(timeoutNs));
  }

  onSignal(listener: (() => void) | undefined): void {
    ibv.listenToChannel(this.handle, listener);
  }

  close(): void {
    if (this.handle === 0) return;
    ibv.closeObject(this.handle);
    this.handle = 0;
    this.device.children.delete(this);
  }
}
