import type { MemoryWindow, ProtectionDomain } from '../../native/index.js';

const LAST_TAG = 255;

/**
 * The memory windows of one connection, last in, first out. They belong to the connection's protection domain, so a
 * key of one client is worthless on the connection of another. A window whose tags are used up is closed and a new
 * one takes its place: an old key of this window never comes to life again.
 */
export class WindowPool {
  private readonly pd: ProtectionDomain;
  private readonly max: number;
  private readonly windows: MemoryWindow[] = [];
  private readonly tag: Uint8Array;
  private readonly free: Int32Array;
  private freeCount = 0;

  constructor(pd: ProtectionDomain, max: number) {
    this.pd = pd;
    this.max = max;
    this.tag = new Uint8Array(max);
    this.free = new Int32Array(max);
  }

  /** An unbound window's number; -1 if the connection has as many as it may, or the NIC has no more. */
  take(): number {
    if (this.freeCount > 0) return this.free[--this.freeCount]!;
    if (this.windows.length === this.max) return -1;
    const window = this.allocate();
    return window === undefined ? -1 : this.windows.push(window) - 1;
  }

  /** Give back a window that is unbound. */
  give(number: number): void {
    if (this.tag[number] === LAST_TAG) {
      this.windows[number]!.close();
      const window = this.allocate();
      if (window === undefined) {
        // The NIC has no window left: this place is lost to the pool, which is as if the connection had one less.
        return;
      }
      this.windows[number] = window;
      this.tag[number] = 0;
    }
    this.free[this.freeCount++] = number;
  }

  /** Whether the window can be bound once more without being unbound and given back first. */
  canRebind(number: number): boolean {
    return this.tag[number]! < LAST_TAG;
  }

  /** The key that the next bind of this window makes; every call makes a new one. */
  nextRkey(number: number): number {
    const tag = ++this.tag[number]!;
    return (this.windows[number]!.keyBase | tag) >>> 0;
  }

  /** The key of the last bind. */
  rkey(number: number): number {
    return (this.windows[number]!.keyBase | this.tag[number]!) >>> 0;
  }

  close(): void {
    for (const window of this.windows) window.close();
    this.windows.length = 0;
    this.freeCount = 0;
  }

  private allocate(): MemoryWindow | undefined {
    try {
      return this.pd.allocMw();
    } catch {
      return undefined;
    }
  }
}
