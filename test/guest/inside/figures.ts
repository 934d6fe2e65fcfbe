/**
 * What permissions cost on Soft-RoCE, one way to make them beside the other. The guest is emulated and its processor is
 * shared, so the times mean nothing; what they are of the time of a window's bind, taken in the same turns, does.
 */
import { writeSync } from 'node:fs';
import { Access, QpState } from '../../../native/index.js';
import { AcquireFlag, Patronus, PatronusNode, RetCode } from '../../../patronus/index.js';
import { SOFT_ROCE_1 } from '../../native/conformance/link.js';
import { Rig, type Side } from '../../native/rig.js';

const ROUNDS = 15;
const IN_A_ROW = 8;
const LARGE_BYTES = 2 * 2 ** 20;
const MESSAGE_BYTES = 64;
/** Under way at once: with one processor a single request waits for its turn most of all. */
const AT_ONCE = 16;

/** Does `count` of what it stands for. */
interface Work {
  readonly count: number;
  run(): unknown;
}

function times(count: number, one: () => unknown): Work {
  return {
    count,
    run: async () => {
      for (let i = 0; i < count; i++) await one();
    },
  };
}

const TERM_NS = 600e9;
const ALL_REMOTE = Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC;

/** A line that begins with this is of the report. */
const MARK = '@figure ';

function say(line: string): void {
  writeSync(1, `${MARK}${line}\n`);
}

export async function figures(): Promise<void> {
  await verbs();
  await leases();
}

async function verbs(): Promise<void> {
  const rig = await Rig.open(SOFT_ROCE_1);
  const { node, client } = rig;
  const large = node.device.allocMemory(LARGE_BYTES);
  const window = node.pd.allocMw();
  let tag = 0;
  let key = 0;
  const bind = () => {
    tag = (tag % 255) + 1;
    key = (window.keyBase | tag) >>> 0;
    ok(node.bind(key, 0, 4096, ALL_REMOTE));
  };
  const register = (bytes: number) => () =>
    node.pd.regMr(large, 0, bytes, Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE).close();
  bind();
  await report('verbs', {
    'bind of a bound window': times(IN_A_ROW, bind),
    'bind and unbind of a window': times(IN_A_ROW, () => {
      ok(node.invalidate(key));
      bind();
    }),
    'registration of 4 KiB and its end': times(IN_A_ROW, register(4096)),
    'registration of 2 MiB and its end': times(IN_A_ROW, register(LARGE_BYTES)),
    'RESET to RTS of both ends of a pair': times(IN_A_ROW, () => rig.recover()),
    'access flags of a pair in RTS': times(IN_A_ROW, () => node.qp.modify(QpState.RTS, ALL_REMOTE)),
    'message and its answer': times(IN_A_ROW, () => {
      message(client, node);
      message(node, client);
    }),
    'read of 64 bytes': times(IN_A_ROW, () => ok(client.read(0, 0, key, 64))),
  });
  rig.close();
}

async function leases(): Promise<void> {
  const node = await PatronusNode.start({
    listen: 'ib:127.0.0.1:0',
    device: 'ib:rxe0',
    allowUnboundedWindows: true,
    allocBytes: 2 ** 20,
    maxLeases: 1024,
    maxClients: 2,
    policy: 'open',
  });
  const client = await Patronus.connect({ nodes: [node.endpoint], time: { synchronise: false } });
  const buffer = client.getRdmaBuffer(64);
  const atOnce = (one: (number: number) => Promise<unknown>): Work => ({
    count: AT_ONCE,
    run: () => Promise.all(Array.from({ length: AT_ONCE }, (_, number) => one(number))),
  });
  const lease = (flags: number) =>
    atOnce(async () => {
      const own = await client.writeLease({ offset: 0, size: 4096, termNs: TERM_NS, flags });
      ok(await client.relinquish(own));
    });
  const kept = await Promise.all(
    Array.from({ length: AT_ONCE }, () => client.readLease({ offset: 0, size: 64, termNs: TERM_NS })),
  );
  await report('leases', {
    'grant and end, window and header': lease(0),
    'grant and end, window only': lease(AcquireFlag.NoBindPR),
    'grant and end, registered memory and header': lease(AcquireFlag.UseMR),
    'grant and end, registered memory only': lease(AcquireFlag.NoBindPR | AcquireFlag.UseMR),
    'grant and end, a lock without a permission': lease(AcquireFlag.NoBindAny),
    'extension by CAS': atOnce(async (number) => ok(await client.extend(kept[number]!, TERM_NS))),
    'extension by message': atOnce(async (number) => ok(await client.rpcExtend(kept[number]!, TERM_NS))),
    'all pairs read-only': times(1, () => client.setReadOnly(true)),
    'all pairs as they were': times(1, () => client.setReadOnly(false)),
    'fault, and a read over the spare': times(IN_A_ROW, async () => {
      const refused = await client.write(kept[0]!, buffer, 8, 0);
      if (refused !== RetCode.RdmaProtectionErr) throw new Error(`status ${refused}`);
      ok(await client.read(kept[0]!, buffer, 8, 0));
    }),
  });
  await client.close();
  await node.close();
}

function message(from: Side, to: Side): void {
  to.qp.postRecv(1, 0, to.mr.lkey, MESSAGE_BYTES);
  ok(from.status((flags) => from.qp.postSend(1, flags, 0, from.mr.lkey, MESSAGE_BYTES)));
  to.take(to.recvCq, 1);
}

function ok(status: number): void {
  if (status !== 0) throw new Error(`status ${status}`);
}

/** Median times of all works in turns, beside the first one's. */
async function report(title: string, works: Readonly<Record<string, Work>>): Promise<void> {
  const samples = Object.keys(works).map((): number[] => []);
  // The first round warms up.
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [number, work] of Object.values(works).entries()) {
      const began = performance.now();
      await work.run();
      if (round > 0) samples[number]!.push((performance.now() - began) / work.count);
    }
  }
  const medians = samples.map((one) => one.sort((a, b) => a - b)[ROUNDS >> 1]!);
  say(`${title} | times the first | us in the guest`);
  for (const [number, name] of Object.keys(works).entries()) {
    const ratio = (medians[number]! / medians[0]!).toFixed(1);
    say(`${name} | ${ratio} | ${Math.round(medians[number]! * 1000)}`);
  }
}
