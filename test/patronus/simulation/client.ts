import {
  AcquireFlag,
  type AcquireRequest,
  AcquireStatus,
  type Lease,
  ModifyFlag,
  Patronus,
  PatronusError,
  RetCode,
  RwFlag,
} from '../../../patronus/index.js';
import { opened, scheduler } from './fake-native.js';
import type { SimDevice } from './nic.js';
import { type Oracle, Violation } from './oracle.js';

export const LEASE_BYTES = 65_536;
const LOCKS = 3;
const OK_OR_FAULT: readonly RetCode[] = [
  RetCode.Ok,
  RetCode.Invalid,
  RetCode.NotFound,
  RetCode.RdmaProtectionErr,
  RetCode.RdmaExecutionErr,
  RetCode.LeaseLocalExpiredErr,
  RetCode.OutcomeUnknown,
];

/** How often a client does what, of 1; a run draws it anew, and switches some off. */
export interface Mix {
  readonly lock: number;
  readonly allocate: number;
  readonly noExpiry: number;
  readonly stray: number;
  readonly extend: number;
  readonly upgrade: number;
  readonly relinquish: number;
  readonly noHeader: number;
}

/** A client that works until it is told to stop, or killed. */
export class SimClient {
  killed = false;
  stopped = false;
  /** Resolves when it has ended by itself. */
  readonly done: Promise<void>;
  device: SimDevice | undefined;
  operations = 0;
  private readonly oracle: Oracle;
  private readonly mix: Mix;
  private readonly held: Lease[] = [];
  /** Of its clock, ns: never more than epsilon. */
  private readonly skewNs: number;
  private readonly epsilonNs: number;

  constructor(oracle: Oracle, mix: Mix, epsilonNs: number) {
    this.oracle = oracle;
    this.mix = mix;
    this.epsilonNs = epsilonNs;
    this.skewNs = scheduler.between(-epsilonNs, epsilonNs + 1);
    this.done = this.run();
  }

  kill(): void {
    this.killed = true;
    this.oracle.forget(this.held);
    this.device?.kill();
  }

  private async run(): Promise<void> {
    let client: Patronus | undefined;
    while (client === undefined && !this.over) {
      try {
        const time = { epsilonNs: this.epsilonNs, now: () => scheduler.now + this.skewNs };
        const nodes = [{ nodeId: 0, address: 'loopback:1' }];
        const connecting = Patronus.connect({ nodes, time });
        // It opens its device a settled promise or two later.
        for (let ticks = 0; ticks < 10 && opened.length === 0; ticks++) await null;
        this.device = opened.shift();
        client = await connecting;
      } catch (error) {
        known(error);
        await think();
      }
    }
    if (client === undefined) return;
    while (!this.over) {
      try {
        await this.operate(client);
      } catch (error) {
        known(error);
        // The connection may be over, and with it what it held.
        this.oracle.forget(this.held.splice(0));
      }
      await think();
    }
    if (this.killed) return;
    this.oracle.forget(this.held.splice(0));
    await client.close();
  }

  private get over(): boolean {
    return this.killed || this.stopped;
  }

  private async operate(client: Patronus): Promise<void> {
    this.operations++;
    const { held, mix } = this;
    // One that is over is tried for a while longer, and then forgotten.
    for (const [i, old] of held.entries()) if (!old.live && scheduler.chance(0.2)) held.splice(i, 1);
    const lease = held[scheduler.between(0, Math.max(held.length, 1))];
    if (lease === undefined || (held.length < 8 && scheduler.chance(0.3))) return this.acquire(client);
    if (scheduler.chance(mix.relinquish)) {
      held.splice(held.indexOf(lease), 1);
      const status = await client.relinquish(lease, scheduler.chance(0.5) ? ModifyFlag.WithDeallocation : 0);
      expectStatus(status, OK_OR_FAULT);
      this.oracle.ended(lease);
      return undefined;
    }
    if (scheduler.chance(mix.extend)) {
      const ns = scheduler.between(1e3, 1e6);
      // In whole units of the first term, which was no longer than a millisecond.
      this.oracle.extending(lease, ns + 1e6);
      expectStatus(await client.extend(lease, ns), OK_OR_FAULT);
      return undefined;
    }
    if (scheduler.chance(mix.upgrade) && !lease.writable) {
      const { rkey } = lease as unknown as { rkey: number };
      const status = await client.upgrade(lease);
      if (status === AcquireStatus.Success) this.oracle.upgraded(rkey);
      return undefined;
    }
    return this.access(client, lease);
  }

  private async acquire(client: Patronus): Promise<void> {
    const { mix, held } = this;
    let flags = 0;
    if (scheduler.chance(mix.noExpiry)) flags |= AcquireFlag.NoGc;
    if (scheduler.chance(mix.allocate)) flags |= AcquireFlag.WithAllocation;
    if (scheduler.chance(mix.noHeader)) flags |= AcquireFlag.NoBindPR;
    const lockKey = scheduler.chance(mix.lock) ? scheduler.between(0, LOCKS) : undefined;
    if (lockKey !== undefined) flags |= AcquireFlag.WithConflictDetect;
    const size = 8 * scheduler.between(1, 64);
    const offset = 8 * scheduler.between(0, LEASE_BYTES / 8 - 64);
    const termNs = Math.floor(10 ** (4 + 2 * scheduler.random()));
    const request: AcquireRequest = {
      offset,
      size,
      termNs,
      flags,
      ...(lockKey === undefined ? {} : { lockKey }),
    };
    const write = lockKey !== undefined || scheduler.chance(0.5);
    const { lease } = await (write ? client.getWlease(request) : client.getRlease(request));
    if (lease === undefined || this.killed) return;
    held.push(lease);
    this.oracle.granted(lease, lockKey, flags);
  }

  private async access(client: Patronus, lease: Lease): Promise<void> {
    const buffer = client.getRdmaBuffer(1024);
    const stray = scheduler.chance(this.mix.stray);
    // Around both ends of the lease, and long after its term.
    const flags = stray ? RwFlag.NoLocalExpireCheck : 0;
    const offset =
      8 * (stray ? scheduler.between(-8, lease.size / 8 + 8) : scheduler.between(0, lease.size / 8));
    const size = Math.min(8 * scheduler.between(1, 16), stray ? 1024 : lease.size - offset);
    const kind = scheduler.between(0, lease.writable || stray ? 4 : 1);
    let status: RetCode;
    if (kind === 0) status = await client.read(lease, buffer, size, offset, flags);
    else if (kind === 1) status = await client.write(lease, buffer, size, offset, flags);
    else if (kind === 2) status = await client.faa(lease, buffer, offset, 1, 0, flags);
    else status = await client.cas(lease, buffer, offset, 0, 0, 1, 0, flags);
    expectStatus(status, OK_OR_FAULT);
    client.putRdmaBuffer(buffer);
  }
}

function think(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, scheduler.between(0, 100) / 1000));
}

function expectStatus(status: RetCode, possible: readonly RetCode[]): void {
  if (!possible.includes(status)) throw new Violation(`status ${status}`);
}

/** Errors that a client may get are no violation. */
function known(error: unknown): void {
  if (!(error instanceof PatronusError)) throw error;
}
