import { addon } from '../addon.js';
import type { Connection, ConnectionState, Listener, QueuePair } from '../contract.js';
import { type IbvDevice, ibvObject } from './device.js';
import { IbvQueuePair } from './queue-pair.js';

const { ibv } = addon;
const PURSUE_MS = 2;

export class IbvConnection implements Connection {
  readonly closeRank = 0;
  readonly id: number;
  readonly qpCount: number;
  /** The kernel of this host knows no processes of others. */
  readonly peer = undefined;
  private handle: number;
  private readonly device: IbvDevice;
  private readonly onClose: () => void;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    device: IbvDevice,
    made: { handle: number; id: number; qpCount: number },
    onClose: () => void = () => {},
  ) {
    this.device = device;
    this.handle = made.handle;
    this.id = made.id;
    this.qpCount = made.qpCount;
    this.onClose = onClose;
    device.children.add(this);
  }

  get state(): ConnectionState {
    return this.handle === 0 ? 'closed' : ibv.connectionState(this.handle);
  }

  /** Look after it on the event loop until it is answered, for users who do not wait for its channel. */
  pursue(): void {
    if (this.state !== 'connecting') return;
    this.timer = setTimeout(() => this.pursue(), PURSUE_MS).unref();
  }

  accept(qps: readonly QueuePair[]): void {
    ibv.acceptConnection(
      this.handle,
      qps.map((qp) => ibvObject(IbvQueuePair, qp).handle),
    );
  }

  reject(): void {
    if (this.handle === 0) return;
    ibv.rejectConnection(this.handle);
    this.close();
  }

  close(): void {
    if (this.handle === 0) return;
    clearTimeout(this.timer);
    ibv.closeConnection(this.handle);
    this.handle = 0;
    this.device.children.delete(this);
    this.onClose();
  }
}

export class IbvListener implements Listener {
  readonly closeRank = 0;
  readonly address: string;
  private handle: number;
  private readonly device: IbvDevice;
  /** Those that were not closed here, by id. */
  private readonly connections = new Map<number, IbvConnection>();

  constructor(device: IbvDevice, made: { handle: number; address: string }) {
    this.device = device;
    this.handle = made.handle;
    this.address = made.address;
    device.children.add(this);
  }

  nextConnection(): Connection | undefined {
    const made = ibv.nextConnection(this.handle);
    if (made === undefined) return undefined;
    const connection = new IbvConnection(this.device, made, () => this.connections.delete(made.id));
    this.connections.set(made.id, connection);
    return connection;
  }

  nextDisconnection(): Connection | undefined {
    for (;;) {
      const id = ibv.nextDisconnection(this.handle);
      if (id === undefined) return undefined;
      const connection = this.connections.get(id);
      if (connection !== undefined) return connection;
    }
  }

  close(): void {
    if (this.handle === 0) return;
    ibv.closeObject(this.handle);
    this.handle = 0;
    this.device.children.delete(this);
  }
}
