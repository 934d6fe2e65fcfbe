/** Every call of a client, in the ways that differ for the memory node: what a client is killed in. */
import {
  AcquireFlag,
  type AcquireRequest,
  ModifyFlag,
  type Patronus,
  type PatronusClient,
  RwFlag,
} from '../../../patronus/index.js';

export const TERM_NS = 1e6;
export const LOCK_KEY = 7;
export const SIZE = 64;

/** Does what has to be before the call, and returns the call. */
export type Prepare = (client: Patronus) => Promise<() => unknown>;

/** What sends nothing to a memory node. */
type Local =
  | 'nodes'
  | 'epsilonNs'
  | 'now'
  | 'identity'
  | 'getRdmaBuffer'
  | 'putRdmaBuffer'
  | 'requireMemory'
  | typeof Symbol.asyncDispose;
/** A call without an entry does not compile. */
type Calls = { readonly [name in Exclude<keyof PatronusClient, Local>]: Readonly<Record<string, Prepare>> };

const request: AcquireRequest = { offset: 0, size: SIZE, termNs: TERM_NS };
const locked = { ...request, lockKey: LOCK_KEY, flags: AcquireFlag.WithConflictDetect };
const allocating = { ...request, flags: AcquireFlag.WithAllocation };

const acquire =
  (write: boolean, more: Partial<AcquireRequest> = {}): Prepare =>
  async (client) =>
  () =>
    write ? client.getWlease({ ...request, ...more }) : client.getRlease({ ...request, ...more });

/** Every flag by itself; a new one without an entry does not compile. */
const flagged = (write: boolean): Readonly<Record<keyof typeof AcquireFlag | 'plain' | 'all', Prepare>> => ({
  plain: acquire(write),
  NoGc: acquire(write, { flags: AcquireFlag.NoGc }),
  WithAllocation: acquire(write, { flags: AcquireFlag.WithAllocation }),
  WithConflictDetect: acquire(write, locked),
  NoBindPR: acquire(write, { flags: AcquireFlag.NoBindPR }),
  NoBindAny: acquire(write, { ...locked, flags: AcquireFlag.WithConflictDetect | AcquireFlag.NoBindAny }),
  UseMR: acquire(write, { flags: AcquireFlag.UseMR }),
  KeepAllocation: acquire(write, { flags: AcquireFlag.WithAllocation | AcquireFlag.KeepAllocation }),
  NoRpc: acquire(write, { flags: AcquireFlag.NoRpc }),
  EnableTrace: acquire(write, { flags: AcquireFlag.EnableTrace }),
  all: acquire(write, { ...locked, flags: locked.flags | allocating.flags | AcquireFlag.NoGc }),
});

type Held = {
  lease: Awaited<ReturnType<Patronus['writeLease']>>;
  buffer: ReturnType<Patronus['getRdmaBuffer']>;
};

/** A call under a lease that is held, by default with the lock. */
const holding =
  (call: (client: Patronus, held: Held) => unknown, how: AcquireRequest = locked, write = true): Prepare =>
  async (client) => {
    const lease = await (write ? client.writeLease(how) : client.readLease(how));
    const buffer = client.getRdmaBuffer(SIZE);
    return () => call(client, { lease, buffer });
  };

const relinquishing: Readonly<Record<keyof typeof ModifyFlag | 'plain' | 'noHeader' | 'region', Prepare>> = {
  plain: holding((client, { lease }) => client.relinquish(lease)),
  noHeader: holding((client, { lease }) => client.relinquish(lease), {
    ...locked,
    flags: locked.flags | AcquireFlag.NoBindPR,
  }),
  region: holding((client, { lease }) => client.relinquish(lease), {
    ...locked,
    flags: locked.flags | AcquireFlag.UseMR,
  }),
  WithDeallocation: holding(
    (client, { lease }) => client.relinquish(lease, ModifyFlag.WithDeallocation),
    allocating,
  ),
  NoRpc: holding((client, { lease }) => client.relinquish(lease, ModifyFlag.NoRpc)),
  EnableTrace: holding((client, { lease }) => client.relinquish(lease, ModifyFlag.EnableTrace)),
};

const reading: Readonly<Record<keyof typeof RwFlag | 'plain', Prepare>> = {
  plain: holding((client, { lease, buffer }) => client.read(lease, buffer, SIZE, 0)),
  NoLocalExpireCheck: holding((client, { lease, buffer }) =>
    client.read(lease, buffer, SIZE, 0, RwFlag.NoLocalExpireCheck),
  ),
  WithAutoExtend: holding((client, { lease, buffer }) =>
    client.read(lease, buffer, SIZE, 0, RwFlag.WithAutoExtend),
  ),
  UseUniversalRkey: holding((client, { lease, buffer }) =>
    client.read(lease, buffer, SIZE, 0, RwFlag.UseUniversalRkey),
  ),
  WithCache: holding((client, { lease, buffer }) => client.read(lease, buffer, SIZE, 0, RwFlag.WithCache)),
  EnableTrace: holding((client, { lease, buffer }) =>
    client.read(lease, buffer, SIZE, 0, RwFlag.EnableTrace),
  ),
};

const allocated =
  (call: (client: Patronus, address: { nodeId: number; offset: number }) => unknown): Prepare =>
  async (client) => {
    const { address } = await client.alloc({ size: SIZE });
    return () => call(client, address!);
  };

export const calls: Calls = {
  getRlease: flagged(false),
  getWlease: flagged(true),
  readLease: { plain: async (client) => () => client.readLease(request) },
  writeLease: { plain: async (client) => () => client.writeLease(locked) },
  relinquish: relinquishing,
  extend: { plain: holding((client, { lease }) => client.extend(lease, TERM_NS)) },
  rpcExtend: {
    plain: holding((client, { lease }) => client.rpcExtend(lease, TERM_NS)),
    noHeader: holding((client, { lease }) => client.rpcExtend(lease, TERM_NS), {
      ...locked,
      flags: locked.flags | AcquireFlag.NoBindPR,
    }),
  },
  upgrade: {
    plain: holding((client, { lease }) => client.upgrade(lease), locked, false),
    region: holding(
      (client, { lease }) => client.upgrade(lease),
      { ...locked, flags: locked.flags | AcquireFlag.UseMR },
      false,
    ),
  },
  alloc: {
    plain: async (client) => () => client.alloc({ size: SIZE }),
    keep: async (client) => () => client.alloc({ size: SIZE, keep: true }),
  },
  dealloc: {
    plain: allocated((client, address) => client.dealloc(address, SIZE)),
    underLease: holding(
      (client, { lease }) => client.dealloc({ nodeId: 0, offset: lease.offset }, SIZE),
      allocating,
    ),
  },
  keepAllocation: { plain: allocated((client, address) => client.keepAllocation(address)) },
  grant: { plain: allocated((client, address) => client.grant(address)) },
  read: reading,
  write: { plain: holding((client, { lease, buffer }) => client.write(lease, buffer, SIZE, 0)) },
  cas: { plain: holding((client, { lease, buffer }) => client.cas(lease, buffer, 0, 0, 0, 1, 0)) },
  faa: { plain: holding((client, { lease, buffer }) => client.faa(lease, buffer, 0, 1, 0)) },
  rpcRead: { parts: holding((client, { lease, buffer }) => client.rpcRead(lease, buffer, SIZE, 0)) },
  rpcWrite: { parts: holding((client, { lease, buffer }) => client.rpcWrite(lease, buffer, SIZE, 0)) },
  rpcCas: { plain: holding((client, { lease, buffer }) => client.rpcCas(lease, buffer, 0, 0, 0, 1, 0)) },
  rpcFaa: { plain: holding((client, { lease, buffer }) => client.rpcFaa(lease, buffer, 0, 1, 0)) },
  remoteMemcpy: { plain: holding((client, { lease }) => client.remoteMemcpy(lease, 0, lease, 8, 8)) },
  setReadOnly: { plain: holding((client) => client.setReadOnly(true)) },
  reinitialise: { plain: holding((client) => client.reinitialise()) },
  createBatch: {
    commit: holding((client, { lease, buffer }) => {
      const batch = client.createBatch();
      batch.prepareWrite(lease, buffer, 0, SIZE, 0);
      batch.prepareFaa(lease, buffer, 0, 0, 1, 0);
      batch.prepareCas(lease, buffer, 8, 8, 0, 0, 1, 0);
      batch.prepareRead(lease, buffer, 0, SIZE, 0);
      return batch.commit();
    }),
  },
  close: { plain: holding((client) => client.close()) },
};
