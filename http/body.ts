import type { IncomingMessage } from 'node:http';

/**
 * Reads the whole body of a request and hands it to `done`, or undefined once it is clear that it has more than
 * maxBytes (what still comes is then read and thrown away, so that the client gets to see the answer). `done` is called
 * once, and never if the client goes away before the end of the body. The bytes may be part of the socket's read
 * buffer: they are good until `done` returns.
 */
export function readBody(
  request: IncomingMessage,
  maxBytes: number,
  done: (body: Uint8Array | undefined) => void,
): void {
  const declared = request.headers['content-length'];
  if (declared !== undefined && Number(declared) > maxBytes) {
    request.resume();
    done(undefined);
    return;
  }
  let first: Uint8Array | undefined;
  let chunks: Uint8Array[] | undefined;
  let length = 0;

  function onData(chunk: Buffer): void {
    length += chunk.length;
    if (length > maxBytes) {
      request.off('data', onData).off('end', onEnd);
      request.resume();
      done(undefined);
    } else if (first === undefined) {
      first = chunk;
    } else if (chunks === undefined) {
      chunks = [first, chunk];
    } else {
      chunks.push(chunk);
    }
  }
  function onEnd(): void {
    request.off('data', onData).off('end', onEnd);
    done(chunks !== undefined ? Buffer.concat(chunks, length) : (first ?? EMPTY));
  }
  request.on('data', onData).on('end', onEnd);
}

const EMPTY = new Uint8Array(0);
