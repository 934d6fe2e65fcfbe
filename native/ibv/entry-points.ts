import type { ConnectionState, PortAttr } from '../contract.js';

/** A queue pair, completion queue or shared receive queue: `place` names it to the hot calls. */
interface MadeQueue {
  readonly handle: number;
  readonly place: number;
  readonly ring: ArrayBuffer;
}

interface MadeConnection {
  readonly handle: number;
  readonly id: number;
  readonly qpCount: number;
}

/** The addon's entry points for libibverbs; native/addon/ibv_entry_points.cc defines them. Handles are numbers, 0 is none. */
export interface IbvEntryPoints {
  /** Hand what a queue pair has posted to the device. */
  doorbell(qp: number): void;
  flushReceives(qp: number): void;
  flushShared(srq: number): void;
  /** Move completions from the device's queue into the ring. */
  pump(cq: number): void;
  deviceNames(): string[];
  openDevice(
    name: string,
    port: number,
    gid: number | undefined,
    windows: number,
  ): {
    handle: number;
    maxQp: number;
    maxQpWr: number;
    maxCq: number;
    maxCqe: number;
    maxMr: number;
    maxMw: number;
    maxPd: number;
    maxSrq: number;
    maxSrqWr: number;
    maxMessage: number;
  };
  queryPort(device: number): PortAttr;
  closeObject(handle: number): void;
  allocMemory(device: number, byteLength: number, hugePageBytes?: number, numaNode?: number): number;
  memoryBuffer(memory: number): ArrayBuffer;
  publishMemory(memory: number): number;
  openMemory(number: number): { handle: number; byteLength: number };
  allocPd(device: number): number;
  closePd(pd: number): void;
  regMr(
    pd: number,
    memory: number,
    offset: number,
    length: number,
    access: number,
    iova: number,
  ): { lkey: number; rkey: number };
  deregMr(pd: number, lkey: number): void;
  allocMw(pd: number): number;
  deallocMw(pd: number, keyBase: number): void;
  createChannel(device: number): { handle: number; fd: number };
  waitChannel(channel: number, timeoutNs: number): boolean;
  listenToChannel(channel: number, listener: (() => void) | undefined): void;
  createCq(device: number, entries: number, channel: number | undefined): MadeQueue;
  armCq(cq: number, solicitedOnly: boolean): void;
  closeCq(cq: number): void;
  createSrq(pd: number, maxWr: number): MadeQueue;
  closeSrq(srq: number): void;
  createQp(
    pd: number,
    sendCq: number,
    recvCq: number,
    maxSendWr: number,
    maxRecvWr: number,
    srq: number | undefined,
  ): { handle: number; place: number; qpNum: number; sendRing: ArrayBuffer; recvRing: ArrayBuffer };
  qpState(qp: number): number;
  qpRemote(qp: number): number;
  modifyQp(qp: number, state: number, access: number): void;
  closeQp(qp: number): void;
  listen(device: number, address: string | undefined, channel: number): { handle: number; address: string };
  nextConnection(listener: number): MadeConnection | undefined;
  nextDisconnection(listener: number): number | undefined;
  connect(device: number, address: string, qps: readonly number[], channel: number): MadeConnection;
  connectionState(connection: number): ConnectionState;
  acceptConnection(connection: number, qps: readonly number[]): void;
  rejectConnection(connection: number): void;
  closeConnection(connection: number): void;
}
