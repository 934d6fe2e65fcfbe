import type { Store } from './store.js';

interface Item {
  readonly value: Uint8Array;
  readonly expiresMs: number;
}

/** Items of a cluster within one thread, by the cluster's name. */
const clusters = new Map<string, Map<string, Item>>();

/** A store for what runs in one thread: no memcached is needed. Gone with the thread. */
export class InProcessStore implements Store {
  private readonly items: Map<string, Item>;

  constructor(cluster: string) {
    let items = clusters.get(cluster);
    if (items === undefined) {
      items = new Map();
      clusters.set(cluster, items);
    }
    this.items = items;
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    return this.find(key)?.value;
  }

  async set(key: string, value: Uint8Array, expirySeconds: number): Promise<void> {
    this.items.set(key, { value, expiresMs: performance.now() + expirySeconds * 1000 });
  }

  async add(key: string, value: Uint8Array, expirySeconds: number): Promise<boolean> {
    if (this.find(key) !== undefined) return false;
    await this.set(key, value, expirySeconds);
    return true;
  }

  async touch(key: string, expirySeconds: number): Promise<boolean> {
    const item = this.find(key);
    if (item !== undefined) await this.set(key, item.value, expirySeconds);
    return item !== undefined;
  }

  async delete(key: string): Promise<void> {
    this.items.delete(key);
  }

  close(): void {}

  private find(key: string): Item | undefined {
    const item = this.items.get(key);
    if (item === undefined || item.expiresMs > performance.now()) return item;
    this.items.delete(key);
    return undefined;
  }
}
