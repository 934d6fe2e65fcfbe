import type { ServerResponse } from 'node:http';
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { HttpErrorCode, PROBLEM_MEDIA_TYPE, PROBLEMS, problem } from './problems.js';

/** How long a connection with an error stays open, so that the client can read the answer before a reset. */
const LINGER_MS = 1000;

function codeOf(error: NodeJS.ErrnoException): HttpErrorCode {
  switch (error.code) {
    case 'HPE_HEADER_OVERFLOW':
      return HttpErrorCode.HEADERS_TOO_LARGE;
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return HttpErrorCode.REQUEST_TIMEOUT;
    default:
      return HttpErrorCode.MALFORMED_REQUEST;
  }
}

/** Ends a connection on which something came that isn't HTTP: with an answer where one can be given. */
export function onClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  // After the first error, each further piece of data fails again.
  if (socket.writableEnded) return;
  // The response that Node.js sends next on this connection (it has no public name). If its request came in whole,
  // an answer now would pass for that request's, which may have been carried out.
  const response = (socket as Socket & { _httpMessage?: ServerResponse | null })._httpMessage;
  const answerable = !response || (!response.req.complete && !response.headersSent);
  if (error.code === 'ECONNRESET' || !socket.writable || !answerable) {
    socket.destroy();
    return;
  }
  const code = codeOf(error);
  const body = JSON.stringify(problem(code));
  const { status } = PROBLEMS[code];
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n` +
      `Date: ${new Date().toUTCString()}\r\n` +
      `Content-Type: ${PROBLEM_MEDIA_TYPE}\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n` +
      `Connection: close\r\n\r\n${body}`,
  );
  const linger = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once('close', () => clearTimeout(linger));
}
