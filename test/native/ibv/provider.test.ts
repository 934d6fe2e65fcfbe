/** What can be seen of the libibverbs provider without an RDMA device; with one: test/guest. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { listDevices, openDevice, openDeviceTo } from '../../../native/index.js';
import { PatronusErrorCode, PatronusNode } from '../../../patronus/index.js';

const HEADER = '/usr/include/infiniband/verbs.h';
const CHECK = fileURLToPath(new URL('../../../../test/native/ibv/abi_check.cc', import.meta.url));

function thrown(call: () => unknown): { code?: string; message: string } {
  try {
    call();
  } catch (error) {
    return error as Error;
  }
  throw new Error('nothing was thrown');
}

describe('libibverbs provider', () => {
  test('a device that is not there is one sentence with a code', () => {
    expect(thrown(() => openDevice('ib:none9'))).toMatchObject({
      code: 'ERR_NATIVE_NO_DEVICE',
      message: expect.stringMatching(
        /^(no RDMA device can be opened: |there is no RDMA device none9)[^\n]+$/,
      ),
    });
  });

  test('the software RNIC is there all the same', () => {
    expect(listDevices().slice(0, 2)).toEqual(['soft0', 'shm0']);
    openDevice('soft0').close();
  });

  test.each([
    ['ib:x?speed=9', TypeError],
    ['ib:x?port=0', RangeError],
    ['ib:x?port=1.5', RangeError],
    ['ib:x?gid=256', RangeError],
    ['ib:x?windows=3', RangeError],
  ])('the name %s is refused', (name, type) => {
    expect(() => openDevice(name)).toThrow(type);
  });

  test('a client of an address of RDMA needs a device', () => {
    if (listDevices().some((name) => name.startsWith('ib:'))) {
      openDeviceTo(['ib:127.0.0.1:1']).close();
    } else {
      expect(thrown(() => openDeviceTo(['ib:127.0.0.1:1'])).code).toBe('ERR_NATIVE_NO_DEVICE');
    }
  });

  test('a memory node on a device that is not there does not start', async () => {
    await expect(PatronusNode.start({ listen: 'ib:127.0.0.1:0', device: 'ib:none9' })).rejects.toMatchObject({
      code: PatronusErrorCode.LISTEN,
    });
  });

  test('the declarations agree with the headers of libibverbs', ({ skip }) => {
    if (!existsSync(HEADER)) {
      process.stdout.write(
        'libibverbs: skipped: the declarations agree with the headers: libibverbs-dev is not installed\n',
      );
      skip('libibverbs-dev is not installed');
    }
    execFileSync('g++', ['-std=c++17', '-Wall', '-Wextra', '-Werror', '-fsyntax-only', CHECK], {
      stdio: 'pipe',
    });
  });
});
