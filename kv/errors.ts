import { KvError, KvErrorCode } from './api.js';

/** What the layer below reports with a code of its own is to the store's callers: the memory node can't be used. */
export function toKvError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof KvError || !('code' in error)) return error;
  return new KvError(KvErrorCode.UNAVAILABLE, `The memory node can't be used: ${error.message}`, {
    cause: error,
  });
}
