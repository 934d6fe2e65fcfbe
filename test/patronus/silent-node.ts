/** A memory node of this thread that answers what it is told to: requests wait until then. */
import { Access, type Completion, type Connection, openDevice, type QueuePair } from '../../native/index.js';
import type { NodeEndpoint } from '../../patronus/index.js';
import {
  head,
  MAX_REQUESTS,
  MESSAGE_BYTES,
  MESSAGE_WORDS,
  MessageType,
  putNumber,
  Word,
} from '../../patronus/wire/messages.js';

export interface Request {
  readonly type: number;
  readonly flags: number;
  readonly words: Uint32Array;
  /** Answer with this status and what `fill` writes. */
  answer(status: number, fill?: (reply: Uint32Array) => void): void;
}

export class SilentNode {
  readonly endpoint: NodeEndpoint;
  /** Requests that have come, but hellos. */
  readonly requests: Request[] = [];
  /** Asked about each: what it answers at once. */
  onRequest: (request: Request) => void = () => {};
  private readonly device = openDevice();
  private readonly pd = this.device.allocPd();
  private readonly memory = this.device.allocMemory(2 * MAX_REQUESTS * MESSAGE_BYTES);
  private readonly region = this.pd.regMr(this.memory, 0, this.memory.byteLength, Access.LOCAL_WRITE);
  private readonly words = new Uint32Array(this.memory.buffer);
  private readonly cq = this.device.createCq(256);
  private readonly listener = this.device.listen(this.device.createChannel());
  private link: Connection | undefined;
  private control: QueuePair | undefined;
  private running = true;
  private readonly completion: Completion = {
    wrId: 0,
    status: 0,
    opcode: 0,
    flags: 0,
    byteLen: 0,
    qpNum: 0,
    imm: 0,
  };

  constructor() {
    this.endpoint = { nodeId: 0, address: this.listener.address };
    this.turn();
  }

  /** End the connection. */
  hangUp(): void {
    this.link?.close();
  }

  close(): void {
    this.running = false;
    this.device.close();
  }

  private turn(): void {
    if (!this.running) return;
    const link = this.listener.nextConnection();
    if (link !== undefined) this.accept(link);
    while (this.cq.poll(this.completion)) {
      if (this.completion.status === 0 && this.completion.wrId < MAX_REQUESTS)
        this.take(this.completion.wrId);
    }
    setImmediate(() => this.turn());
  }

  private accept(link: Connection): void {
    const queues = { sendCq: this.cq, recvCq: this.cq, maxSendWr: 128, maxRecvWr: MAX_REQUESTS };
    this.control = this.pd.createQp(queues);
    const data = Array.from({ length: link.qpCount - 1 }, () => this.pd.createQp(queues));
    for (let buffer = 0; buffer < MAX_REQUESTS; buffer++) this.receive(buffer);
    link.accept([this.control, ...data]);
    this.link = link;
  }

  private receive(buffer: number): void {
    this.control!.postRecv(buffer, buffer * MESSAGE_BYTES, this.region.lkey, MESSAGE_BYTES);
  }

  private take(buffer: number): void {
    const words = this.words.slice(buffer * MESSAGE_WORDS, (buffer + 1) * MESSAGE_WORDS);
    this.receive(buffer);
    const type = (words[0]! >>> 8) & 0xff;
    const request: Request = {
      type,
      flags: words[0]! >>> 16,
      words,
      answer: (status, fill = () => {}) => {
        const at = (MAX_REQUESTS + buffer) * MESSAGE_WORDS;
        const reply = this.words.subarray(at, at + MESSAGE_WORDS).fill(0);
        reply[0] = head(type, status);
        reply[Word.REQUEST_ID] = words[Word.REQUEST_ID]!;
        fill(reply);
        this.control!.postSend(1000, 0, at * 4, this.region.lkey, MESSAGE_BYTES);
        this.control!.doorbell();
      },
    };
    if (type === MessageType.HELLO) {
      request.answer(0, (reply) => {
        reply[Word.DIRECTORY] = 1 << 16;
        putNumber(reply, Word.OFFSET, 65536);
      });
      return;
    }
    this.requests.push(request);
    this.onRequest(request);
  }
}
