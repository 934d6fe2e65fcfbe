import { createRequire } from 'node:module';
import type { DeviceAttr } from './contract.js';
import type { IbvEntryPoints } from './ibv/entry-points.js';

type Limits = Pick<
  DeviceAttr,
  | 'maxQp'
  | 'maxQpWr'
  | 'maxCq'
  | 'maxCqe'
  | 'maxSrq'
  | 'maxSrqWr'
  | 'maxMr'
  | 'maxMw'
  | 'maxPd'
  | 'maxInline'
  | 'maxMessage'
>;

export interface MadeConnection {
  readonly handle: number;
  readonly id: number;
  readonly qpCount: number;
  readonly peer?: { readonly pid: number; readonly uid: number };
}

/** The addon's entry points as they are; native/addon/addon.cc defines them. Handles are numbers, 0 is none. */
interface Addon {
  /** Those of the provider over libibverbs. */
  readonly ibv: IbvEntryPoints;
  readonly constants: Readonly<Record<string, unknown>>;
  /** Limits of a device of the software RNIC. */
  readonly limits: Limits;
  /** Those that differ for a device whose memory can be passed to other processes. */
  readonly sharedLimits: Pick<Limits, 'maxMr' | 'maxMw' | 'maxSrq'>;
  /** Writes the monotonic clock, ns, into `clock` as a double. */
  readClock(): void;
  readonly clock: ArrayBuffer;
  /** What a call costs that does nothing. */
  nothing(): void;
  /** Execute what the queue pair has posted whose place is in `ringing`, a uint32. */
  doorbell(): void;
  readonly ringing: ArrayBuffer;
  signalChannel(fd: number): boolean;
  /** `shared`: its memory can be passed to other processes. */
  openDevice(shared: boolean): number;
  closeObject(handle: number): void;
  allocMemory(device: number, byteLength: number, hugePageBytes?: number, numaNode?: number): number;
  memoryBuffer(memory: number): ArrayBuffer;
  publishMemory(memory: number): number;
  openMemory(number: number): { handle: number; byteLength: number };
  allocPd(device: number): number;
  closePd(pd: number): void;
  regMr(pd: number, memory: number, offset: number, length: number, access: number, iova: number): number;
  deregMr(pd: number, key: number): void;
  allocMw(pd: number): number;
  deallocMw(pd: number, keyBase: number): void;
  createChannel(device: number): { handle: number; fd: number };
  waitChannel(channel: number, timeoutNs: number): boolean;
  listenToChannel(channel: number, listener: (() => void) | undefined): void;
  createCq(device: number, depth: number, channel: number | undefined): { handle: number; ring: ArrayBuffer };
  closeCq(cq: number): void;
  createQp(
    pd: number,
    sendCq: number,
    recvCq: number,
    maxSendWr: number,
    maxRecvWr: number,
    srq: number | undefined,
  ): {
    handle: number;
    qpNum: number;
    sendRing: ArrayBuffer;
    /** If it has no shared receive queue. */
    recvRing?: ArrayBuffer;
    place: number;
  };
  createSrq(pd: number, maxWr: number): { handle: number; ring: ArrayBuffer };
  closeSrq(srq: number): void;
  qpState(qp: number): number;
  qpRemote(qp: number): number;
  modifyQp(qp: number, state: number, access: number): void;
  closeQp(qp: number): void;
  listen(
    channel: number,
    address: string | undefined,
    engineThreads: number,
  ): { handle: number; address: string };
  nextConnection(listener: number): MadeConnection | undefined;
  nextDisconnection(listener: number): number | undefined;
  closeListener(listener: number): void;
  connect(address: string, qps: readonly number[], channel: number): MadeConnection;
  connectionState(connection: number): 'connecting' | 'established' | 'rejected' | 'closed';
  acceptConnection(connection: number, qps: readonly number[]): void;
  rejectConnection(connection: number): void;
  closeConnection(connection: number): void;
}

// From dist/native/ to the build beside the C++ sources.
const path = new URL('../../native/build/Release/patronus_native.node', import.meta.url);

export const addon = createRequire(import.meta.url)(path.pathname) as Addon;
