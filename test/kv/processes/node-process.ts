/** A memory node of its own process: `node node-process.js OPTIONS`. */
import { PatronusNode } from '../../../patronus/index.js';

const { address, nodeId, bypass } = JSON.parse(process.argv[2]!);
const node = await PatronusNode.start({
  nodeId,
  listen: address,
  bypass,
  policy: 'open',
  leaseBytes: 4096,
  allocBytes: 32 * 1024 * 1024,
});
node.ended.catch((error) => {
  console.error(error);
  process.exit(1);
});
process.send!('ready');
process.on('disconnect', () => process.exit());
