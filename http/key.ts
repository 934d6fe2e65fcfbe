import type { IncomingMessage } from 'node:http';
import { HttpErrorCode } from './problems.js';

/** What precedes a key in the path. */
export const KEY_PREFIX = '/v1/kv/';

/** A request whose URL was rewritten. Read so, the original costs less than by Fastify's getter. */
export type RewrittenRequest = IncomingMessage & { originalUrl: string };

const PERCENT = 0x25;
const QUESTION_MARK = 0x3f;
const NUMBER_SIGN = 0x23;
/** Character code -> value of the hexadecimal digit, or -1. */
const HEX_DIGIT = new Int8Array(128).fill(-1);
for (let value = 0; value < 16; value++) {
  const digit = value.toString(16);
  HEX_DIGIT[digit.charCodeAt(0)] = value;
  HEX_DIGIT[digit.toUpperCase().charCodeAt(0)] = value;
}

function hexDigit(char: number): number {
  return char < 128 ? HEX_DIGIT[char]! : -1;
}

/**
 * The key that a request target in origin form names: the percent-decoded bytes of all that follows KEY_PREFIX, or
 * the code of what is wrong with it. Nothing else is interpreted: slashes, dot segments and plus signs are bytes
 * like others.
 */
export function keyOf(target: string, maxKeyBytes: number): Uint8Array | HttpErrorCode {
  const start = KEY_PREFIX.length;
  const end = target.length;
  if (start === end) return HttpErrorCode.KEY_EMPTY;
  const bytes = Buffer.allocUnsafe(end - start);
  let length = 0;
  for (let i = start; i < end; i++) {
    let byte = target.charCodeAt(i);
    if (byte === PERCENT) {
      const high = hexDigit(target.charCodeAt(i + 1));
      const low = hexDigit(target.charCodeAt(i + 2));
      if (high < 0 || low < 0) return HttpErrorCode.KEY_MALFORMED;
      byte = (high << 4) | low;
      i += 2;
    } else if (byte === QUESTION_MARK) {
      return HttpErrorCode.QUERY_UNSUPPORTED;
    } else if (byte === NUMBER_SIGN) {
      return HttpErrorCode.KEY_MALFORMED;
    }
    bytes[length++] = byte;
  }
  if (length > maxKeyBytes) return HttpErrorCode.KEY_TOO_LONG;
  return length === bytes.length ? bytes : bytes.subarray(0, length);
}
