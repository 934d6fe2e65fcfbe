import { addon } from '../addon.js';
import { IbvDevice, type IbvOptions, type WindowAttr } from './device.js';
import { probe } from './probe.js';

/** By device, port, identifier and type: a probe takes milliseconds, and a device does not change its ways. */
const probed = new Map<string, WindowAttr | null>();

/** The devices of libibverbs on this host; none without the library. */
export function ibvDeviceNames(): string[] {
  return addon.ibv.deviceNames().map((name) => `ib:${name}`);
}

/**
 * Open a device of libibverbs: `ib:NAME`, with `?port=`, `gid=` and `windows=` (1, 2) where the defaults don't fit.
 * Windows of type 1 serve every queue pair of the protection domain and can be moved while bound, so they are taken
 * where the device does both. Throws ERR_NATIVE_NO_DEVICE where there is no such device, or no libibverbs.
 */
export function openIbvDevice(name: string): IbvDevice {
  const options = parseName(name);
  const types: readonly (1 | 2)[] = options.windows === undefined ? [1, 2] : [options.windows];
  for (const type of types) {
    const windows = windowsOf(options, type);
    const last = type === types.at(-1);
    if (last || (windows?.windowScope === 'pd' && windows.rebindBoundWindow)) {
      return new IbvDevice(options, type, windows);
    }
  }
  throw new TypeError('unreachable');
}

function windowsOf(options: IbvOptions, type: 1 | 2): WindowAttr | null {
  const key = [options.device, options.port, options.gid, type].join(' ');
  const known = probed.get(key);
  if (known !== undefined) return known;
  const device = new IbvDevice(options, type);
  try {
    const windows = probe(device);
    probed.set(key, windows);
    return windows;
  } finally {
    device.close();
  }
}

function parseName(name: string): IbvOptions {
  const [device, query] = name.slice('ib:'.length).split('?', 2) as [string, string | undefined];
  const parameters = new URLSearchParams(query ?? '');
  for (const key of parameters.keys()) {
    if (!['port', 'gid', 'windows'].includes(key)) throw new TypeError(`an RDMA device has no option ${key}`);
  }
  const number = (key: string, least: number, most: number): number | undefined => {
    const text = parameters.get(key);
    if (text === null) return undefined;
    if (!/^\d{1,3}$/.test(text) || Number(text) < least || Number(text) > most) {
      throw new RangeError(`${key} of an RDMA device must be a number from ${least} to ${most}, not ${text}`);
    }
    return Number(text);
  };
  return {
    device,
    port: number('port', 1, 255) ?? 1,
    gid: number('gid', 0, 255),
    windows: number('windows', 1, 2) as 1 | 2 | undefined,
  };
}
