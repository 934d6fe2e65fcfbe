import type { Member, MemberKind } from './records.js';

export interface BarrierOptions {
  /** Default 30 s. */
  readonly timeoutMs?: number;
}

/**
 * What the processes of a cluster know of each other: who is there and where, small values by key, barriers. A keeper is
 * the handle of one participant. Only setting up and looking around need it: what runs between a client and a
 * memory node goes on without.
 *
 * Names and keys are strings of 1 to 100 bytes in UTF-8, else a RangeError. Every call rejects with
 * ERR_PATRONUS_KEEPER_UNAVAILABLE after a bounded number of attempts if memcached can't be reached or does not answer,
 * and with ERR_PATRONUS_CLOSED after close().
 */
export interface Keeper extends AsyncDisposable {
  /** This participant, once it has joined. */
  readonly member: Member | undefined;
  /**
   * Become a member, as a memory node with this id (below 256) at this address, until leave(). The entry is renewed in
   * the background; it goes by itself if this process dies, and comes back by itself if the keeper loses it. Rejects with
   * ERR_PATRONUS_NODE_ID_TAKEN if a live node has the id. A participant is one member at a time.
   */
  joinAsNode(nodeId: number, address: string): Promise<Member>;
  /** Become a member as a client; it gets the first free number. */
  joinAsClient(): Promise<Member>;
  /** Be a member no more. Does not reject if the keeper can't be reached: the entry goes by itself then. */
  leave(): Promise<void>;
  /** The members of a kind that are alive, by number. Entries that are none are passed over. */
  members(kind: MemberKind): Promise<Member[]>;
  /** Store a value of at most 512 KiB for a day. */
  put(key: string, value: Uint8Array): Promise<void>;
  /** The value, or undefined if there is none. Rejects with ERR_PATRONUS_KEEPER_GARBAGE if the key holds anything else. */
  tryGet(key: string): Promise<Uint8Array | undefined>;
  /** Waits until there is a value; rejects with ERR_PATRONUS_TIMEOUT. Default 30 s. */
  get(key: string, timeoutMs?: number): Promise<Uint8Array>;
  /**
   * Wait until `count` members have come to the barrier of this name: of any kind, or nodes, or clients. A name serves
   * once. Rejects with ERR_PATRONUS_BARRIER_BROKEN when a member has died and those left are too few, with
   * ERR_PATRONUS_TIMEOUT when they don't come in time. Only for members; coming again after an error is fine.
   */
  keeperBarrier(name: string, count: number, options?: BarrierOptions): Promise<void>;
  serverBarrier(name: string, count: number, options?: BarrierOptions): Promise<void>;
  clientBarrier(name: string, count: number, options?: BarrierOptions): Promise<void>;
  /** Tell all that what the key stands for is over. */
  finished(key: string): Promise<void>;
  /** Whether somebody has told so. */
  shouldExit(key: string): Promise<boolean>;
  /** Leave, and give the connection up. */
  close(): Promise<void>;
}
