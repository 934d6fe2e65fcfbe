import { PatronusError, PatronusErrorCode } from '../errors.js';
import type { Keeper } from '../keeper/api.js';
import type { ConnectOptions } from './client.js';
import type { Target } from './node-connection.js';

/** Whom to connect to. */
export async function targetsOf(options: ConnectOptions): Promise<readonly Target[]> {
  const { nodes, endpoints, keeper } = options;
  const ways = [nodes, endpoints, keeper].filter((way) => way !== undefined);
  if (ways.length !== 1) throw new TypeError('one of nodes, endpoints and keeper says whom to connect to');
  if (keeper !== undefined) {
    if (keeper.member === undefined) await keeper.joinAsClient();
    const targets = await nodesOf(keeper);
    if (targets.length > 0) return targets;
    throw new PatronusError(PatronusErrorCode.CONNECT, 'no memory node is in the cluster');
  }
  const targets = nodes ?? endpoints!.map((address) => ({ nodeId: undefined, address }));
  if (targets.length === 0) throw new TypeError('at least one memory node must be named');
  return targets;
}

/** Where a node is that was lost: it may have come back elsewhere. */
export async function whereNow(target: Target, keeper: Keeper | undefined): Promise<Target> {
  if (keeper === undefined) return target;
  const found = (await nodesOf(keeper)).find(({ nodeId }) => nodeId === target.nodeId);
  if (found !== undefined) return found;
  const message = `memory node ${target.nodeId} is not in the cluster any more`;
  throw new PatronusError(PatronusErrorCode.CONNECT, message);
}

async function nodesOf(keeper: Keeper): Promise<Target[]> {
  const members = await keeper.members('node');
  return members.map(({ number, address }) => ({ nodeId: number, address: address! }));
}
