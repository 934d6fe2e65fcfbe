// A queue of several producers and several consumers, in remote memory. Tickets come from fetch-and-add; a consumer may read
// the items only: each under a lease of its own, on that item, for a moment.
//
//   0     next ticket to produce          64    next ticket to consume
//   128   turn of each cell, 8 bytes: 2r = free for round r, 2r + 1 = full in round r
//   4096  cells, 64 bytes each
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Patronus, PatronusNode } from 'patronus-kv/patronus';

const CELLS = 16;
const ITEMS = 120;
const PRODUCERS = 3;
const CONSUMERS = 3;
const TAIL = 0;
const HEAD = 64;
const TURNS = 128;
const CONTROL_BYTES = 4096;
const CELL_BYTES = 64;
const QUEUE_BYTES = CONTROL_BYTES + CELLS * CELL_BYTES;
const LONG_NS = 60e9;
const MOMENT_NS = 10e9;

const cellOf = (ticket) => Number(ticket % BigInt(CELLS));
const roundOf = (ticket) => ticket / BigInt(CELLS);

async function takeTurn(control, ticket, turn) {
  const at = TURNS + 8 * cellOf(ticket);
  // A fetch-and-add of 0 is an atomic read.
  while ((await control.faa(at, 0n)) !== turn) await new Promise((resolve) => setImmediate(resolve));
}

async function produce(client) {
  const queue = await client.writeLease({ offset: 0, size: QUEUE_BYTES, termNs: LONG_NS });
  const item = new Uint8Array(CELL_BYTES);
  for (;;) {
    const ticket = await queue.faa(TAIL, 1n);
    if (ticket >= ITEMS) return;
    await takeTurn(queue, ticket, 2n * roundOf(ticket));
    new DataView(item.buffer).setBigUint64(0, ticket, true);
    await queue.write(CONTROL_BYTES + CELL_BYTES * cellOf(ticket), item);
    await queue.faa(TURNS + 8 * cellOf(ticket), 1n);
  }
}

async function consume(client) {
  const control = await client.writeLease({ offset: 0, size: CONTROL_BYTES, termNs: LONG_NS });
  const taken = [];
  for (;;) {
    const ticket = await control.faa(HEAD, 1n);
    if (ticket >= ITEMS) return taken;
    await takeTurn(control, ticket, 2n * roundOf(ticket) + 1n);
    const offset = CONTROL_BYTES + CELL_BYTES * cellOf(ticket);
    const reader = await client.readLease({ offset, size: CELL_BYTES, termNs: MOMENT_NS });
    const item = await reader.read(0, CELL_BYTES);
    await reader.relinquish();
    taken.push(Number(new DataView(item.buffer).getBigUint64(0, true)));
    await control.faa(TURNS + 8 * cellOf(ticket), 1n);
  }
}

async function main() {
  const node = await PatronusNode.start({ leaseBytes: 65536 });
  const roles = [...Array(PRODUCERS).fill('produce'), ...Array(CONSUMERS).fill('consume')];
  const results = await Promise.all(
    roles.map(
      (role) =>
        new Promise((resolve, reject) => {
          const worker = new Worker(import.meta.filename, { workerData: { role, endpoint: node.endpoint } });
          worker.once('message', resolve);
          worker.once('error', reject);
        }),
    ),
  );
  const items = results.flat().sort((a, b) => a - b);
  const complete = items.length === ITEMS && items.every((item, i) => item === i);
  console.log(
    `${PRODUCERS} producers, ${CONSUMERS} consumers: ${items.length} items, each once: ${complete}`,
  );
  await node.close();
}

if (isMainThread) {
  await main();
} else {
  const client = await Patronus.connect({ nodes: [workerData.endpoint] });
  const result = await (workerData.role === 'produce' ? produce(client) : consume(client));
  await client.close();
  parentPort.postMessage(result ?? []);
}
