import { Access, nowNs, openDevice, type QueuePair } from '../../../native/index.js';
import { MESSAGE_BYTES } from '../../../patronus/wire/messages.js';

const DEPTH = 32;
const LAST_TAG = 255;

/**
 * What a batch of grants and a batch of ends are to the verbs layer, with nothing around it: requests received and their buffers
 * posted again, two windows bound or unbound for each, answers sent. What DirectoryRig measures can't be less.
 */
export class BareVerbs {
  /** Time that the node's part has taken so far. */
  ns = 0;
  private readonly device = openDevice();
  private readonly pd = this.device.allocPd();
  private readonly memory = this.device.allocMemory(65536);
  private readonly region = this.pd.regMr(this.memory, 0, 65536, Access.LOCAL_WRITE | Access.MW_BIND);
  private readonly windows = Array.from({ length: 2 * DEPTH }, () => this.pd.allocMw());
  private tag = 0;
  private readonly nodeCq = this.device.createCq(256);
  private readonly clientCq = this.device.createCq(256);
  private readonly node: QueuePair;
  private readonly client: QueuePair;
  private readonly completion = { wrId: 0, status: 0, opcode: 0, flags: 0, byteLen: 0, qpNum: 0, imm: 0 };

  constructor() {
    const { device, pd } = this;
    const pair = (recvCq: typeof this.nodeCq) =>
      pd.createQp({ sendCq: device.createCq(256), recvCq, maxSendWr: 256, maxRecvWr: 64 });
    this.node = pair(this.nodeCq);
    this.client = pair(this.clientCq);
    const channel = device.createChannel();
    const listener = device.listen(channel);
    device.connect(listener.address, [this.client], channel);
    listener.nextConnection()!.accept([this.node]);
    for (let i = 0; i < DEPTH; i++) this.receive(this.node, i);
  }

  /** A batch of DEPTH grants and one of as many ends. */
  round(): void {
    if (this.tag === LAST_TAG) this.replaceWindows();
    this.tag++;
    this.batch(true);
    this.batch(false);
  }

  close(): void {
    this.device.close();
  }

  private batch(bind: boolean): void {
    const { node, client, completion, region, windows } = this;
    for (let i = 0; i < DEPTH; i++) {
      this.receive(client, i);
      client.postSend(i, 0, 0, region.lkey, MESSAGE_BYTES);
    }
    client.doorbell();
    const begun = nowNs();
    let count = 0;
    while (this.nodeCq.poll(completion)) {
      for (let window = 2 * count; window < 2 * count + 2; window++) {
        const key = windows[window]!.keyBase | this.tag;
        if (bind) node.postBindMw(0, 0, key, region.lkey, 64 * count, 64, Access.REMOTE_READ);
        else node.postLocalInv(0, 0, key);
      }
      count++;
    }
    for (let i = 0; i < count; i++) {
      this.receive(node, i);
      node.postSend(i, 0, MESSAGE_BYTES, region.lkey, MESSAGE_BYTES);
    }
    node.doorbell();
    this.ns += nowNs() - begun;
    let answers = 0;
    while (this.clientCq.poll(completion)) answers++;
    if (count !== DEPTH || answers !== DEPTH) throw new Error(`${count} requests, ${answers} answers`);
  }

  private receive(qp: QueuePair, buffer: number): void {
    qp.postRecv(buffer, 1024 + MESSAGE_BYTES * buffer, this.region.lkey, MESSAGE_BYTES);
  }

  private replaceWindows(): void {
    for (let i = 0; i < this.windows.length; i++) {
      this.windows[i]!.close();
      this.windows[i] = this.pd.allocMw();
    }
    this.tag = 0;
  }
}
