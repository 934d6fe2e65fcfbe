import type { MemoryWindow, ProtectionDomain } from '../../native/index.js';

const LAST_TAG = 255;

/**
 * The memory windows of one connection: the one given back last is taken first (what the NIC knows of it is in its cache), or,
 * to measure that, the one that has rested longest. They belong to the connection's protection domain, so a
 * key of one client is worthless on the connection of another. A window whose tags are used up is closed and a new
 * one takes its place: an old key of this window never comes to life again.
 */
export class WindowPool {
  private readonly pd: ProtectionDomain;
  private readonly max: number;
  private readonly windows: MemoryWindow[] = [];
  private readonly tag: Uint8Array;
  private readonly bound: Uint8Array;
  /** A ring: taken from its end, or from its start. */
  private readonly free: Int32Array;
  private freeStart = 0;
  private freeCount = 0;
  private readonly lastInFirstOut: boolean;

  constructor(pd: ProtectionDomain, max: number, lastInFirstOut: boolean) {
    this.pd = pd;
    this.max = max;
    this.lastInFirstOut = lastInFirstOut;
    this.tag = new Uint8Array(max);
    this.bound = new Uint8Array(max);
    this.free = new Int32Array(max);
  }

  /** An unbound window's number; -1 if the connection has as many as it may, or the NIC has no more. */
  take(): number {
    if (this.freeCount > 0) {
      this.freeCount--;
      if (this.lastInFirstOut) return this.free[this.wrap(this.freeStart + this.freeCount)]!;
      const number = this.free[this.freeStart]!;
      this.freeStart = this.wrap(this.freeStart + 1);
      return number;
    }
    if (this.windows.length === this.max) return -1;
    const window = this.allocate();
    return window === undefined ? -1 : this.windows.push(window) - 1;
  }

  /** Give back a window that is unbound. */
  give(number: number): void {
    if (this.tag[number] === LAST_TAG) {
      this.replace(number);
      return;
    }
    this.bound[number] = 0;
    this.putBack(number);
  }

  /** Close a window, bound or not: its key ends here. Another takes its place among the free ones. */
  replace(number: number): void {
    this.windows[number]!.close();
    this.bound[number] = 0;
    this.tag[number] = 0;
    const window = this.allocate();
    // If the NIC has no window left this place is lost to the pool, which is as if the connection had one less.
    if (window === undefined) return;
    this.windows[number] = window;
    this.putBack(number);
  }

  /** Give back a window that was taken and not bound. */
  putBack(number: number): void {
    this.free[this.wrap(this.freeStart + this.freeCount++)] = number;
  }

  /** Whether nextRkey() was called and the window not given back since. */
  isBound(number: number): boolean {
    return this.bound[number] === 1;
  }

  /** Whether the window can be bound once more without being unbound and given back first. */
  canRebind(number: number): boolean {
    return this.tag[number]! < LAST_TAG;
  }

  /**
   * The key that the next bind of this window makes; every call makes a new one. Keys are given as signed numbers here: the
   * larger unsigned ones would take an object each.
   */
  nextRkey(number: number): number {
    this.bound[number] = 1;
    const tag = ++this.tag[number]!;
    return this.windows[number]!.keyBase | tag;
  }

  /** The key of the last bind. */
  rkey(number: number): number {
    return this.windows[number]!.keyBase | this.tag[number]!;
  }

  /** End the key of this window for good. Of use only while the connection ends. */
  closeWindow(number: number): void {
    this.windows[number]?.close();
  }

  /** Close up to `count` windows; true when none is left. */
  closeSome(count: number): boolean {
    for (let i = 0; i < count && this.windows.length > 0; i++) this.windows.pop()!.close();
    return this.windows.length === 0;
  }

  close(): void {
    this.closeSome(this.windows.length);
  }

  private wrap(place: number): number {
    return place >= this.max ? place - this.max : place;
  }

  private allocate(): MemoryWindow | undefined {
    try {
      return this.pd.allocMw();
    } catch {
      return undefined;
    }
  }
}
