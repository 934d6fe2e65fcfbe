import { expect } from 'vitest';
import { Access, QpState, WcOpcode, WcStatus } from '../../../native/index.js';
import { ALL_ACCESS, failureOf, MEMORY_BYTES } from '../rig.js';
import type { Ground } from './suite.js';

const READ_WRITE = Access.REMOTE_READ | Access.REMOTE_WRITE;

export function windows(on: Ground): void {
  const noRebind = !on.attr.rebindBoundWindow && 'a bound window can not be bound again';
  /** Does `rkey` admit a read at `address`? Both pairs work again afterwards. */
  function admits(address: number, rkey: number, length = 8): boolean {
    const status = on.rig.client.read(0, address, rkey, length);
    if (status === WcStatus.SUCCESS) return true;
    expect(status).toBe(WcStatus.REM_ACCESS_ERR);
    on.rig.recover();
    return false;
  }

  on.test('bind opens exactly the range, with exactly the rights', () => {
    const { node, client } = on.rig;
    const rkey = node.pd.allocMw().keyBase + 1;
    expect(admits(4096, rkey)).toBe(false);
    const done = node.run((f) => node.qp.postBindMw(8, f, rkey, node.mr.lkey, 4096, 100, Access.REMOTE_READ));
    expect(done).toMatchObject({ wrId: 8, status: WcStatus.SUCCESS, opcode: WcOpcode.BIND_MW });
    expect(admits(4096, rkey, 100)).toBe(true);
    expect(admits(4095, rkey, 1)).toBe(false);
    expect(admits(4196, rkey, 1)).toBe(false);
    expect(admits(4096, rkey, 101)).toBe(false);
    expect(client.write(0, 4096, rkey)).toBe(WcStatus.REM_ACCESS_ERR);
  });

  on.test(
    'bind of a bound window moves it and ends the old key',
    () => {
      const { node } = on.rig;
      const { keyBase } = node.pd.allocMw();
      expect(node.bind(keyBase + 1, 0, 64, READ_WRITE)).toBe(WcStatus.SUCCESS);
      expect(node.bind(keyBase + 2, 64, 64, READ_WRITE)).toBe(WcStatus.SUCCESS);
      expect(admits(0, keyBase + 1)).toBe(false);
      expect(admits(64, keyBase + 1)).toBe(false);
      expect(admits(64, keyBase + 2)).toBe(true);
      expect(admits(0, keyBase + 2)).toBe(false);
    },
    noRebind,
  );

  on.test(
    'bind takes every tag in turn, more than once',
    () => {
      const { node } = on.rig;
      const { keyBase } = node.pd.allocMw();
      for (let tag = 1; tag <= 600; tag++) {
        expect(node.bind(keyBase + (tag & 0xff), 0, 64, READ_WRITE)).toBe(WcStatus.SUCCESS);
      }
      expect(admits(0, keyBase + (600 & 0xff))).toBe(true);
      expect(admits(0, keyBase + (599 & 0xff))).toBe(false);
    },
    noRebind,
  );

  const refused: [string, () => number][] = [
    [
      'the same tag again',
      () => {
        const rkey = on.rig.node.pd.allocMw().keyBase + 1;
        expect(on.rig.node.bind(rkey, 0, 64, READ_WRITE)).toBe(WcStatus.SUCCESS);
        return on.rig.node.bind(rkey, 64, 64, READ_WRITE);
      },
    ],
    [
      'the same tag again after LOCAL_INV',
      () => {
        const rkey = on.rig.node.pd.allocMw().keyBase + 1;
        expect(on.rig.node.bind(rkey, 0, 64, READ_WRITE)).toBe(WcStatus.SUCCESS);
        expect(on.rig.node.invalidate(rkey)).toBe(WcStatus.SUCCESS);
        return on.rig.node.bind(rkey, 0, 64, READ_WRITE);
      },
    ],
    [
      "another domain's window",
      () => on.rig.node.bind(on.rig.node.device.allocPd().allocMw().keyBase + 1, 0, 64, READ_WRITE),
    ],
    [
      "another domain's region",
      () => {
        const { node } = on.rig;
        const { lkey } = node.device.allocPd().regMr(node.memory, 0, 4096, ALL_ACCESS);
        return node.bind(node.pd.allocMw().keyBase + 1, 0, 64, READ_WRITE, lkey);
      },
    ],
    ['a range that begins before the region', () => inRegion(ALL_ACCESS, 4088, 64)],
    ['a range that ends after the region', () => inRegion(ALL_ACCESS, 8192 - 63, 64)],
    ['a range that wraps around', () => inRegion(ALL_ACCESS, 4096, 2 ** 53 - 1)],
    ['length 0', () => inRegion(ALL_ACCESS, 4096, 0)],
    ['a region without MW_BIND', () => inRegion(ALL_ACCESS & ~Access.MW_BIND, 4096, 64)],
    ['a writing window on a region without LOCAL_WRITE', () => inRegion(Access.MW_BIND, 4096, 64)],
    ['local rights', () => inRegion(ALL_ACCESS, 4096, 64, Access.LOCAL_WRITE)],
    ['unknown rights', () => inRegion(ALL_ACCESS, 4096, 64, 32)],
    ['a region as window', () => on.rig.node.bind(on.rig.node.mr.rkey + 1, 0, 64, READ_WRITE)],
    [
      'a window as region',
      () => {
        const { node } = on.rig;
        const inner = node.pd.allocMw().keyBase + 1;
        expect(node.bind(inner, 0, 64, READ_WRITE)).toBe(WcStatus.SUCCESS);
        return node.bind(node.pd.allocMw().keyBase + 1, 0, 8, READ_WRITE, inner);
      },
    ],
    [
      'a closed window',
      () => {
        const window = on.rig.node.pd.allocMw();
        window.close();
        return on.rig.node.bind(window.keyBase + 1, 0, 64, READ_WRITE);
      },
    ],
  ];
  for (const [title, run] of refused) {
    on.test(`bind refuses ${title}`, () => {
      expect(run()).toBe(WcStatus.MW_BIND_ERR);
      expect(on.rig.node.qp.state).toBe(QpState.ERR);
    });
  }

  on.test(
    'a bind that is refused leaves the window as it was',
    () => {
      const { node } = on.rig;
      const { keyBase } = node.pd.allocMw();
      expect(node.bind(keyBase + 1, 0, 64, READ_WRITE)).toBe(WcStatus.SUCCESS);
      expect(node.bind(keyBase + 2, 0, MEMORY_BYTES + 1, READ_WRITE)).toBe(WcStatus.MW_BIND_ERR);
      on.rig.recover();
      expect(admits(0, keyBase + 1)).toBe(true);
    },
    noRebind,
  );

  on.test('a bind with read rights needs no LOCAL_WRITE', () => {
    expect(inRegion(Access.MW_BIND, 4096, 64, Access.REMOTE_READ)).toBe(WcStatus.SUCCESS);
  });

  function inRegion(regionAccess: number, address: number, length: number, access: number = READ_WRITE) {
    const { node } = on.rig;
    // Remote writes would need LOCAL_WRITE at registration: that is another rule.
    const { lkey } = node.pd.regMr(node.memory, 4096, 4096, regionAccess);
    return node.bind(node.pd.allocMw().keyBase + 1, address, length, access, lkey);
  }

  on.test('LOCAL_INV ends a key once', () => {
    const { node } = on.rig;
    const rkey = node.pd.allocMw().keyBase + 1;
    node.bind(rkey, 0, 64, READ_WRITE);
    expect(admits(0, rkey)).toBe(true);
    expect(node.invalidate(rkey)).toBe(WcStatus.SUCCESS);
    expect(admits(0, rkey)).toBe(false);
    expect(node.invalidate(rkey)).toBe(WcStatus.LOC_QP_OP_ERR);
  });

  on.test(
    'LOCAL_INV of an old tag or from another domain leaves the window bound',
    () => {
      const { node } = on.rig;
      const { keyBase } = node.pd.allocMw();
      node.bind(keyBase + 1, 0, 64, READ_WRITE);
      node.bind(keyBase + 2, 0, 64, READ_WRITE);
      expect(node.invalidate(keyBase + 1)).toBe(WcStatus.LOC_QP_OP_ERR);
      on.rig.recover();
      expect(on.rig.client.invalidate(keyBase + 2)).toBe(WcStatus.LOC_QP_OP_ERR);
      on.rig.recover();
      expect(admits(0, keyBase + 2)).toBe(true);
    },
    noRebind,
  );

  on.test('window work is done when the doorbell of the node returns, signalled or not', () => {
    const { node } = on.rig;
    const windows = Array.from({ length: 8 }, () => node.pd.allocMw());
    const keys = windows.map(({ keyBase }) => keyBase + 1);
    for (const [i, rkey] of keys.entries()) {
      node.qp.postBindMw(1, 0, rkey, node.mr.lkey, i * 64, 64, READ_WRITE);
    }
    node.qp.doorbell();
    for (const [i, rkey] of keys.entries()) expect(admits(i * 64, rkey)).toBe(true);
    for (const rkey of keys) node.qp.postLocalInv(2, 0, rkey);
    node.qp.doorbell();
    for (const [i, rkey] of keys.entries()) expect(admits(i * 64, rkey)).toBe(false);
    expect(node.drain(node.sendCq)).toEqual([]);
  });

  on.test('closing a window unbinds it', () => {
    const { node } = on.rig;
    const window = node.pd.allocMw();
    node.bind(window.keyBase + 1, 0, 64, READ_WRITE);
    window.close();
    window.close();
    expect(admits(0, window.keyBase + 1)).toBe(false);
  });

  on.test('a region closes only when no window is bound to it, and then its key is dead', () => {
    const { node } = on.rig;
    const window = node.pd.allocMw();
    const region = node.pd.regMr(node.memory, 0, 4096, ALL_ACCESS);
    node.bind(window.keyBase + 1, 0, 64, READ_WRITE, region.lkey);
    expect(failureOf(() => region.close())).toBe('ERR_NATIVE_BUSY');
    expect(admits(0, region.rkey)).toBe(true);
    expect(admits(0, window.keyBase + 1)).toBe(true);
    node.invalidate(window.keyBase + 1);
    region.close();
    region.close();
    expect(admits(0, region.rkey)).toBe(false);
  });

  on.test(
    'moving a window to another region frees the first',
    () => {
      const { node } = on.rig;
      const { keyBase } = node.pd.allocMw();
      const region = node.pd.regMr(node.memory, 0, 4096, ALL_ACCESS);
      node.bind(keyBase + 1, 0, 64, READ_WRITE, region.lkey);
      node.bind(keyBase + 2, 0, 64, READ_WRITE);
      region.close();
      expect(admits(0, keyBase + 2)).toBe(true);
    },
    noRebind,
  );
}
