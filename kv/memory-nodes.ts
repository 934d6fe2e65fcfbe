import { type Keeper, Patronus, type PatronusClient } from '../patronus/index.js';
import { KvError, KvErrorCode } from './api.js';

/** Where a memory node may be; without an id it is the one that answers there. */
export interface Place {
  readonly nodeId?: number;
  readonly address: string;
}

/**
 * The memory nodes that a store may lie on, wherever the list of them comes from. Each is used through a Patronus client of
 * its own, so that what becomes of one does not touch the others.
 */
export class MemoryNodes {
  readonly #places: () => Promise<readonly Place[]>;

  /** `places` is asked again for every connection. */
  constructor(places: () => Promise<readonly Place[]>) {
    this.#places = places;
  }

  static at(places: readonly Place[]): MemoryNodes {
    return new MemoryNodes(async () => places);
  }

  /** Those that are alive in the keeper's cluster, which it joins. */
  static of(keeper: Keeper): MemoryNodes {
    return new MemoryNodes(async () => {
      if (keeper.member === undefined) await keeper.joinAsClient();
      const members = await keeper.members('node');
      return members.map(({ number, address }) => ({ nodeId: number, address: address! }));
    });
  }

  /** A client of every node that can be reached, by id, and why the others can't. */
  async connectAll(): Promise<{
    readonly clients: Map<number, PatronusClient>;
    readonly failures: unknown[];
  }> {
    const places = await this.#places();
    const results = await Promise.allSettled(places.map(connect));
    const clients = new Map<number, PatronusClient>();
    const failures: unknown[] = [];
    const twice: PatronusClient[] = [];
    for (const result of results) {
      if (result.status === 'rejected') failures.push(result.reason);
      else {
        const { nodeId } = result.value.nodes[0]!;
        if (clients.has(nodeId)) twice.push(result.value);
        else clients.set(nodeId, result.value);
      }
    }
    if (places.length === 0) failures.push(unreachable('no memory node is in the cluster'));
    if (twice.length > 0) {
      const { nodeId } = twice[0]!.nodes[0]!;
      await Promise.all([...clients.values(), ...twice].map((client) => client.close()));
      throw new TypeError(`two of the memory nodes have the id ${nodeId}`);
    }
    return { clients, failures };
  }

  /** A client of the node with that id. */
  async connect(nodeId: number): Promise<PatronusClient> {
    let failure: unknown;
    for (const place of await this.#places()) {
      if (place.nodeId !== undefined && place.nodeId !== nodeId) continue;
      try {
        const client = await connect(place);
        if (client.nodes[0]!.nodeId === nodeId) return client;
        await client.close();
      } catch (error) {
        failure ??= error;
      }
    }
    const why = failure instanceof Error ? `: ${failure.message}` : '';
    throw unreachable(`Memory node ${nodeId} can't be reached${why}`);
  }
}

async function connect({ nodeId, address }: Place): Promise<PatronusClient> {
  const client = await Patronus.connect(
    nodeId === undefined ? { endpoints: [address] } : { nodes: [{ nodeId, address }] },
  );
  // What is learned of its memory from here on must not be taken for what a later node holds.
  client.requireMemory();
  return client;
}

export function unreachable(why: string): KvError {
  return new KvError(KvErrorCode.UNAVAILABLE, why);
}
