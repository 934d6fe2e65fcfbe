import { connect, type Socket } from 'node:net';

/** One answer as it came over the wire. */
export interface RawAnswer {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Buffer;
}

/** A TCP connection to a server that says exactly what a test wants and reads answers one by one. */
export class RawClient {
  readonly #socket: Socket;
  #received = Buffer.alloc(0);
  #ended = false;
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    const wake = (): void => this.#wake();
    socket.on('data', (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      wake();
    });
    socket.on('error', () => {});
    for (const event of ['end', 'close']) {
      socket.on(event, () => {
        this.#ended = true;
        wake();
      });
    }
  }

  static async open(port: number): Promise<RawClient> {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return new RawClient(socket);
  }

  send(text: string | Buffer): void {
    this.#socket.write(text);
  }

  /** No more will be sent; answers can still be read. */
  halfClose(): void {
    this.#socket.end();
  }

  /** Stops reading, until resume(). */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  abort(): void {
    this.#socket.resetAndDestroy();
  }

  /** The next final answer (100 Continue is passed over), or undefined if the connection ended before one. */
  async answer(options?: { toHead?: boolean }): Promise<RawAnswer | undefined> {
    for (;;) {
      const headEnd = await this.#until(() => this.#received.indexOf('\r\n\r\n'));
      if (headEnd === undefined) return undefined;
      const [statusLine, ...lines] = this.#take(headEnd + 4)
        .toString('latin1')
        .trimEnd()
        .split('\r\n');
      const status = Number(statusLine!.split(' ')[1]);
      if (status === 100) continue;
      const headers = new Map(
        lines.map((line) => [line.split(':')[0]!.toLowerCase(), line.replace(/^[^:]*: */, '')]),
      );
      const bodyless = options?.toHead || status === 204 || status === 304;
      const length = bodyless ? 0 : Number(headers.get('content-length'));
      const complete = await this.#until(() => (this.#received.length >= length ? length : -1));
      return complete === undefined ? undefined : { status, headers, body: this.#take(length) };
    }
  }

  /** Resolves when the server has ended the connection; to what was received and not taken by answer(). */
  async end(): Promise<Buffer> {
    await this.#until(() => -1);
    this.#socket.destroy();
    return this.#received;
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(length: number): Buffer {
    const taken = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return taken;
  }

  /** Waits until `found` gives 0 or more; undefined if the connection ends before. */
  async #until(found: () => number): Promise<number | undefined> {
    for (;;) {
      const at = found();
      if (at >= 0) return at;
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
