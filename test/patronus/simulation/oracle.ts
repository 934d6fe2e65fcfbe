import { Opcode } from '../../../native/verbs.js';
import { AcquireFlag, type Lease } from '../../../patronus/index.js';
import type { Directory } from '../../../patronus/memory-node/directory.js';
import type { Accepted, Fabric, SimDevice } from './nic.js';

/** What is known of a lease from outside, by its key. */
interface Known {
  readonly lease: Lease & { readonly rkey: number };
  writable: boolean;
  /** Node clock: the latest that its term may end, whatever became of extensions. */
  latestEndNs: number;
  /** The node has said that it is over, or its connection is. */
  over: boolean;
}

export class Violation extends Error {}

/**
 * The invariants, checked from what clients are told and what NICs do: no access is let through outside a live lease, and no
 * lock has two holders.
 */
export class Oracle {
  /** The node's memory for data, of its present life. */
  data: ArrayBuffer | undefined;
  accepted = 0;
  contended = 0;
  private readonly fabric: Fabric;
  /** When the directory with this device last went through all its work, ns. */
  private readonly lastTurnNs = new Map<SimDevice, number>();
  private readonly known = new Map<number, Known>();
  /** Who believes to hold a lock, by its key. */
  private readonly holders = new Map<number, Set<Lease>>();

  constructor(fabric: Fabric) {
    this.fabric = fabric;
    fabric.onAccepted = (access) => this.check(access);
  }

  granted(lease: Lease, lockKey: number | undefined, flags: number): void {
    const keyed = lease as Known['lease'];
    const latestEndNs = (flags & AcquireFlag.NoGc) === 0 ? lease.deadlineNs : Number.POSITIVE_INFINITY;
    if (this.known.get(keyed.rkey)?.over === false) throw new Violation(`key ${keyed.rkey} is of two leases`);
    this.known.set(keyed.rkey, { lease: keyed, writable: lease.writable, latestEndNs, over: false });
    if (lockKey === undefined) return;
    const holders = this.holders.get(lockKey) ?? new Set();
    this.holders.set(lockKey, holders.add(lease));
  }

  /** An upgrade gave the lease another key. */
  upgraded(oldKey: number): void {
    const known = this.known.get(oldKey);
    if (known === undefined) return;
    known.over = true;
    this.known.set(known.lease.rkey, {
      lease: known.lease,
      writable: true,
      latestEndNs: known.latestEndNs,
      over: false,
    });
  }

  /** An extension is under way: its end may be later from now on. */
  extending(lease: Lease, ns: number): void {
    const known = this.known.get((lease as Known['lease']).rkey);
    if (known !== undefined) known.latestEndNs += ns;
  }

  ended(lease: Lease): void {
    const known = this.known.get((lease as Known['lease']).rkey);
    if (known !== undefined) known.over = true;
  }

  /** The client is gone: it holds nothing, though it could not say so. */
  forget(leases: Iterable<Lease>): void {
    for (const lease of leases) for (const holders of this.holders.values()) holders.delete(lease);
  }

  /** The node is another one: what it granted before has ended with its NIC. */
  restart(data: ArrayBuffer): void {
    this.data = data;
    this.known.clear();
    this.holders.clear();
    this.lastTurnNs.clear();
  }

  /** A directory has looked at the clock now, and ended all that was over by then. */
  turned(device: SimDevice): void {
    this.lastTurnNs.set(device, this.fabric.scheduler.now);
  }

  checkLocks(): void {
    for (const [key, holders] of this.holders) {
      for (const lease of holders) if (!lease.live || !connected(lease)) holders.delete(lease);
      if (holders.size > 1) throw new Violation(`lock ${key} has ${holders.size} holders`);
      if (holders.size === 1) this.contended++;
    }
  }

  private check({ device, opcode, rkey, memory, address, length }: Accepted): void {
    // Headers and the clock page are the product's own.
    if (memory.buffer !== this.data) return;
    this.accepted++;
    const what = `access of ${length} bytes at ${address} under key ${rkey}`;
    const known = this.known.get(rkey);
    if (known === undefined) throw new Violation(`${what}: no lease has it`);
    const { lease, latestEndNs } = known;
    if (known.over) throw new Violation(`${what}: the lease has ended`);
    if (opcode !== Opcode.RDMA_READ && !known.writable) throw new Violation(`${what}: the lease is to read`);
    if (address < lease.offset || address + length > lease.offset + lease.size) {
      throw new Violation(`${what}: outside of the lease`);
    }
    // A directory may be late, but once it has looked after the end of a term the lease is over.
    if (latestEndNs < (this.lastTurnNs.get(device) ?? 0)) {
      throw new Violation(`${what}: its term ended ${this.fabric.scheduler.now - latestEndNs} ns ago`);
    }
  }
}

/** With the connection ends the lease: its holder can reach nothing any more, even before it hears of that. */
function connected(lease: Lease): boolean {
  const { node } = lease as unknown as { node: { link: { state: string } } };
  return node.link.state === 'established';
}

/** Private parts that the simulation drives. */
export interface DirectoryParts {
  turn(): boolean;
  look(): void;
  readonly leases: { readonly live: number; readonly deadlines: { readonly earliestNs: number } };
}

export function partsOf(directory: Directory): DirectoryParts {
  return directory as unknown as DirectoryParts;
}
