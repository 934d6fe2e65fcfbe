import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { createTable, type Kv, openTable } from '../../../kv/index.js';
import { Patronus, PatronusNode } from '../../../patronus/index.js';

const OPERATIONS = 300;
const KEYS = 40;
const MOST_BYTES = 6000;

/** The store on a memory node over Soft-RoCE. */
export function store(): void {
  let node: PatronusNode;
  let client: Patronus;
  let table: Kv;
  const key = (number: number) => Buffer.from(`key ${number}`);

  describe('store over Soft-RoCE', () => {
    test('a table is made', async () => {
      node = await PatronusNode.start({
        listen: 'ib:127.0.0.1:0',
        device: 'ib:rxe0',
        allowUnboundedWindows: true,
        allocBytes: 8 * 2 ** 20,
        directories: 2,
        maxLeases: 1024,
        maxClients: 2,
        policy: 'open',
      });
      client = await Patronus.connect({ nodes: [node.endpoint], time: { synchronise: false } });
      await createTable(client, { groups: 64, maxValueBytes: 65536 });
      table = await openTable(client);
    });

    test(`${OPERATIONS} operations at random do what they do to a map`, async () => {
      const model = new Map<number, Buffer>();
      for (let i = 0; i < OPERATIONS; i++) {
        const number = dice('key', i) % KEYS;
        const what = dice('what', i) % 10;
        if (what < 4) {
          const value = bytes(i, dice('size', i) % MOST_BYTES);
          await table.put(key(number), value);
          model.set(number, value);
        } else if (what < 5) {
          expect(await table.del(key(number))).toBe(model.delete(number));
        } else {
          expect(sameBytes(await table.get(key(number)), model.get(number))).toBe(true);
        }
      }
      for (let number = 0; number < KEYS; number++) {
        expect(sameBytes(await table.get(key(number)), model.get(number))).toBe(true);
      }
    });

    test('it closes', async () => {
      await table.close();
      await client.close();
      await node.close();
    });
  });
}

/** The same numbers in every run. */
function dice(what: string, round: number): number {
  return createHash('sha256').update(`${what} ${round}`).digest().readUInt32LE();
}

function bytes(seed: number, length: number): Buffer {
  const value = Buffer.alloc(length);
  for (let i = 0; i < length; i++) value[i] = seed * 31 + i * 7 + (i >>> 8);
  return value;
}

function sameBytes(found: Uint8Array | undefined, expected: Buffer | undefined): boolean {
  return found === undefined || expected === undefined ? found === expected : expected.equals(found);
}
