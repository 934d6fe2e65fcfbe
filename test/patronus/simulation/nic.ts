/**
 * A NIC in virtual time: the verbs contract, with requests that take their time on the way there and back, and connections that
 * can be cut at any moment. Only what the product uses.
 */
import type {
  Completion,
  CompletionChannel,
  CompletionQueue,
  Connection,
  ConnectionState,
  Device,
  DeviceAttr,
  HostMemory,
  Listener,
  ListenOptions,
  MemoryRegion,
  MemoryWindow,
  ProtectionDomain,
  QueuePair,
  QueuePairInit,
} from '../../../native/contract.js';
import { Access, Opcode, QpState, SendFlag, WcOpcode, WcStatus } from '../../../native/verbs.js';
import type { Scheduler } from './scheduler.js';

const ATTR: DeviceAttr = {
  name: 'simulated0',
  maxQp: 1e6,
  maxQpWr: 1e6,
  maxCq: 1e6,
  maxCqe: 1e6,
  maxMr: 1e6,
  maxMw: 1e6,
  maxPd: 1e6,
  maxSrq: 0,
  maxSrqWr: 0,
  maxMessage: 2 ** 31,
  maxInline: 0,
  rebindBoundWindow: true,
  windowScope: 'pd',
  windowBounds: true,
  queuesAcrossConnections: true,
};

/** What a key stands for now. */
interface Key {
  readonly pd: SimPd;
  readonly memory: SimMemory;
  /** Of address `iova` in the memory. */
  readonly offset: number;
  readonly iova: number;
  readonly length: number;
  readonly access: number;
  /** Of a window. */
  readonly region: SimRegion | undefined;
}

interface Request {
  readonly opcode: number;
  readonly wrId: number;
  readonly flags: number;
  readonly localAddr: number;
  readonly lkey: number;
  readonly length: number;
  readonly remoteAddr: number;
  readonly rkey: number;
  /** Of atomics. */
  readonly compareAdd: bigint;
  readonly swap: bigint;
  readonly access: number;
}

/** A one-sided access that a NIC let through. */
export interface Accepted {
  /** Whose NIC it was. */
  readonly device: SimDevice;
  readonly opcode: number;
  readonly rkey: number;
  readonly memory: SimMemory;
  readonly address: number;
  readonly length: number;
}

/** All NICs of the simulated hosts, and the wires between them. */
export class Fabric {
  readonly scheduler: Scheduler;
  readonly keys = new Map<number, Key>();
  readonly listeners = new Map<string, SimListener>();
  /** By their numbers, with how many have each open. */
  readonly published = new Map<number, { readonly buffer: ArrayBuffer; users: number }>();
  /** Objects that are open: what leaks shows here. */
  readonly open = new Map<object, SimDevice>();
  onAccepted: (access: Accepted) => void = () => {};
  /** A request of this device has left it, has reached the other side, or has its completion. */
  onTravel: (device: SimDevice, step: 'left' | 'arrived' | 'completed') => void = () => {};
  nextIndex = 1;
  nextMemory = 1;
  nextQp = 1;
  nextConnection = 1;
  /** Of 1: steps on a wire that take up to milliseconds. */
  stalls = 0;

  constructor(scheduler: Scheduler) {
    this.scheduler = scheduler;
  }

  openOf(device: SimDevice): object[] {
    return [...this.open].filter(([, owner]) => owner === device).map(([object]) => object);
  }

  delay(): number {
    const { scheduler } = this;
    return scheduler.chance(this.stalls) ? scheduler.between(0, 2e6) : scheduler.between(200, 4000);
  }

  /** The memory that a key opens at an address, or undefined. */
  find(rkey: number, pd: SimPd, address: number, length: number, access: number): DataView | undefined {
    const key = this.keys.get(rkey);
    if (key === undefined || key.pd !== pd || (key.access & access) !== access) return undefined;
    if (address < key.iova || address + length > key.iova + key.length) return undefined;
    return new DataView(key.memory.buffer, key.offset + address - key.iova, length);
  }
}

export class SimMemory implements HostMemory {
  readonly buffer: ArrayBuffer;
  readonly byteLength: number;
  /** 0 until it is published. */
  private number: number;
  private readonly fabric: Fabric;

  /** New memory, or what was published under that number. */
  constructor(device: SimDevice, byteLength: number, number = 0) {
    const { fabric } = device;
    const published = fabric.published.get(number);
    if (number !== 0 && published === undefined) throw new Error('there is no such memory');
    if (published !== undefined) published.users++;
    this.fabric = fabric;
    this.number = number;
    this.buffer = published?.buffer ?? new ArrayBuffer(byteLength);
    this.byteLength = this.buffer.byteLength;
    fabric.open.set(this, device);
  }

  publish(): number {
    if (this.number === 0) {
      this.number = this.fabric.nextMemory++;
      this.fabric.published.set(this.number, { buffer: this.buffer, users: 1 });
    }
    return this.number;
  }

  close(): void {
    if (!this.fabric.open.delete(this)) return;
    const published = this.fabric.published.get(this.number);
    if (published !== undefined && --published.users === 0) this.fabric.published.delete(this.number);
  }
}

class SimRegion implements MemoryRegion {
  readonly lkey: number;
  readonly rkey: number;
  readonly iova: number;
  readonly length: number;
  readonly key: Key;
  windows = 0;
  private readonly fabric: Fabric;

  constructor(key: Key) {
    const { fabric, device } = key.pd;
    this.fabric = fabric;
    this.key = key;
    this.lkey = this.rkey = fabric.nextIndex++ << 8;
    this.iova = key.iova;
    this.length = key.length;
    fabric.keys.set(this.rkey, key);
    fabric.open.set(this, device);
  }

  close(): void {
    if (this.windows > 0) throw new Error('windows are bound to the region');
    this.fabric.keys.delete(this.rkey);
    this.fabric.open.delete(this);
  }
}

class SimWindow implements MemoryWindow {
  readonly keyBase: number;
  /** Its live key; 0 while it is not bound. */
  rkey = 0;
  private readonly pd: SimPd;

  constructor(pd: SimPd) {
    this.pd = pd;
    this.keyBase = pd.fabric.nextIndex++ << 8;
    pd.windows.set(this.keyBase, this);
    pd.fabric.open.set(this, pd.device);
  }

  unbind(): void {
    const key = this.pd.fabric.keys.get(this.rkey);
    if (key?.region !== undefined) key.region.windows--;
    this.pd.fabric.keys.delete(this.rkey);
    this.rkey = 0;
  }

  close(): void {
    this.unbind();
    this.pd.windows.delete(this.keyBase);
    this.pd.fabric.open.delete(this);
  }
}

export class SimPd implements ProtectionDomain {
  readonly fabric: Fabric;
  readonly windows = new Map<number, SimWindow>();
  readonly regions = new Map<number, SimRegion>();
  readonly device: SimDevice;

  constructor(device: SimDevice) {
    this.device = device;
    this.fabric = device.fabric;
    this.fabric.open.set(this, device);
  }

  regMr(memory: HostMemory, offset: number, length: number, access: number, iova = offset): MemoryRegion {
    const key = { pd: this, memory: memory as SimMemory, offset, iova, length, access, region: undefined };
    const region = new SimRegion(key);
    this.regions.set(region.lkey, region);
    return region;
  }

  allocMw(): MemoryWindow {
    return new SimWindow(this);
  }

  createQp(init: QueuePairInit): QueuePair {
    return new SimQp(this.device, this, init);
  }

  createSrq(): never {
    throw new Error('not simulated');
  }

  close(): void {
    this.fabric.open.delete(this);
  }
}

interface Entry extends Completion {}

class SimCq implements CompletionQueue {
  readonly depth: number;
  private readonly device: SimDevice;
  private readonly channel: SimChannel | undefined;
  private readonly entries: Entry[] = [];
  private armed = false;

  constructor(device: SimDevice, depth: number, channel: SimChannel | undefined) {
    this.device = device;
    this.depth = depth;
    this.channel = channel;
    device.fabric.open.set(this, device);
  }

  push(entry: Entry): void {
    // A process that was killed sees nothing any more.
    if (this.device.dead) return;
    if (this.entries.length === this.depth) throw new Error('a completion queue overflows');
    this.entries.push(entry);
    if (!this.armed) return;
    this.armed = false;
    this.channel?.signal();
  }

  poll(into: Completion): boolean {
    const entry = this.entries.shift();
    if (entry === undefined) return false;
    Object.assign(into, entry);
    return true;
  }

  arm(): void {
    this.armed = true;
  }

  close(): void {
    this.device.fabric.open.delete(this);
  }
}

class SimChannel implements CompletionChannel {
  readonly fd = 0;
  private readonly device: SimDevice;
  private signalled = false;
  private listener: (() => void) | undefined;

  constructor(device: SimDevice) {
    this.device = device;
    device.fabric.open.set(this, device);
  }

  signal(): void {
    this.signalled = true;
    const { fabric } = this.device;
    fabric.scheduler.after(fabric.scheduler.between(500, 20_000), () => this.deliver());
  }

  wait(): never {
    throw new Error('a simulated thread does not block');
  }

  onSignal(listener: (() => void) | undefined): void {
    this.listener = listener;
    if (listener !== undefined && this.signalled) this.signal();
  }

  close(): void {
    this.listener = undefined;
    this.device.fabric.open.delete(this);
  }

  private deliver(): void {
    if (!this.signalled || this.listener === undefined || this.device.dead) return;
    this.signalled = false;
    this.listener();
  }
}

const REMOTE_ACCESS: Readonly<Record<number, number>> = {
  [Opcode.RDMA_READ]: Access.REMOTE_READ,
  [Opcode.RDMA_WRITE]: Access.REMOTE_WRITE,
  [Opcode.CMP_AND_SWP]: Access.REMOTE_ATOMIC,
  [Opcode.FETCH_AND_ADD]: Access.REMOTE_ATOMIC,
};

class SimQp implements QueuePair {
  readonly qpNum: number;
  state: QpState = QpState.RESET;
  remote: SimQp | undefined;
  private readonly device: SimDevice;
  private readonly pd: SimPd;
  private readonly init: QueuePairInit;
  /** Written, and not handed over by a doorbell. */
  private posted: Request[] = [];
  /** Handed over, without a completion. */
  private underWay: Request[] = [];
  private receives: { wrId: number; address: number; lkey: number; length: number }[] = [];
  /** What belongs to an earlier life of the pair is ignored. */
  private life = 0;
  private lastArrival = 0;
  private lastAnswer = 0;

  constructor(device: SimDevice, pd: SimPd, init: QueuePairInit) {
    this.device = device;
    this.pd = pd;
    this.init = init;
    this.qpNum = device.fabric.nextQp++;
    device.fabric.open.set(this, device);
  }

  get remoteQpNum(): number {
    return this.remote?.qpNum ?? 0;
  }

  modify(state: QpState): void {
    if (state === QpState.RESET) {
      this.life++;
      this.posted = [];
      this.underWay = [];
      this.receives = [];
      this.lastArrival = this.lastAnswer = 0;
      this.state = state;
    } else if (state === QpState.ERR) {
      this.fail();
    } else {
      const before = {
        [QpState.INIT]: QpState.RESET,
        [QpState.RTR]: QpState.INIT,
        [QpState.RTS]: QpState.RTR,
      };
      if (this.state !== before[state]) throw new TypeError(`no step from ${this.state} to ${state}`);
      this.state = state;
    }
  }

  postRead(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    length: number,
    remoteAddr: number,
    rkey: number,
  ): boolean {
    return this.post({ opcode: Opcode.RDMA_READ, wrId, flags, localAddr, lkey, length, remoteAddr, rkey });
  }

  postWrite(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    length: number,
    remoteAddr: number,
    rkey: number,
  ): boolean {
    return this.post({ opcode: Opcode.RDMA_WRITE, wrId, flags, localAddr, lkey, length, remoteAddr, rkey });
  }

  postCas(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    remoteAddr: number,
    rkey: number,
    compareLo: number,
    compareHi: number,
    swapLo: number,
    swapHi: number,
  ): boolean {
    const opcode = Opcode.CMP_AND_SWP;
    const compareAdd = word(compareLo, compareHi);
    const swap = word(swapLo, swapHi);
    return this.post({ opcode, wrId, flags, localAddr, lkey, length: 8, remoteAddr, rkey, compareAdd, swap });
  }

  postFaa(
    wrId: number,
    flags: number,
    localAddr: number,
    lkey: number,
    remoteAddr: number,
    rkey: number,
    addLo: number,
    addHi: number,
  ): boolean {
    const opcode = Opcode.FETCH_AND_ADD;
    const compareAdd = word(addLo, addHi);
    return this.post({ opcode, wrId, flags, localAddr, lkey, length: 8, remoteAddr, rkey, compareAdd });
  }

  postSend(wrId: number, flags: number, localAddr: number, lkey: number, length: number): boolean {
    return this.post({ opcode: Opcode.SEND, wrId, flags, localAddr, lkey, length });
  }

  postBindMw(
    wrId: number,
    flags: number,
    rkey: number,
    lkey: number,
    address: number,
    length: number,
    access: number,
  ): boolean {
    return this.post({
      opcode: Opcode.BIND_MW,
      wrId,
      flags,
      rkey,
      lkey,
      remoteAddr: address,
      length,
      access,
    });
  }

  postLocalInv(wrId: number, flags: number, rkey: number): boolean {
    return this.post({ opcode: Opcode.LOCAL_INV, wrId, flags, rkey });
  }

  postSendImm(): never {
    throw new Error('not simulated');
  }

  postSendInv(): never {
    throw new Error('not simulated');
  }

  postWriteImm(): never {
    throw new Error('not simulated');
  }

  postSendInline(): never {
    throw new Error('not simulated');
  }

  postWriteInline(): never {
    throw new Error('not simulated');
  }

  postRecv(wrId: number, address: number, lkey: number, length: number): boolean {
    if (this.receives.length === this.init.maxRecvWr) return false;
    this.receives.push({ wrId, address, lkey, length });
    return true;
  }

  doorbell(): void {
    const requests = this.posted.splice(0);
    if (this.device.dead) return;
    for (const request of requests) {
      // The node's window work is done when the doorbell returns, as on every link that there is.
      if (request.opcode === Opcode.BIND_MW || request.opcode === Opcode.LOCAL_INV)
        this.executeWindow(request);
      else this.depart(request);
    }
  }

  /** To ERR: what is under way and every receive buffer is flushed. */
  fail(): void {
    if (this.state === QpState.ERR) return;
    this.state = QpState.ERR;
    this.life++;
    for (const request of this.underWay.splice(0)) this.complete(request, WcStatus.WR_FLUSH_ERR);
    for (const { wrId } of this.receives.splice(0)) this.received(wrId, WcStatus.WR_FLUSH_ERR, 0);
  }

  close(): void {
    this.fail();
    this.life++;
    this.remote?.fail();
    this.device.fabric.open.delete(this);
  }

  private post(request: Partial<Request> & Pick<Request, 'opcode' | 'wrId' | 'flags'>): boolean {
    if (this.posted.length + this.underWay.length >= this.init.maxSendWr) return false;
    const blank = {
      localAddr: 0,
      lkey: 0,
      length: 0,
      remoteAddr: 0,
      rkey: 0,
      compareAdd: 0n,
      swap: 0n,
      access: 0,
    };
    this.posted.push({ ...blank, ...request });
    return true;
  }

  private complete(request: Request, status: number): void {
    if (status === WcStatus.SUCCESS && (request.flags & SendFlag.SIGNALED) === 0) return;
    const { wrId, length } = request;
    (this.init.sendCq as SimCq).push({
      wrId,
      status,
      opcode: 0,
      flags: 0,
      byteLen: length,
      qpNum: this.qpNum,
      imm: 0,
    });
  }

  private received(wrId: number, status: number, byteLen: number): void {
    const opcode = WcOpcode.RECV;
    (this.init.recvCq as SimCq).push({ wrId, status, opcode, flags: 0, byteLen, qpNum: this.qpNum, imm: 0 });
  }

  private executeWindow(request: Request): void {
    if (this.state !== QpState.RTS) {
      this.complete(request, WcStatus.WR_FLUSH_ERR);
      return;
    }
    const window = this.pd.windows.get((request.rkey & ~0xff) >>> 0);
    const region = this.pd.regions.get(request.lkey);
    const inv = request.opcode === Opcode.LOCAL_INV;
    const { remoteAddr: iova, length, access } = request;
    const fits = region !== undefined && iova >= region.iova && iova + length <= region.iova + region.length;
    if (window === undefined || (inv ? window.rkey !== request.rkey : !fits)) {
      this.complete(request, WcStatus.MW_BIND_ERR);
      this.fail();
      return;
    }
    window.unbind();
    if (inv || region === undefined) return;
    const { memory, offset } = region.key;
    const key = { pd: this.pd, memory, offset: offset + iova - region.iova, iova, length, access, region };
    region.windows++;
    window.rkey = request.rkey;
    this.device.fabric.keys.set(request.rkey, key);
  }

  private depart(request: Request): void {
    this.underWay.push(request);
    const { fabric } = this.device;
    const { scheduler } = fabric;
    const { life } = this;
    if (this.state !== QpState.RTS) {
      this.underWay.pop();
      this.complete(request, WcStatus.WR_FLUSH_ERR);
      return;
    }
    // What a write or a message carries is read now; it may be changed once there is a completion.
    const local = new Uint8Array(request.length);
    if (request.opcode === Opcode.RDMA_WRITE || request.opcode === Opcode.SEND)
      local.set(this.local(request));
    fabric.onTravel(this.device, 'left');
    this.lastArrival = Math.max(this.lastArrival, scheduler.now + fabric.delay());
    scheduler.after(this.lastArrival - scheduler.now, () => {
      if (this.life !== life) return;
      const status = this.remote?.arrive(request, local) ?? WcStatus.RETRY_EXC_ERR;
      fabric.onTravel(this.device, 'arrived');
      this.lastAnswer = Math.max(this.lastAnswer, scheduler.now + fabric.delay());
      scheduler.after(this.lastAnswer - scheduler.now, () => {
        if (this.life !== life) return;
        this.underWay.shift();
        const moved = request.opcode !== Opcode.RDMA_WRITE && request.opcode !== Opcode.SEND;
        if (status === WcStatus.SUCCESS && moved) this.local(request).set(local);
        this.complete(request, status);
        if (status !== WcStatus.SUCCESS) this.fail();
        fabric.onTravel(this.device, 'completed');
      });
    });
  }

  private local({ lkey, localAddr, length }: Request): Uint8Array {
    const view = this.device.fabric.find(lkey, this.pd, localAddr, length, 0);
    if (view === undefined) throw new Error('a local buffer is none');
    return new Uint8Array(view.buffer, view.byteOffset, length);
  }

  /** A request of the other side; `bytes` go with it or back. */
  private arrive(request: Request, bytes: Uint8Array): number {
    if (this.state !== QpState.RTS && this.state !== QpState.RTR) return WcStatus.RETRY_EXC_ERR;
    if (request.opcode === Opcode.SEND) {
      const receive = this.receives.shift();
      if (receive === undefined) return WcStatus.RNR_RETRY_EXC_ERR;
      const { lkey, address, wrId } = receive;
      const view = this.device.fabric.find(lkey, this.pd, address, bytes.length, 0)!;
      new Uint8Array(view.buffer, view.byteOffset, bytes.length).set(bytes);
      this.received(wrId, WcStatus.SUCCESS, bytes.length);
      return WcStatus.SUCCESS;
    }
    const { opcode, rkey, remoteAddr: address, length } = request;
    const { fabric } = this.device;
    const atomic = opcode === Opcode.CMP_AND_SWP || opcode === Opcode.FETCH_AND_ADD;
    if (atomic && address % 8 !== 0) {
      this.fail();
      return WcStatus.REM_INV_REQ_ERR;
    }
    const view = fabric.find(rkey, this.pd, address, length, REMOTE_ACCESS[opcode]!);
    if (view === undefined) {
      this.fail();
      return WcStatus.REM_ACCESS_ERR;
    }
    const { memory } = fabric.keys.get(rkey)!;
    fabric.onAccepted({ device: this.device, opcode, rkey, memory, address, length });
    const target = new Uint8Array(view.buffer, view.byteOffset, length);
    if (opcode === Opcode.RDMA_WRITE) {
      target.set(bytes);
      return WcStatus.SUCCESS;
    }
    bytes.set(target);
    if (!atomic) return WcStatus.SUCCESS;
    const old = view.getBigUint64(0, true);
    if (opcode === Opcode.FETCH_AND_ADD)
      view.setBigUint64(0, BigInt.asUintN(64, old + request.compareAdd), true);
    else if (old === request.compareAdd) view.setBigUint64(0, request.swap, true);
    return WcStatus.SUCCESS;
  }
}

function word(low: number, high: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

/** Both ends of a connection; each end is seen through a {@link SimConnection}. */
class Wire {
  readonly id: number;
  state: ConnectionState = 'connecting';
  /** The node knows of the end. */
  announced = false;
  readonly fabric: Fabric;
  readonly client: readonly SimQp[];
  readonly channel: SimChannel;
  readonly listener: SimListener;
  node: readonly SimQp[] = [];

  constructor(fabric: Fabric, client: readonly SimQp[], channel: SimChannel, listener: SimListener) {
    this.fabric = fabric;
    this.id = fabric.nextConnection++;
    this.client = client;
    this.channel = channel;
    this.listener = listener;
  }

  accept(qps: readonly SimQp[]): void {
    if (this.state !== 'connecting') throw new Error('the client has gone');
    this.node = qps;
    for (const [i, qp] of qps.entries()) {
      const other = this.client[i]!;
      qp.remote = other;
      other.remote = qp;
      for (const side of [qp, other])
        for (const state of [QpState.INIT, QpState.RTR, QpState.RTS]) side.modify(state);
    }
    this.state = 'established';
    this.channel.signal();
  }

  end(state: 'closed' | 'rejected'): void {
    if (this.state === 'closed' || this.state === 'rejected') return;
    const established = this.state === 'established';
    this.state = state;
    for (const qp of [...this.node, ...this.client]) qp.fail();
    this.channel.signal();
    if (!established) return;
    this.fabric.scheduler.after(this.fabric.delay(), () => this.listener.ended.push(this));
  }
}

class SimConnection implements Connection {
  readonly peer = undefined;
  private readonly wire: Wire;

  constructor(wire: Wire) {
    this.wire = wire;
  }

  get id(): number {
    return this.wire.id;
  }

  get state(): ConnectionState {
    return this.wire.state;
  }

  get qpCount(): number {
    return this.wire.client.length;
  }

  accept(qps: readonly QueuePair[]): void {
    this.wire.accept(qps as readonly SimQp[]);
  }

  reject(): void {
    this.wire.end('rejected');
  }

  close(): void {
    this.wire.end('closed');
  }
}

export class SimListener implements Listener {
  readonly address: string;
  readonly arrived: Wire[] = [];
  readonly ended: Wire[] = [];
  /** Connections that there are or were. */
  readonly wires = new Set<Wire>();
  private readonly connections = new Map<Wire, SimConnection>();

  constructor(fabric: Fabric, address: string) {
    if (fabric.listeners.has(address)) throw new Error(`${address} is in use`);
    this.address = address;
    fabric.listeners.set(address, this);
  }

  nextConnection(): Connection | undefined {
    const wire = this.arrived.shift();
    if (wire === undefined) return undefined;
    const connection = new SimConnection(wire);
    this.connections.set(wire, connection);
    return connection;
  }

  nextDisconnection(): Connection | undefined {
    const wire = this.ended.shift();
    if (wire === undefined) return undefined;
    this.wires.delete(wire);
    const connection = this.connections.get(wire);
    this.connections.delete(wire);
    return connection;
  }

  close(): void {}
}

export class SimDevice implements Device {
  readonly attr = ATTR;
  readonly fabric: Fabric;
  /** Its process was killed. */
  dead = false;
  /** Its connections, from the client's side. */
  readonly wires: Wire[] = [];

  constructor(fabric: Fabric) {
    this.fabric = fabric;
  }

  allocMemory(byteLength: number): HostMemory {
    return new SimMemory(this, byteLength);
  }

  openMemory(number: number): HostMemory {
    return new SimMemory(this, 0, number);
  }

  allocPd(): ProtectionDomain {
    return new SimPd(this);
  }

  createChannel(): CompletionChannel {
    return new SimChannel(this);
  }

  createCq(depth: number, channel?: CompletionChannel): CompletionQueue {
    return new SimCq(this, depth, channel as SimChannel | undefined);
  }

  queryPort(): never {
    throw new Error('not simulated');
  }

  listen(_channel: CompletionChannel, { address = 'loopback:1' }: ListenOptions = {}): Listener {
    return new SimListener(this.fabric, address);
  }

  connect(address: string, qps: readonly QueuePair[], channel: CompletionChannel): Connection {
    const { fabric } = this;
    const listener = fabric.listeners.get(address);
    if (listener === undefined) throw new Error(`nobody listens at ${address}`);
    const wire = new Wire(fabric, qps as readonly SimQp[], channel as SimChannel, listener);
    this.wires.push(wire);
    listener.wires.add(wire);
    fabric.scheduler.after(fabric.delay(), () => {
      if (wire.state === 'connecting') listener.arrived.push(wire);
    });
    return new SimConnection(wire);
  }

  /** The connections break, both sides learn of it. */
  cut(): void {
    for (const wire of this.wires) wire.end('closed');
    this.wires.length = 0;
  }

  /** One of the connections breaks. */
  cutOne(): void {
    const open = this.wires.filter(({ state }) => state === 'established');
    open[this.fabric.scheduler.between(0, open.length)]?.end('closed');
  }

  /** The process is killed. What it has sent may still arrive before the connection is known to be over. */
  kill(): void {
    this.dead = true;
    this.fabric.scheduler.after(this.fabric.delay(), () => this.cut());
  }

  close(): void {
    this.cut();
  }
}
