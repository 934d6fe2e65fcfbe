import { addon } from '../addon.js';
import type { CompletionChannel } from '../contract.js';
import type { SoftDevice } from './device.js';

export class SoftChannel implements CompletionChannel {
  readonly closeRank = 5;
  readonly fd: number;
  handle: number;
  private readonly device: SoftDevice;

  constructor(device: SoftDevice, made: { handle: number; fd: number }) {
    this.device = device;
    this.handle = made.handle;
    this.fd = made.fd;
    device.children.add(this);
  }

  wait(timeoutNs: number): boolean {
    return addon.waitChannel(this.handle, Math.ceil(timeoutNs));
  }

  onSignal(listener: (() => void) | undefined): void {
    addon.listenToChannel(this.handle, listener);
  }

  close(): void {
    if (this.handle === 0) return;
    addon.closeObject(this.handle);
    this.handle = 0;
    this.device.children.delete(this);
  }
}
