/** Memory from huge pages, and from one NUMA node: where this machine has them, else that it says why not. */
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Access, type Device, type HostMemory, openDevice } from '../../native/index.js';
import { failureOf } from './rig.js';

const HUGE = 2 ** 21;
const POOL = '/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages';

let device: Device;

beforeEach(() => {
  device = openDevice();
});

afterEach(() => device.close());

/** All of it is there, zero-filled, and can be registered. */
function works(memory: HostMemory): void {
  const bytes = new Uint8Array(memory.buffer);
  expect(bytes.length).toBe(memory.byteLength);
  expect(Buffer.from(memory.buffer).equals(Buffer.alloc(memory.byteLength))).toBe(true);
  bytes[bytes.length - 1] = 7;
  const pd = device.allocPd();
  const region = pd.regMr(memory, 0, memory.byteLength, Access.LOCAL_WRITE);
  region.close();
  pd.close();
}

function freePages(): number {
  try {
    return Number(readFileSync(POOL, 'utf8'));
  } catch {
    return 0;
  }
}

test('huge pages come from the pool of the system, all at once', ({ skip }) => {
  const before = freePages();
  if (before < 2) {
    expect(() => device.allocMemory(HUGE + 1, { hugePages: '2MiB' })).toThrow(
      /no huge pages of 2 MiB for 2097153 bytes: the system's pool of them is too small/,
    );
    expect(failureOf(() => device.allocMemory(HUGE + 1, { hugePages: '2MiB' }))).toBe('ERR_NATIVE_LIMIT');
    process.stdout.write('huge pages: skipped: the pool of this machine has none (vm.nr_hugepages)\n');
    skip('the pool has none');
  }
  const memory = device.allocMemory(HUGE + 1, { hugePages: '2MiB' });
  expect(freePages()).toBeLessThan(before);
  works(memory);
});

test('more than the pool has is refused, whatever the machine has', () => {
  expect(failureOf(() => device.allocMemory(2 ** 46, { hugePages: '1GiB' }))).toBe('ERR_NATIVE_LIMIT');
});

test('memory of a NUMA node', ({ skip }) => {
  let memory: HostMemory;
  try {
    memory = device.allocMemory(HUGE, { numaNode: 0 });
  } catch (error) {
    expect(error).toMatchObject({ code: 'ERR_NATIVE_LIMIT' });
    expect((error as Error).message).toMatch(/^memory can't be bound to NUMA node 0: /);
    process.stdout.write(`memory of a NUMA node: skipped: ${(error as Error).message}\n`);
    return skip('this machine does not let it');
  }
  works(memory);
  expect(readFileSync('/proc/self/numa_maps', 'utf8')).toMatch(/ bind:0 /);
});

test('a NUMA node, or a size, that there is not is refused', () => {
  expect(failureOf(() => device.allocMemory(HUGE, { numaNode: 1023 }))).toBe('ERR_NATIVE_LIMIT');
  for (const numaNode of [-1, 1024, 0.5]) {
    expect(failureOf(() => device.allocMemory(HUGE, { numaNode }))).toBe('RangeError');
  }
  expect(failureOf(() => device.allocMemory(HUGE, { hugePages: '4KiB' as '2MiB' }))).toBe('RangeError');
});

test('memory that other processes map is of ordinary pages', () => {
  const shared = openDevice('shm0');
  expect(failureOf(() => shared.allocMemory(HUGE, { hugePages: '2MiB' }))).toBe('TypeError');
  expect(failureOf(() => shared.allocMemory(HUGE, { numaNode: 0 }))).toBe('TypeError');
  shared.close();
});
