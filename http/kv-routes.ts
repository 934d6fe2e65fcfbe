import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Kv, KvEntry, PutOptions, PutResult } from '../kv/index.js';
import { readBody } from './body.js';
import { type Conditions, conditionsOf, delIf, putIf } from './conditions.js';
import { etagOf, noneMatchNames } from './etag.js';
import { KEY_PREFIX, keyOf, type RewrittenRequest } from './key.js';
import { sendProblem } from './problem-reply.js';
import { HttpErrorCode } from './problems.js';
import { inTurn } from './turn.js';

export const KV_METHODS = 'GET, HEAD, PUT, POST, DELETE';

const IF_ABSENT: PutOptions = { ifAbsent: true };

/** Whether the server is stopping: answers then end their connection. */
export interface Lifecycle {
  closing: boolean;
}

type FailureSink = (error: unknown, reply: FastifyReply) => void;

/**
 * The routes of /v1/kv/{key}. They are registered for the bare prefix, where the app's rewriteUrl sends every key, and
 * take the key from the original request target, since the router would decode and split it as text.
 *
 * Successful answers are written to Node.js's response directly: Fastify's reply pipeline costs some per cent of a
 * small request and has nothing to do here.
 */
export function registerKvRoutes(
  app: FastifyInstance,
  kv: Kv,
  lifecycle: Lifecycle,
  failed: FailureSink,
): void {
  /** The key, or undefined after an error answer. */
  function keyFor(request: FastifyRequest, reply: FastifyReply): Uint8Array | undefined {
    const target = (request.raw as RewrittenRequest).originalUrl;
    // A target like /v1/k%76/ isn't rewritten, but the router decodes it into this route.
    if (!target.startsWith(KEY_PREFIX)) {
      sendProblem(reply, HttpErrorCode.NO_ROUTE);
      return undefined;
    }
    const key = keyOf(target, kv.maxKeyBytes);
    if (typeof key !== 'string') return key;
    const tooLong = key === HttpErrorCode.KEY_TOO_LONG;
    sendProblem(reply, key, tooLong ? `A key has at most ${kv.maxKeyBytes} bytes.` : undefined);
    return undefined;
  }

  function answer(response: ServerResponse, status: number, headers: string[], body?: Uint8Array): void {
    if (lifecycle.closing) headers.push('Connection', 'close');
    response.writeHead(status, headers);
    response.end(body);
  }

  function answerEntry(request: FastifyRequest, reply: FastifyReply, entry: KvEntry | undefined): void {
    if (entry === undefined) {
      sendProblem(reply, HttpErrorCode.KEY_NOT_FOUND);
      return;
    }
    const etag = etagOf(entry.version);
    const noneMatch = request.raw.headers['if-none-match'];
    if (noneMatch !== undefined && noneMatchNames(noneMatch, etag)) {
      answer(reply.raw, 304, ['ETag', etag]);
      return;
    }
    const headers = [
      'Content-Type',
      'application/octet-stream',
      'Content-Length',
      String(entry.value.length),
      'ETag',
      etag,
    ];
    // Of an answer to HEAD, Node.js sends only the headers.
    answer(reply.raw, 200, headers, entry.value);
  }

  function get(request: FastifyRequest, reply: FastifyReply): void {
    const key = keyFor(request, reply);
    if (key !== undefined) void getKey(key, request, reply);
  }

  async function getKey(key: Uint8Array, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    try {
      answerEntry(request, reply, await kv.getEntry(key));
    } catch (error) {
      failed(error, reply);
    }
  }

  function write(request: FastifyRequest, reply: FastifyReply, options: PutOptions | undefined): void {
    const key = keyFor(request, reply);
    if (key === undefined || refusedWrite(request.raw, reply)) return;
    const conditions = conditionsOf(request.raw.headers);
    if (conditions === 'malformed') {
      sendProblem(reply, HttpErrorCode.PRECONDITION_MALFORMED);
      return;
    }
    readBody(request.raw, kv.maxValueBytes, (value) => {
      if (value !== undefined) {
        if (conditions === undefined) void putKey(key, value, options, reply);
        else void putKeyIf(key, value, options, conditions, reply);
      } else
        sendProblem(reply, HttpErrorCode.VALUE_TOO_LARGE, `A value has at most ${kv.maxValueBytes} bytes.`);
    });
  }

  async function putKey(
    key: Uint8Array,
    value: Uint8Array,
    options: PutOptions | undefined,
    reply: FastifyReply,
  ): Promise<void> {
    try {
      answerPut(reply, await kv.put(key, value, options));
    } catch (error) {
      failed(error, reply);
    }
  }

  /** Preconditions count only where the request would succeed without them (RFC 9110, 13.2.1): POST, if the key is absent. */
  async function putKeyIf(
    key: Uint8Array,
    value: Uint8Array,
    options: PutOptions | undefined,
    conditions: Conditions,
    reply: FastifyReply,
  ): Promise<void> {
    try {
      if (options === undefined) {
        const result = await putIf(kv, key, value, conditions);
        if (result === undefined) sendProblem(reply, HttpErrorCode.PRECONDITION_FAILED);
        else answerPut(reply, result);
      } else if (conditions.match === undefined) answerPut(reply, await kv.put(key, value, options));
      else if (await kv.has(key)) sendProblem(reply, HttpErrorCode.KEY_EXISTS);
      else sendProblem(reply, HttpErrorCode.PRECONDITION_FAILED);
    } catch (error) {
      failed(error, reply);
    }
  }

  function answerPut(reply: FastifyReply, { outcome, version }: PutResult): void {
    if (outcome === 'refused') sendProblem(reply, HttpErrorCode.KEY_EXISTS);
    else if (outcome === 'created') answer(reply.raw, 201, ['Content-Length', '0', 'ETag', etagOf(version)]);
    else answer(reply.raw, 204, ['ETag', etagOf(version)]);
  }

  function remove(request: FastifyRequest, reply: FastifyReply): void {
    const key = keyFor(request, reply);
    if (key === undefined || refusedWrite(request.raw, reply)) return;
    const conditions = conditionsOf(request.raw.headers);
    if (conditions === undefined) void deleteKey(key, reply);
    else if (conditions === 'malformed') sendProblem(reply, HttpErrorCode.PRECONDITION_MALFORMED);
    else void deleteKeyIf(key, conditions, reply);
  }

  async function deleteKeyIf(key: Uint8Array, conditions: Conditions, reply: FastifyReply): Promise<void> {
    try {
      const outcome = await delIf(kv, key, conditions);
      if (outcome === 'deleted') answer(reply.raw, 204, []);
      else if (outcome === 'absent') sendProblem(reply, HttpErrorCode.KEY_NOT_FOUND);
      else sendProblem(reply, HttpErrorCode.PRECONDITION_FAILED);
    } catch (error) {
      failed(error, reply);
    }
  }

  async function deleteKey(key: Uint8Array, reply: FastifyReply): Promise<void> {
    try {
      if (await kv.del(key)) answer(reply.raw, 204, []);
      else sendProblem(reply, HttpErrorCode.KEY_NOT_FOUND);
    } catch (error) {
      failed(error, reply);
    }
  }

  app.get(KEY_PREFIX, { exposeHeadRoute: false }, inTurn(get));
  app.head(KEY_PREFIX, inTurn(get));
  app.put(
    KEY_PREFIX,
    inTurn((request, reply) => write(request, reply, undefined)),
  );
  app.post(
    KEY_PREFIX,
    inTurn((request, reply) => write(request, reply, IF_ABSENT)),
  );
  app.delete(KEY_PREFIX, inTurn(remove));
}

/**
 * Answers and returns true if the request asks for the write of a part: taking that for the whole would lose the rest.
 */
function refusedWrite(request: IncomingMessage, reply: FastifyReply): boolean {
  if (request.headers['content-range'] === undefined) return false;
  sendProblem(reply, HttpErrorCode.PARTIAL_PUT);
  return true;
}
