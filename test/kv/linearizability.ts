/** One operation of a history on one key. Times are of any one clock; values are unique to their put. */
export interface HistoryOperation {
  readonly kind: 'get' | 'put' | 'putIfAbsent' | 'del';
  /** What a put writes. */
  readonly value?: string;
  readonly call: number;
  /** Infinity: its outcome is unknown, it may have happened at any time after the call, or never. */
  readonly end: number;
  /** get: the value or undefined; put: the outcome; del: whether the key was there. */
  readonly result?: string | boolean | undefined;
  /** putIfAbsent that was refused: the value that was there, if known. */
  readonly seen?: string | undefined;
}

/** The state after `operation` on `state`, or null if its result can't be. */
function apply(operation: HistoryOperation, state: string | undefined): string | undefined | null {
  const known = operation.end !== Number.POSITIVE_INFINITY;
  switch (operation.kind) {
    case 'get':
      return operation.result === state ? state : null;
    case 'del':
      return !known || operation.result === (state !== undefined) ? undefined : null;
    case 'put':
      if (known && operation.result !== (state === undefined ? 'created' : 'replaced')) return null;
      return operation.value!;
    case 'putIfAbsent':
      if (state === undefined) return !known || operation.result === 'created' ? operation.value! : null;
      if (known && operation.result !== 'refused') return null;
      return operation.seen === undefined || operation.seen === state ? state : null;
  }
}

/**
 * Whether a history of one key is linearizable, from the key's absence on: Wing and Gong's search, with the
 * configurations (operations done, state) remembered as Lowe does. At most 30 operations.
 */
export function isLinearizable(history: readonly HistoryOperation[]): boolean {
  if (history.length > 30) throw new RangeError('history too long');
  const all = 2 ** history.length - 1;
  const seen = new Set<string>();
  const search = (done: number, state: string | undefined): boolean => {
    if (done === all) return true;
    const configuration = `${done} ${state ?? ''}`;
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
      const next = apply(operation, state);
      return next !== null && search(done | (1 << i), next);
    });
  };
  return search(0, undefined);
}
