import { nowNs, openDevice } from '../../../native/index.js';
import { type ConnectOptions, Patronus } from '../../../patronus/index.js';
import { Directory } from '../../../patronus/memory-node/directory.js';
import { STATS_LENGTH, StatIndex } from '../../../patronus/memory-node/stats.js';
import { RIG_OPTIONS } from './directory-rig.js';
import { threadCpuNs } from './sides.js';

/** A turn that took longer was interrupted. */
const LONGEST_TURN_NS = 200e3;

/** CPU time for each lease that was granted, ns. */
export interface CpuPerLease {
  readonly directory: number;
  /** All the rest of the thread: the client, its promises, the event loop. */
  readonly client: number;
}

/** A directory and a client of it on this thread, in turns of the event loop: so neither waits for the other's core. */
export class OneThread {
  readonly client: Patronus;
  private readonly drive: Drive;

  static async start(client: ConnectOptions = {}): Promise<OneThread> {
    const drive = new Drive();
    return new OneThread(await Patronus.connect({ endpoints: [drive.address], ...client }), drive);
  }

  private constructor(client: Patronus, drive: Drive) {
    this.client = client;
    this.drive = drive;
  }

  /** What the leases granted during `work` took. */
  async cpuOf(work: () => Promise<unknown>): Promise<CpuPerLease> {
    const { drive } = this;
    const before = { cpuNs: threadCpuNs(), directoryNs: drive.directoryNs, granted: drive.granted };
    await work();
    const granted = drive.granted - before.granted;
    const directoryNs = drive.directoryNs - before.directoryNs;
    const cpuNs = threadCpuNs() - before.cpuNs;
    return { directory: directoryNs / granted, client: (cpuNs - directoryNs) / granted };
  }

  async close(): Promise<void> {
    await this.client.close();
    this.drive.close();
  }
}

/** Runs the directory's loop, a turn in each turn of the event loop. */
class Drive {
  readonly address: string;
  directoryNs = 0;
  private readonly device = openDevice();
  private readonly counters = new Float64Array(STATS_LENGTH);
  private over = false;

  constructor() {
    const directory = new Directory(this.device, RIG_OPTIONS, new Int32Array(1), this.counters);
    this.address = directory.listener.address;
    const inside = directory as unknown as { turn(): boolean; look(): void };
    const drive = () => {
      if (this.over) return;
      const begun = nowNs();
      inside.turn();
      const took = nowNs() - begun;
      if (took < LONGEST_TURN_NS) this.directoryNs += took;
      setImmediate(drive);
    };
    const connect = () => {
      if (this.over) return;
      inside.look();
      setTimeout(connect, 1);
    };
    drive();
    connect();
  }

  get granted(): number {
    return this.counters[StatIndex.acquired]!;
  }

  close(): void {
    this.over = true;
    this.device.close();
  }
}
