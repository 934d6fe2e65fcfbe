/** What memory, regions and windows are with every provider: handles that its entry points know, closed once. */
import type { HostMemory, MemoryRegion, MemoryWindow } from './contract.js';

/** An object of a device. Lower ranks are closed first, as what they use has a higher one. */
export interface Child {
  readonly closeRank: number;
  close(): void;
}

/** A device, as far as what is made from it knows it: the objects that are open. */
interface Parent {
  readonly children: Set<Child>;
}

/** A protection domain, as far as its regions and windows know it. */
interface Domain {
  readonly device: Parent;
  readonly handle: number;
}

/** The entry points of the provider, of the same shape with each. */
interface MemoryEntryPoints {
  closeObject(handle: number): void;
  memoryBuffer(memory: number): ArrayBuffer;
  publishMemory(memory: number): number;
  deregMr(pd: number, lkey: number): void;
  deallocMw(pd: number, keyBase: number): void;
}

/** A provider's own class of it is what the provider takes. */
export abstract class MappedMemory implements HostMemory {
  readonly closeRank = 6;
  readonly byteLength: number;
  handle: number;
  private readonly native: MemoryEntryPoints;
  private readonly device: Parent;
  private view: ArrayBuffer | undefined;

  constructor(native: MemoryEntryPoints, device: Parent, handle: number, byteLength: number) {
    this.native = native;
    this.device = device;
    this.handle = handle;
    this.byteLength = byteLength;
    device.children.add(this);
  }

  get buffer(): ArrayBuffer {
    this.view ??= this.native.memoryBuffer(this.handle);
    return this.view;
  }

  publish(): number {
    return this.native.publishMemory(this.handle);
  }

  close(): void {
    if (this.handle === 0) return;
    this.native.closeObject(this.handle);
    this.handle = 0;
    this.device.children.delete(this);
  }
}

export class Region implements MemoryRegion {
  readonly closeRank = 3;
  readonly lkey: number;
  readonly rkey: number;
  readonly iova: number;
  readonly length: number;
  private readonly native: MemoryEntryPoints;
  private readonly pd: Domain;
  private open = true;

  constructor(
    native: MemoryEntryPoints,
    pd: Domain,
    keys: { readonly lkey: number; readonly rkey: number },
    iova: number,
    length: number,
  ) {
    this.native = native;
    this.pd = pd;
    this.lkey = keys.lkey;
    this.rkey = keys.rkey;
    this.iova = iova;
    this.length = length;
    pd.device.children.add(this);
  }

  close(): void {
    if (!this.open) return;
    this.native.deregMr(this.pd.handle, this.lkey);
    this.open = false;
    this.pd.device.children.delete(this);
  }
}

export class Window implements MemoryWindow {
  readonly closeRank = 2;
  readonly keyBase: number;
  private readonly native: MemoryEntryPoints;
  private readonly pd: Domain;
  private open = true;

  constructor(native: MemoryEntryPoints, pd: Domain, keyBase: number) {
    this.native = native;
    this.pd = pd;
    this.keyBase = keyBase;
    pd.device.children.add(this);
  }

  close(): void {
    if (!this.open) return;
    this.native.deallocMw(this.pd.handle, this.keyBase);
    this.open = false;
    this.pd.device.children.delete(this);
  }
}
