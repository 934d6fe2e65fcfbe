/** Patronus: leases and protected one-sided access to remote memory. */
export * from './api.js';
export { type ConnectOptions, Patronus } from './client/client.js';
export { PatronusError, PatronusErrorCode } from './errors.js';
export {
  type NodeEndpoint,
  PatronusNode,
  type PatronusNodeOptions,
} from './memory-node/node.js';
export type { NodeStats } from './memory-node/stats.js';
export type { TimeOptions } from './time/options.js';
