import { AcquireStatus } from '../patronus/index.js';
import { KvError, KvErrorCode } from './api.js';

/** What the layer below reports with a code of its own is to the store's callers: the memory node can't be used. */
export function toKvError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof KvError || !('code' in error)) return error;
  return new KvError(KvErrorCode.UNAVAILABLE, `The memory node can't be used: ${error.message}`, {
    cause: error,
  });
}

/** What to say when a memory node does not give what the store needs; `what` is a sentence without its full stop. */
export function refusal(what: string, status: AcquireStatus): KvError {
  const name = Object.entries(AcquireStatus).find(([, value]) => value === status)?.[0];
  const remedy =
    status === AcquireStatus.DeniedErr
      ? ": clients of a store share its memory, so the memory node's policy has to be open (--policy open)"
      : '';
  return new KvError(KvErrorCode.UNAVAILABLE, `${what} (${name})${remedy}`);
}

export function badTable(why: string): KvError {
  return new KvError(KvErrorCode.BAD_TABLE, `The memory does not hold a usable table: ${why}`);
}

export function isBadTable(error: unknown): boolean {
  return error instanceof KvError && error.code === KvErrorCode.BAD_TABLE;
}

export function unavailable(): KvError {
  return new KvError(KvErrorCode.UNAVAILABLE, 'The memory node does not execute requests');
}
