import { describe, expect, test } from 'vitest';
import { listDevices, openDevice } from '../../../native/index.js';
import { failureOf } from '../../native/rig.js';

/** What the provider says of Soft-RoCE. */
export function devices(): void {
  describe('devices of libibverbs', () => {
    test('are listed by name', () => {
      expect(listDevices()).toEqual(['soft0', 'shm0', 'ib:rxe0']);
    });

    test('the port is told', () => {
      const device = openDevice('ib:rxe0');
      expect(device.queryPort()).toMatchObject({ active: true, linkLayer: 'ethernet', lid: 0 });
      expect(device.queryPort().gids).toContain('0000:0000:0000:0000:0000:ffff:7f00:0001');
      device.close();
    });

    test('the probe sees what Soft-RoCE does with windows, and that it holds nobody to their bounds', () => {
      const windowsOf = (name: string) => {
        const device = openDevice(name);
        const { windowScope, windowBounds, rebindBoundWindow, maxMw } = device.attr;
        device.close();
        expect(maxMw).toBeGreaterThan(100_000);
        return { windowScope, windowBounds, rebindBoundWindow };
      };
      const type1 = { windowScope: 'pd', windowBounds: false, rebindBoundWindow: true };
      expect(windowsOf('ib:rxe0?windows=1')).toEqual(type1);
      expect(windowsOf('ib:rxe0?windows=2')).toEqual({
        windowScope: 'qp',
        windowBounds: false,
        rebindBoundWindow: false,
      });
      expect(windowsOf('ib:rxe0')).toEqual(type1);
    });

    test('another name, port or option is refused', () => {
      expect(failureOf(() => openDevice('ib:rxe1'))).toBe('ERR_NATIVE_NO_DEVICE');
      expect(failureOf(() => openDevice('ib:rxe0?port=2'))).toBe('ERR_NATIVE_NO_DEVICE');
      expect(failureOf(() => openDevice('ib:rxe0?windows=3'))).toBe('RangeError');
      expect(failureOf(() => openDevice('ib:rxe0?speed=9'))).toBe('TypeError');
    });
  });
}
