import { Child } from './child.js';

/** A memory node in a process of its own. */
export class NodeProcess extends Child {
  static async start(address: string, nodeId = 0): Promise<NodeProcess> {
    const node = new NodeProcess('node-process.js', JSON.stringify({ address, nodeId, bypass: false }));
    await node.ready;
    return node;
  }
}
