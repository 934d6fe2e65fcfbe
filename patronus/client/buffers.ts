import {
  Access,
  type Device,
  type HostMemory,
  type MemoryRegion,
  type ProtectionDomain,
} from '../../native/index.js';
import type { RdmaBuffer } from '../api.js';
import { PatronusError, PatronusErrorCode } from '../errors.js';

const MIN_SHIFT = 6;
const SLAB_BYTES = 1 << 20;
const MAX_BUFFER_BYTES = 2 ** 30;

/** A piece of registered memory: what {@link RdmaBuffer} is inside. */
export class RegisteredBuffer implements RdmaBuffer {
  /** Where it belongs: on another client's device its key names other memory. */
  readonly pool: BufferPool;
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  readonly size: number;
  readonly lkey: number;
  /** In the region of `lkey`. */
  readonly address: number;
  /** Whether a user has it now. */
  inUse = false;

  constructor(pool: BufferPool, memory: HostMemory, address: number, size: number, lkey: number) {
    this.pool = pool;
    this.bytes = new Uint8Array(memory.buffer, address, size);
    this.words = new Uint32Array(memory.buffer, address, size / 4);
    this.size = size;
    this.lkey = lkey;
    this.address = address;
  }
}

/** Registered buffers of a client in sizes of powers of two, cut from slabs; what is given back is used again. */
export class BufferPool {
  private readonly device: Device;
  private readonly pd: ProtectionDomain;
  private readonly free: RegisteredBuffer[][] = [];
  private readonly regions: MemoryRegion[] = [];
  private readonly memories: HostMemory[] = [];
  private slab: HostMemory | undefined;
  private slabLkey = 0;
  private slabUsed = 0;
  private closed = false;

  constructor(device: Device, pd: ProtectionDomain) {
    this.device = device;
    this.pd = pd;
    for (let shift = 0; shift <= 30; shift++) this.free.push([]);
  }

  get(size: number): RegisteredBuffer {
    if (this.closed) throw new PatronusError(PatronusErrorCode.CLOSED, 'the client is closed');
    if (!Number.isInteger(size) || size < 1 || size > MAX_BUFFER_BYTES) {
      throw new RangeError(`size of a buffer must be 1..${MAX_BUFFER_BYTES} bytes, not ${size}`);
    }
    const shift = Math.max(MIN_SHIFT, 32 - Math.clz32(size - 1));
    const buffer = this.free[shift]!.pop() ?? this.cut(1 << shift);
    buffer.inUse = true;
    return buffer;
  }

  put(buffer: RegisteredBuffer): void {
    if (!buffer.inUse) throw new TypeError('the buffer was given back already');
    buffer.inUse = false;
    this.free[31 - Math.clz32(buffer.size)]!.push(buffer);
  }

  close(): void {
    this.closed = true;
    for (const region of this.regions) region.close();
    for (const memory of this.memories) memory.close();
  }

  private cut(size: number): RegisteredBuffer {
    if (size > SLAB_BYTES / 4) {
      const memory = this.device.allocMemory(size);
      return new RegisteredBuffer(this, memory, 0, size, this.register(memory));
    }
    if (this.slab === undefined || this.slabUsed + size > SLAB_BYTES) {
      this.slab = this.device.allocMemory(SLAB_BYTES);
      this.slabLkey = this.register(this.slab);
      this.slabUsed = 0;
    }
    const address = this.slabUsed;
    this.slabUsed += size;
    return new RegisteredBuffer(this, this.slab, address, size, this.slabLkey);
  }

  private register(memory: HostMemory): number {
    const region = this.pd.regMr(memory, 0, memory.byteLength, Access.LOCAL_WRITE);
    this.memories.push(memory);
    this.regions.push(region);
    return region.lkey;
  }
}
