import {
  Access,
  type Device,
  type HostMemory,
  type MemoryRegion,
  type ProtectionDomain,
} from '../../native/index.js';
import { HEADER_BYTES } from '../wire/messages.js';

/**
 * The headers of leases (protection regions): for each index of the lease table an 8-byte word, low half the number of
 * units to the deadline, high half a count that tells successive leases of the index apart (`aba`). The lease's
 * client extends it by a one-sided CAS on this word.
 *
 * The client may write anything here. So the node takes nothing but the units of a live lease from it: what else it has to
 * know about a lease is in the lease table, where no client can write.
 */
export class Headers {
  private readonly memory: HostMemory;
  private readonly words: Int32Array;

  constructor(device: Device, leases: number) {
    this.memory = device.allocMemory(leases * HEADER_BYTES);
    this.words = new Int32Array(this.memory.buffer);
  }

  /** The region that header windows of one client are bound to. */
  register(pd: ProtectionDomain): MemoryRegion {
    return pd.regMr(this.memory, 0, this.memory.byteLength, Access.LOCAL_WRITE | Access.MW_BIND);
  }

  /** A new lease: one unit. By plain stores: until its window is bound, which comes later, nobody reaches the word. */
  open(lease: number, aba: number): void {
    this.words[2 * lease] = 1;
    this.words[2 * lease + 1] = aba;
  }

  units(lease: number): number {
    return Atomics.load(this.words, 2 * lease) >>> 0;
  }

  /** Add units in the name of the client; its CAS may be under way at the same time. */
  add(lease: number, units: number): void {
    Atomics.add(this.words, 2 * lease, units);
  }

  /** From here on no CAS of the lease's client succeeds. */
  shut(lease: number, aba: number): void {
    Atomics.store(this.words, 2 * lease + 1, aba + 1);
  }

  /** Take shut() back. */
  reopen(lease: number, aba: number): void {
    Atomics.store(this.words, 2 * lease + 1, aba);
  }
}
