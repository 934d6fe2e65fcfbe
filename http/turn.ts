import type { Socket } from 'node:net';
import type { FastifyReply, FastifyRequest } from 'fastify';

type Handler = (request: FastifyRequest, reply: FastifyReply) => void;

/** How many requests of a connection wait, for connections on which some have. */
const waiting = new WeakMap<Socket, number>();

/**
 * Makes a handler begin once the earlier requests of its connection are answered, which is at once unless the client
 * pipelines. Pipelined requests that may write must not overlap (RFC 9112, 9.3.2): Node.js orders the answers, but
 * would let a GET overtake the body of the PUT before it. If the connection ends first, the handler never begins.
 */
export function inTurn(handler: Handler): Handler {
  return (request, reply) => {
    // Node.js gives a response its socket when those before it are finished.
    if (reply.raw.socket !== null) handler(request, reply);
    else wait(request, reply, handler);
  };
}

function wait(request: FastifyRequest, reply: FastifyReply, handler: Handler): void {
  const { socket } = request.raw;
  const count = (waiting.get(socket) ?? 0) + 1;
  waiting.set(socket, count);
  if (count === 1) {
    // Nothing more is read meanwhile, or a client that reads no answers could pile up requests.
    socket.on('resume', pauseAgain);
    socket.pause();
  }
  reply.raw.once('socket', () => {
    const left = waiting.get(socket)! - 1;
    waiting.set(socket, left);
    if (left === 0) {
      socket.off('resume', pauseAgain);
      socket.resume();
    }
    handler(request, reply);
  });
}

/** Node.js resumes a connection whenever it has a request complete. */
function pauseAgain(this: Socket): void {
  this.pause();
}
