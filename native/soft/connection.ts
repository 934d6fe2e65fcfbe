import { addon, type MadeConnection } from '../addon.js';
import type { Connection, ConnectionState, Listener, QueuePair } from '../contract.js';
import { type SoftDevice, softObject } from './device.js';
import { SoftQueuePair } from './queue-pair.js';

export class SoftConnection implements Connection {
  readonly closeRank = 0;
  readonly id: number;
  readonly qpCount: number;
  readonly peer: Connection['peer'];
  private handle: number;
  private readonly device: SoftDevice;
  private readonly onClose: () => void;

  constructor(device: SoftDevice, made: MadeConnection, onClose: () => void = () => {}) {
    this.device = device;
    this.handle = made.handle;
    this.id = made.id;
    this.qpCount = made.qpCount;
    this.peer = made.peer;
    this.onClose = onClose;
    device.children.add(this);
  }

  get state(): ConnectionState {
    return this.handle === 0 ? 'closed' : addon.connectionState(this.handle);
  }

  accept(qps: readonly QueuePair[]): void {
    addon.acceptConnection(
      this.handle,
      qps.map((qp) => softObject(SoftQueuePair, qp).handle),
    );
  }

  reject(): void {
    if (this.handle === 0) return;
    addon.rejectConnection(this.handle);
    this.close();
  }

  close(): void {
    if (this.handle === 0) return;
    addon.closeConnection(this.handle);
    this.handle = 0;
    this.device.children.delete(this);
    this.onClose();
  }
}

export class SoftListener implements Listener {
  readonly closeRank = 0;
  readonly address: string;
  private handle: number;
  private readonly device: SoftDevice;
  /** Those that were not closed here, by id. */
  private readonly connections = new Map<number, SoftConnection>();

  constructor(device: SoftDevice, made: { handle: number; address: string }) {
    this.device = device;
    this.handle = made.handle;
    this.address = made.address;
    device.children.add(this);
  }

  nextConnection(): Connection | undefined {
    const made = addon.nextConnection(this.handle);
    if (made === undefined) return undefined;
    const connection = new SoftConnection(this.device, made, () => this.connections.delete(made.id));
    this.connections.set(made.id, connection);
    return connection;
  }

  nextDisconnection(): Connection | undefined {
    for (;;) {
      const id = addon.nextDisconnection(this.handle);
      if (id === undefined) return undefined;
      const connection = this.connections.get(id);
      if (connection !== undefined) return connection;
    }
  }

  close(): void {
    if (this.handle === 0) return;
    addon.closeListener(this.handle);
    this.handle = 0;
    this.device.children.delete(this);
  }
}
