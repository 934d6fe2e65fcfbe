import Fastify, { type FastifyInstance, type FastifyReply, type RawRequestDefaultExpression } from 'fastify';
import type { Kv } from '../kv/index.js';
import { onClientError } from './connection-errors.js';
import { INFO_METHODS, INFO_PATHS, registerInfoRoutes } from './info-routes.js';
import { KEY_PREFIX, type RewrittenRequest } from './key.js';
import { KV_METHODS, registerKvRoutes } from './kv-routes.js';
import { codeOfError, sendProblem } from './problem-reply.js';
import { HttpErrorCode } from './problems.js';

/** Room for a key of 4096 bytes with every byte written as %XX, and for header fields. */
const MAX_HEADER_BYTES = 32 * 1024;
/** A request must be complete this long after it began. */
const REQUEST_TIMEOUT_MS = 120_000;

const NO_QUERY = {};

export interface AppOptions {
  /** Stays the caller's: closing the app does not close it. */
  readonly kv: Kv;
  /** Is told of errors that clients see only as ERR_HTTP_INTERNAL. Default: nobody is. */
  readonly onInternalError?: (error: unknown) => void;
}

/** Sends every key to one route: see registerKvRoutes. */
function rewriteUrl(request: RawRequestDefaultExpression): string {
  let target = request.url!;
  if (target.charCodeAt(0) !== 0x2f /* '/' */) {
    // Absolute form (RFC 9112, 3.2.2): servers accept it, though clients send it to proxies only.
    target = target.replace(/^https?:\/\/[^/?#]*/i, '') || '/';
    (request as RewrittenRequest).originalUrl = target;
  }
  return target.startsWith(KEY_PREFIX) ? KEY_PREFIX : target;
}

/** Makes the server's app: Fastify with all routes, not listening yet. */
export function buildApp({ kv, onInternalError }: AppOptions): FastifyInstance {
  const lifecycle = { closing: false };

  function failed(error: unknown, reply: FastifyReply): void {
    const code = codeOfError(error);
    if (code === HttpErrorCode.INTERNAL) onInternalError?.(error);
    // What fails after the headers went out can only be told by ending the connection.
    if (reply.raw.headersSent) reply.raw.destroy();
    else sendProblem(reply, code);
  }

  const app = Fastify({
    logger: false,
    http: { maxHeaderSize: MAX_HEADER_BYTES },
    requestTimeout: REQUEST_TIMEOUT_MS,
    // While the app closes, requests that still come on open connections are answered as always.
    return503OnClosing: false,
    rewriteUrl,
    // Compiled lookups; and no route takes query parameters, so none are parsed.
    routerOptions: { compile: true, querystringParser: () => NO_QUERY },
    // Request ids are for log lines, of which there are none.
    genReqId: () => '',
    clientErrorHandler: onClientError,
    frameworkErrors: (error, _request, reply) => failed(error, reply as unknown as FastifyReply),
  });

  // Values are raw bytes of any content type: the handlers read them, Fastify's parsers would look at the type.
  for (const method of ['PUT', 'POST', 'DELETE', 'PATCH', 'OPTIONS', 'QUERY']) {
    app.addHttpMethod(method, { hasBody: false, overrideExisting: true });
  }

  app.addHook('preClose', (done) => {
    lifecycle.closing = true;
    done();
  });
  app.addHook('onSend', (_request, reply, payload, done) => {
    if (lifecycle.closing) reply.header('connection', 'close');
    done(null, payload);
  });
  app.setErrorHandler((error, _request, reply) => failed(error, reply));
  app.setNotFoundHandler((request, reply) => {
    const path = request.originalUrl.replace(/[?#].*$/s, '');
    const allow = path.startsWith(KEY_PREFIX)
      ? KV_METHODS
      : INFO_PATHS.includes(path)
        ? INFO_METHODS
        : undefined;
    if (allow === undefined) return sendProblem(reply, HttpErrorCode.NO_ROUTE);
    reply.header('allow', allow);
    return sendProblem(reply, HttpErrorCode.METHOD_NOT_ALLOWED);
  });
  // Expectations other than 100-continue may be ignored (RFC 9110, 10.1.1); Node.js would answer a bare 417.
  app.server.on('checkExpectation', app.routing);

  registerKvRoutes(app, kv, lifecycle, failed);
  registerInfoRoutes(app, kv, failed);
  return app;
}
