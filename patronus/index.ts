/** Patronus: leases and protected one-sided access to remote memory. */
export * from './api.js';
export { type ConnectOptions, Patronus } from './client/client.js';
export { PatronusError, PatronusErrorCode } from './errors.js';
export type { BarrierOptions, Keeper } from './keeper/api.js';
export { inProcessKeeper, type KeeperOptions, memcachedKeeper } from './keeper/keeper.js';
export type { Member, MemberKind } from './keeper/records.js';
export {
  type NodeEndpoint,
  PatronusNode,
  type PatronusNodeOptions,
} from './memory-node/node.js';
export type { NodeStats } from './memory-node/stats.js';
export type { TimeOptions } from './time/options.js';
