/**
 * The baseline of the HTTP benchmark: Fastify over a JavaScript Map, raw bytes in and out under the same routes, and
 * nothing else. Prints its address; ends with SIGTERM.
 */
import Fastify from 'fastify';

const values = new Map<string, Buffer>();
const app = Fastify({ logger: false });
app.removeAllContentTypeParsers();
app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
app.get<{ Params: { key: string } }>('/v1/kv/:key', (request, reply) => {
  const value = values.get(request.params.key);
  if (value === undefined) return reply.code(404).send();
  return reply.type('application/octet-stream').send(value);
});
app.put<{ Params: { key: string }; Body: Buffer }>('/v1/kv/:key', (request, reply) => {
  values.set(request.params.key, request.body);
  return reply.code(204).send();
});

process.stdout.write(`${await app.listen({ host: '127.0.0.1', port: 0 })}\n`);
