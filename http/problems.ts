import { KvErrorCode } from '../kv/index.js';

/** Codes of what goes wrong in the HTTP front end itself; the store's own codes are in KvErrorCode. */
export const HttpErrorCode = {
  NO_ROUTE: 'ERR_HTTP_NO_ROUTE',
  METHOD_NOT_ALLOWED: 'ERR_HTTP_METHOD_NOT_ALLOWED',
  KEY_NOT_FOUND: 'ERR_HTTP_KEY_NOT_FOUND',
  KEY_EXISTS: 'ERR_HTTP_KEY_EXISTS',
  KEY_EMPTY: 'ERR_HTTP_KEY_EMPTY',
  KEY_MALFORMED: 'ERR_HTTP_KEY_MALFORMED',
  KEY_TOO_LONG: 'ERR_HTTP_KEY_TOO_LONG',
  QUERY_UNSUPPORTED: 'ERR_HTTP_QUERY_UNSUPPORTED',
  VALUE_TOO_LARGE: 'ERR_HTTP_VALUE_TOO_LARGE',
  PARTIAL_PUT: 'ERR_HTTP_PARTIAL_PUT',
  PRECONDITION_FAILED: 'ERR_HTTP_PRECONDITION_FAILED',
  PRECONDITION_MALFORMED: 'ERR_HTTP_PRECONDITION_MALFORMED',
  MALFORMED_REQUEST: 'ERR_HTTP_MALFORMED_REQUEST',
  HEADERS_TOO_LARGE: 'ERR_HTTP_HEADERS_TOO_LARGE',
  REQUEST_TIMEOUT: 'ERR_HTTP_REQUEST_TIMEOUT',
  INTERNAL: 'ERR_HTTP_INTERNAL',
} as const;
export type HttpErrorCode = (typeof HttpErrorCode)[keyof typeof HttpErrorCode];

export type ProblemCode = HttpErrorCode | KvErrorCode;

export interface ProblemKind {
  readonly status: number;
  readonly title: string;
  /** What to tell the client when the place of the error has nothing better to say. */
  readonly detail: string;
  /** Seconds after which trying the same request again makes sense. */
  readonly retryAfterSeconds?: number;
}

/** Every error answer of the server: codes never change their meaning, titles and details may be reworded. */
export const PROBLEMS: Readonly<Record<ProblemCode, ProblemKind>> = {
  [HttpErrorCode.NO_ROUTE]: {
    status: 404,
    title: 'No such resource',
    detail: 'Keys are at /v1/kv/{key}; GET / tells what else there is.',
  },
  [HttpErrorCode.METHOD_NOT_ALLOWED]: {
    status: 405,
    title: 'Method not allowed',
    detail: 'The Allow header names the methods of this resource.',
  },
  [HttpErrorCode.KEY_NOT_FOUND]: {
    status: 404,
    title: 'Key not found',
    detail: 'No value is stored under this key.',
  },
  [HttpErrorCode.KEY_EXISTS]: {
    status: 409,
    title: 'Key exists',
    detail: 'POST only creates, and a value is stored under this key already. PUT replaces it.',
  },
  [HttpErrorCode.KEY_EMPTY]: {
    status: 400,
    title: 'Empty key',
    detail: 'A key has at least one byte after /v1/kv/.',
  },
  [HttpErrorCode.KEY_MALFORMED]: {
    status: 400,
    title: 'Malformed key',
    detail:
      'In a key, % must be followed by two hexadecimal digits, and bytes that a URL cannot hold (#, ?, % and others) are written as %XX.',
  },
  [HttpErrorCode.KEY_TOO_LONG]: {
    status: 414,
    title: 'Key too long',
    detail: 'The key has more bytes than the store takes.',
  },
  [HttpErrorCode.QUERY_UNSUPPORTED]: {
    status: 400,
    title: 'Query string not supported',
    detail:
      'This resource takes no query parameters. A question mark that belongs to the key is written as %3F.',
  },
  [HttpErrorCode.VALUE_TOO_LARGE]: {
    status: 413,
    title: 'Value too large',
    detail: 'The value has more bytes than the store takes.',
  },
  [HttpErrorCode.PARTIAL_PUT]: {
    status: 400,
    title: 'Partial write not supported',
    detail: 'A request with Content-Range is refused: a write replaces the whole value.',
  },
  [HttpErrorCode.PRECONDITION_FAILED]: {
    status: 412,
    title: 'Precondition failed',
    detail: 'The value is not one that If-Match and If-None-Match allow. Nothing was changed.',
  },
  [HttpErrorCode.PRECONDITION_MALFORMED]: {
    status: 400,
    title: 'Malformed precondition',
    detail:
      'If-Match and If-None-Match are * or a list of entity tags in double quotes. Nothing was changed.',
  },
  [HttpErrorCode.MALFORMED_REQUEST]: {
    status: 400,
    title: 'Malformed request',
    detail: 'The request does not follow HTTP/1.1.',
  },
  [HttpErrorCode.HEADERS_TOO_LARGE]: {
    status: 431,
    title: 'Request header fields too large',
    detail: 'The request line and the header fields together are too long.',
  },
  [HttpErrorCode.REQUEST_TIMEOUT]: {
    status: 408,
    title: 'Request timeout',
    detail: 'The request did not arrive completely within the time limit.',
  },
  [HttpErrorCode.INTERNAL]: {
    status: 500,
    title: 'Internal server error',
    detail: 'The server failed in an unexpected way.',
  },
  [KvErrorCode.TABLE_FULL]: {
    status: 507,
    title: 'Table full',
    detail: 'The index can grow no further. Nothing was changed.',
  },
  [KvErrorCode.NO_MEMORY]: {
    status: 507,
    title: 'Out of memory',
    detail: 'The store has no memory left for this value. Nothing was changed.',
  },
  [KvErrorCode.UNAVAILABLE]: {
    status: 503,
    title: 'Store unavailable',
    detail: 'The memory node cannot be reached.',
    retryAfterSeconds: 1,
  },
  [KvErrorCode.CONTENTION]: {
    status: 503,
    title: 'Too much contention',
    detail: 'Too many attempts lost against other writers. Nothing was changed.',
    retryAfterSeconds: 1,
  },
  [KvErrorCode.CLOSED]: {
    status: 503,
    title: 'Shutting down',
    detail: 'The server is stopping.',
    retryAfterSeconds: 1,
  },
  [KvErrorCode.OUTCOME_UNKNOWN]: {
    status: 504,
    title: 'Outcome unknown',
    detail: 'The memory node was lost while the request was under way: it may have taken effect or not.',
  },
  [KvErrorCode.NOT_A_COUNTER]: {
    status: 409,
    title: 'Not a counter',
    detail: 'The value of this key was put; only counters can be added to.',
  },
  [KvErrorCode.BAD_TABLE]: {
    status: 500,
    title: 'Unusable table',
    detail: 'The memory node does not hold a table of this version.',
  },
};

export const PROBLEM_MEDIA_TYPE = 'application/problem+json';

/** The body of an error answer (RFC 9457). */
export interface Problem {
  /** A URI that stands for the kind of problem; it need not lead anywhere. */
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ProblemCode;
}

export function problem(code: ProblemCode, detail?: string): Problem {
  const kind = PROBLEMS[code];
  return {
    type: `urn:problem-type:patronus-kv:${code}`,
    title: kind.title,
    status: kind.status,
    detail: detail ?? kind.detail,
    code,
  };
}
