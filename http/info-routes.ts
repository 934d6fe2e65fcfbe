import type { FastifyInstance, FastifyReply } from 'fastify';
import type { Kv } from '../kv/index.js';

export const INFO_PATHS = ['/', '/v1/health', '/v1/stats'];
export const INFO_METHODS = 'GET, HEAD';

const WELCOME = `patronus-kv: a key-value store.

  PUT    /v1/kv/{key}   store the request body under the key; 201 created, 204 replaced
  POST   /v1/kv/{key}   store it only if the key is absent; 201, or 409
  GET    /v1/kv/{key}   the value; 200, or 404 (HEAD: its headers; If-None-Match: 304)
  DELETE /v1/kv/{key}   remove it; 204, or 404
  GET    /v1/health     200 while the store works
  GET    /v1/stats      figures, as JSON

PUT and DELETE take If-Match and If-None-Match with the entity tag of a value, or *; 412 if they don't hold.
Values have no dates: If-Modified-Since and If-Unmodified-Since are ignored.
A key is all that follows /v1/kv/, percent-decoded: any bytes. A value is any bytes.
Errors are application/problem+json; "code" is for programs.
`;

/** Reading any key, there or not, takes the whole way to the memory node and back. */
const HEALTH_KEY = Buffer.from('health');

type FailureSink = (error: unknown, reply: FastifyReply) => void;

export function registerInfoRoutes(app: FastifyInstance, kv: Kv, failed: FailureSink): void {
  app.get('/', (_request, reply) => {
    reply.type('text/plain; charset=utf-8').send(WELCOME);
  });
  app.get('/v1/health', (_request, reply) => {
    kv.has(HEALTH_KEY)
      .then(() => reply.send({ status: 'ok' }))
      .catch((error: unknown) => failed(error, reply));
  });
  app.get('/v1/stats', (_request, reply) => {
    const memory = process.memoryUsage();
    reply.send({
      kv: kv.stats(),
      limits: { maxKeyBytes: kv.maxKeyBytes, maxValueBytes: kv.maxValueBytes },
      process: {
        pid: process.pid,
        node: process.version,
        uptimeSeconds: process.uptime(),
        rssBytes: memory.rss,
        heapUsedBytes: memory.heapUsed,
        arrayBuffersBytes: memory.arrayBuffers,
      },
    });
  });
}
