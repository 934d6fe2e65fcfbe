/** One operation of a history on one key. Times are of any one clock; values are unique to their put. */
export interface HistoryOperation {
  readonly kind: 'get' | 'put' | 'putIfAbsent' | 'putIfVersion' | 'del' | 'delIfVersion' | 'incr';
  /** What a put writes; no decimal number. */
  readonly value?: string;
  /** The value that a condition names by its version. */
  readonly expects?: string | undefined;
  /** Of a put with a time to live: the date when the value expires. */
  readonly expiry?: number | undefined;
  readonly call: number;
  /** Infinity: its outcome is unknown, it may have happened at any time after the call, or never. */
  readonly end: number;
  /** The dates of call and end, if values expire in this history. */
  readonly callDate?: number;
  readonly endDate?: number;
  /** get: the value or undefined; put: the outcome; del: whether it was done; incr (by 1): the sum, or 'not a counter'. */
  readonly result?: string | boolean | undefined;
  /** A put that was refused: the value that was there, if known. */
  readonly seen?: string | undefined;
}

interface Value {
  readonly text: string;
  readonly expiry: number;
}
type State = Value | undefined;

const NUMBER = /^-?\d+$/;
const ABSENT: readonly State[] = [undefined];
const NONE: readonly State[] = [];

/** The states after `operation` on `state`, which is not expired or absent; none if its result can't be. */
function apply(operation: HistoryOperation, state: State): readonly State[] {
  const known = operation.end !== Number.POSITIVE_INFINITY;
  const { kind, result, expects } = operation;
  const same = [state];
  if (kind === 'get') return result === state?.text ? same : NONE;
  if (kind === 'incr') {
    if (state !== undefined && !NUMBER.test(state.text))
      return !known || result === 'not a counter' ? same : NONE;
    const text = (BigInt(state?.text ?? '0') + 1n).toString();
    return !known || result === text ? [{ text, expiry: state?.expiry ?? Number.POSITIVE_INFINITY }] : NONE;
  }
  if (kind === 'del') return !known || result === (state !== undefined) ? ABSENT : NONE;
  // No version of a counter makes a condition hold.
  const named = state !== undefined && state.text === expects && !NUMBER.test(state.text);
  const holds = kind === 'put' || (kind === 'putIfAbsent' ? state === undefined : named);
  if (kind === 'delIfVersion') return known && result !== holds ? NONE : holds ? ABSENT : same;
  if (holds) {
    if (known && result !== (state === undefined ? 'created' : 'replaced')) return NONE;
    return [{ text: operation.value!, expiry: operation.expiry ?? Number.POSITIVE_INFINITY }];
  }
  if (known && result !== 'refused') return NONE;
  return operation.seen === undefined || operation.seen === state?.text ? same : NONE;
}

/** As apply(), for a state that may have expired, or may be about to. */
function applyInTime(operation: HistoryOperation, state: State): readonly State[] {
  if (state === undefined || state.expiry === Number.POSITIVE_INFINITY) return apply(operation, state);
  const { callDate = 0, endDate = Number.POSITIVE_INFINITY } = operation;
  const present = callDate < state.expiry ? apply(operation, state) : NONE;
  const absent = endDate >= state.expiry ? apply(operation, undefined) : NONE;
  return [...present, ...absent];
}

/**
 * Whether a history of one key is linearizable, from the key's absence on: Wing and Gong's search, with the
 * configurations (operations done, state) remembered as Lowe does. At most 30 operations.
 */
export function isLinearizable(history: readonly HistoryOperation[]): boolean {
  if (history.length > 30) throw new RangeError('history too long');
  const all = 2 ** history.length - 1;
  const seen = new Set<string>();
  const search = (done: number, state: State): boolean => {
    if (done === all) return true;
    const configuration = state === undefined ? `${done}` : `${done} ${state.expiry} ${state.text}`;
    if (seen.has(configuration)) return false;
    seen.add(configuration);
    let firstEnd = Number.POSITIVE_INFINITY;
    let onlyUnknownLeft = true;
    history.forEach((operation, i) => {
      if (done & (1 << i)) return;
      firstEnd = Math.min(firstEnd, operation.end);
      if (operation.end !== Number.POSITIVE_INFINITY) onlyUnknownLeft = false;
    });
    if (onlyUnknownLeft) return true;
    return history.some((operation, i) => {
      if (done & (1 << i) || operation.call > firstEnd) return false;
      return applyInTime(operation, state).some((next) => search(done | (1 << i), next));
    });
  };
  return search(0, undefined);
}
