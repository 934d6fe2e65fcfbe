/** A memory node of its own process: `node node-process.js ADDRESS`. */
import { PatronusNode } from '../../../patronus/index.js';

const node = await PatronusNode.start({
  listen: process.argv[2]!,
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
