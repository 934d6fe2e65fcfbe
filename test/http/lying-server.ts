import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What an answer has instead of the truth. */
export interface Lie {
  readonly status?: number;
  readonly text?: string;
}

/** Gives the lie for the nth request with this method and key, counted from 1, or undefined for the truth. */
export type Liar = (method: string, key: string, nth: number) => Lie | undefined;

/** A server that stores as the real one does, and answers as it is told: shows that a check can fail. */
export class LyingServer implements AsyncDisposable {
  readonly url: string;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(liar: Liar): Promise<LyingServer> {
    const values = new Map<string, string>();
    const counts = new Map<string, number>();
    const truth = (method: string, key: string, body: string): { status: number; text: string } => {
      const value = values.get(key);
      if (method === 'PUT') {
        values.set(key, body);
        return { status: value === undefined ? 201 : 204, text: '' };
      }
      if (value === undefined) return { status: 404, text: '' };
      if (method === 'DELETE') {
        values.delete(key);
        return { status: 204, text: '' };
      }
      return { status: 200, text: value };
    };
    const server = createServer(async (request, response) => {
      let body = '';
      for await (const chunk of request) body += chunk;
      const method = request.method!;
      const key = decodeURIComponent(request.url!.slice('/v1/kv/'.length));
      const nth = (counts.get(`${method} ${key}`) ?? 0) + 1;
      counts.set(`${method} ${key}`, nth);
      const { status, text } = { ...truth(method, key, body), ...liar(method, key, nth) };
      response.writeHead(status).end(text);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new LyingServer(server);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
