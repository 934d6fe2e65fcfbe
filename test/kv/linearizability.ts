/** One operation of a history on one key. Times are of any one clock; values are unique to their put. */
export interface HistoryOperation {
  readonly kind: 'get' | 'put' | 'putIfAbsent' | 'putIfVersion' | 'del' | 'delIfVersion' | 'incr';
  /** What a put writes; no decimal number. */
  readonly value?: string;
  /** The value that a condition names by its version. */
  readonly expects?: string | undefined;
  /** Of a put with a time to live: the date when the value expires, at the earliest and (default: the same) at the latest. */
  readonly expiry?: number | undefined;
  readonly latestExpiry?: number | undefined;
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
  /** It has been seen absent, so it is its expiry by now. */
  readonly expired?: true;
  readonly expiry: number;
  readonly latestExpiry: number;
}
type State = Value | undefined;

const NUMBER = /^-?\d+$/;
const NEVER = { expiry: Number.POSITIVE_INFINITY, latestExpiry: Number.POSITIVE_INFINITY };
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
    return !known || result === text ? [{ ...(state ?? NEVER), text }] : NONE;
  }
  if (kind === 'del') return !known || result === (state !== undefined) ? ABSENT : NONE;
  // No version of a counter makes a condition hold.
  const named = state !== undefined && state.text === expects && !NUMBER.test(state.text);
  const holds = kind === 'put' || (kind === 'putIfAbsent' ? state === undefined : named);
  if (kind === 'delIfVersion') return known && result !== holds ? NONE : holds ? ABSENT : same;
  if (holds) {
    if (known && result !== (state === undefined ? 'created' : 'replaced')) return NONE;
    const { value, expiry = NEVER.expiry, latestExpiry = expiry } = operation;
    return [{ text: value!, expiry, latestExpiry }];
  }
  if (known && result !== 'refused') return NONE;
  return operation.seen === undefined || operation.seen === state?.text ? same : NONE;
}

/**
 * As apply(), for a state that may have expired, or may be about to. Each operation looks at the date once, so a put that
 * has found the value before its expiry may still replace it afterwards: what has been seen expired stays, for puts under way.
 */
function applyInTime(operation: HistoryOperation, state: State): readonly State[] {
  if (state === undefined || state.expiry === Number.POSITIVE_INFINITY) return apply(operation, state);
  const { kind, callDate = 0, endDate = Number.POSITIVE_INFINITY } = operation;
  const before = callDate < state.latestExpiry;
  const after = endDate >= state.expiry;
  const finds = state.expired ? before && after && kind.startsWith('put') : before;
  const present = finds ? apply(operation, state) : NONE;
  const absent = after ? apply(operation, undefined) : NONE;
  const stays = kind.startsWith('del') ? undefined : ({ ...state, expired: true } as const);
  return [...present, ...absent.map((next) => next ?? stays)];
}

/** What has been done of a history: all known operations before `first` but none at it, `later` ones, `unknown` ones. */
interface Configuration {
  readonly first: number;
  readonly later: readonly number[];
  readonly unknown: readonly number[];
  readonly state: State;
}

const numerically = (a: number, b: number) => a - b;

function* successors(
  known: readonly HistoryOperation[],
  unknown: readonly HistoryOperation[],
  from: Configuration,
): Generator<Configuration> {
  const { first, later, state } = from;
  let firstEnd = Number.POSITIVE_INFINITY;
  for (let i = first; i < known.length && known[i]!.call <= firstEnd; i++) {
    if (!later.includes(i)) firstEnd = Math.min(firstEnd, known[i]!.end);
  }
  for (let i = first; i < known.length && known[i]!.call <= firstEnd; i++) {
    if (later.includes(i)) continue;
    for (const next of applyInTime(known[i]!, state)) {
      const done = [...later, i].sort(numerically);
      let at = first;
      while (done[0] === at) {
        done.shift();
        at++;
      }
      yield { first: at, later: done, unknown: from.unknown, state: next };
    }
  }
  for (let i = 0; i < unknown.length && unknown[i]!.call <= firstEnd; i++) {
    if (from.unknown.includes(i)) continue;
    for (const next of applyInTime(unknown[i]!, state)) {
      // What may have changed nothing may as well not have happened.
      if (next !== state) yield { ...from, unknown: [...from.unknown, i].sort(numerically), state: next };
    }
  }
}

function nameOf({ first, later, unknown, state }: Configuration): string {
  return `${first} ${later} ${unknown} ${state?.expiry} ${state?.latestExpiry} ${state?.expired} ${state?.text}`;
}

/**
 * Whether a history of one key is linearizable, from the key's absence on: Wing and Gong's search, with the
 * configurations (operations done, state) remembered as Lowe does. Its cost grows with the length of the history and steeply with how many
 * operations overlap, those of unknown outcome among them.
 */
export function isLinearizable(history: readonly HistoryOperation[]): boolean {
  const byCall = [...history].sort((a, b) => a.call - b.call);
  const known = byCall.filter(({ end }) => end !== Number.POSITIVE_INFINITY);
  const unknown = byCall.filter(({ end }) => end === Number.POSITIVE_INFINITY);
  const start: Configuration = { first: 0, later: [], unknown: [], state: undefined };
  const seen = new Set([nameOf(start)]);
  const left = [start];
  for (let from = left.pop(); from !== undefined; from = left.pop()) {
    if (from.first === known.length) return true;
    for (const next of successors(known, unknown, from)) {
      const name = nameOf(next);
      if (seen.has(name)) continue;
      seen.add(name);
      left.push(next);
    }
  }
  return false;
}
