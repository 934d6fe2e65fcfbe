import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface MapServer extends AsyncDisposable {
  readonly url: string;
  readonly server: Server;
  readonly values: Map<string, Buffer>;
}

/** What the generator needs of the HTTP API, over a Map. `override` answers instead where it returns a status. */
export async function startMapServer(
  override: (method: string, path: string) => number | undefined = () => undefined,
): Promise<MapServer> {
  const values = new Map<string, Buffer>();
  const server = createServer((request, response) => {
    const path = request.url!;
    const chunks: Buffer[] = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const status = override(request.method!, path);
      const value = values.get(path);
      if (status !== undefined) {
        response.writeHead(status).end('{"title":\n  "as told"}');
      } else if (request.method === 'PUT') {
        values.set(path, Buffer.concat(chunks));
        response.writeHead(204).end();
      } else if (value === undefined) {
        response.writeHead(404).end();
      } else {
        response.writeHead(200).end(value);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    server,
    values,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
