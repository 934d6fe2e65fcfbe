import type { FastifyReply } from 'fastify';
import { KvError } from '../kv/index.js';
import { HttpErrorCode, PROBLEM_MEDIA_TYPE, PROBLEMS, type ProblemCode, problem } from './problems.js';

/** Answers with the problem document of a code; `detail` replaces the catalogue's. */
export function sendProblem(reply: FastifyReply, code: ProblemCode, detail?: string): void {
  const { status, retryAfterSeconds } = PROBLEMS[code];
  if (retryAfterSeconds !== undefined) reply.header('retry-after', String(retryAfterSeconds));
  reply.code(status).header('content-type', PROBLEM_MEDIA_TYPE);
  // A Buffer, as Fastify would add a charset parameter, which this media type does not have, to a string.
  reply.send(Buffer.from(JSON.stringify(problem(code, detail))));
}

/** The code that tells the client about an error; whatever isn't foreseen becomes INTERNAL. */
export function codeOfError(error: unknown): ProblemCode {
  if (error instanceof KvError) return error.code;
  // Fastify's own refusals (a URL that doesn't decode, say) carry the status that they stand for.
  const status = (error as { statusCode?: unknown } | null)?.statusCode;
  if (typeof status === 'number' && status >= 400 && status < 500) return HttpErrorCode.MALFORMED_REQUEST;
  return HttpErrorCode.INTERNAL;
}
