import { expect, test } from 'vitest';
import { type HistoryOperation, isLinearizable } from './linearizability.js';

const get = (call: number, end: number, result?: string): HistoryOperation => ({
  kind: 'get',
  call,
  end,
  result,
});
const put = (call: number, end: number, value: string, result = 'created'): HistoryOperation => ({
  kind: 'put',
  call,
  end,
  value,
  result,
});
const del = (call: number, end: number, result: boolean): HistoryOperation => ({
  kind: 'del',
  call,
  end,
  result,
});
const ifAbsent = (
  call: number,
  end: number,
  value: string,
  result: string,
  seen?: string,
): HistoryOperation => ({
  kind: 'putIfAbsent',
  call,
  end,
  value,
  result,
  seen,
});
const INF = Number.POSITIVE_INFINITY;
const incr = (call: number, end: number, result: string): HistoryOperation => ({
  kind: 'incr',
  call,
  end,
  result,
});
const ifVersion = (
  call: number,
  end: number,
  value: string,
  expects: string,
  result: string,
): HistoryOperation => ({ kind: 'putIfVersion', call, end, value, expects, result });
/** Times are dates too. */
const dated = (operation: HistoryOperation, expiry?: number): HistoryOperation => ({
  ...operation,
  callDate: operation.call,
  endDate: operation.end,
  ...(expiry !== undefined && { expiry }),
});
const delIf = (call: number, end: number, expects: string, result: boolean): HistoryOperation => ({
  kind: 'delIfVersion',
  call,
  end,
  expects,
  result,
});

test.each<[string, HistoryOperation[]]>([
  ['nothing', []],
  [
    'one after the other',
    [get(0, 1), put(2, 3, 'a'), get(4, 5, 'a'), del(6, 7, true), get(8, 9), del(10, 11, false)],
  ],
  ['a get during a put sees either', [put(0, 10, 'a'), get(1, 2), get(3, 4, 'a')]],
  ['concurrent puts in either order', [put(0, 10, 'a', 'replaced'), put(0, 10, 'b'), get(11, 12, 'a')]],
  ['an unknown put that happened late', [put(0, INF, 'a'), get(5, 6), get(7, 8, 'a')]],
  ['an unknown put that never happened', [put(0, INF, 'a'), get(5, 6), put(7, 8, 'b'), get(9, 10, 'b')]],
  [
    'a counter',
    [
      incr(0, 9, '2'),
      incr(0, 9, '1'),
      get(10, 11, '2'),
      put(12, 13, 'a', 'replaced'),
      incr(14, 15, 'not a counter'),
    ],
  ],
  ['an unknown addition', [{ ...incr(0, INF, ''), result: undefined }, incr(1, 2, '1'), get(3, 4, '2')]],
  [
    'conditions',
    [
      put(0, 1, 'a'),
      ifVersion(2, 3, 'b', 'a', 'replaced'),
      ifVersion(4, 5, 'c', 'a', 'refused'),
      delIf(6, 7, 'b', true),
    ],
  ],
  [
    'an expiry',
    [
      dated(put(0, 1, 'a'), 10),
      dated(get(8, 9, 'a')),
      dated(get(9, 11)),
      dated(get(12, 13)),
      dated(put(14, 15, 'b')),
    ],
  ],
  [
    'an expiry that is not known exactly',
    [{ ...dated(put(0, 1, 'a'), 10), latestExpiry: 20 }, dated(get(14, 15, 'a')), dated(get(16, 17))],
  ],
  [
    'a condition looked at before the expiry, a write after it',
    [
      dated(put(0, 1, 'a'), 10),
      dated(ifVersion(9, 15, 'b', 'a', 'replaced')),
      dated(get(11, 12)),
      dated(get(13, 14, 'b')),
    ],
  ],
  [
    'a long one, with operations of unknown outcome',
    [
      { ...del(0, INF, true), result: undefined },
      put(1, INF, 'late'),
      ...Array.from({ length: 100 }, (_, i) =>
        put(10 * i + 2, 10 * i + 9, `${i}.`, i ? 'replaced' : 'created'),
      ),
      get(1002, 1003, 'late'),
      get(1004, 1005),
      put(1006, 1007, 'b'),
    ],
  ],
  ['a refused put', [put(0, 1, 'a'), ifAbsent(2, 3, 'b', 'refused', 'a'), get(4, 5, 'a')]],
])('linearizable: %s', (_, history) => {
  expect(isLinearizable(history)).toBe(true);
  expect(isLinearizable([...history].reverse())).toBe(true);
});

test.each<[string, HistoryOperation[]]>([
  ['a value from nowhere', [get(0, 1, 'a')]],
  ['a lost addition', [incr(0, 9, '1'), incr(0, 9, '1')]],
  ['an addition that counts twice', [incr(0, 1, '1'), get(2, 3, '2')]],
  [
    'a condition that did not hold',
    [put(0, 1, 'a'), put(2, 3, 'b', 'replaced'), ifVersion(4, 5, 'c', 'a', 'replaced')],
  ],
  [
    'two for one version',
    [put(0, 1, 'a'), ifVersion(2, 9, 'b', 'a', 'replaced'), ifVersion(2, 9, 'c', 'a', 'replaced')],
  ],
  ['a delete of another version', [put(0, 1, 'a'), delIf(2, 3, 'b', true)]],
  ['a value after its expiry', [dated(put(0, 1, 'a'), 10), dated(get(11, 12, 'a'))]],
  ['a value gone before its expiry', [dated(put(0, 1, 'a'), 10), dated(get(2, 3))]],
  [
    'a condition on a value that had expired before',
    [dated(put(0, 1, 'a'), 10), dated(get(11, 12)), dated(ifVersion(13, 14, 'b', 'a', 'replaced'))],
  ],
  [
    'absent by the expiry of a value that was replaced in time',
    [
      dated(put(0, 1, 'a'), 10),
      dated(get(2, 15)),
      dated(put(3, 4, 'b', 'replaced')),
      dated(get(16, 17, 'b')),
    ],
  ],
  [
    'there after the latest expiry',
    [{ ...dated(put(0, 1, 'a'), 10), latestExpiry: 20 }, dated(get(21, 22, 'a'))],
  ],
  ['an unknown put that happened twice', [put(0, INF, 'a'), get(1, 2, 'a'), del(3, 4, true), get(5, 6, 'a')]],
  ['a stale get', [put(0, 1, 'a'), put(2, 3, 'b', 'replaced'), get(4, 5, 'a')]],
  ['new, then old', [put(0, 10, 'a'), get(1, 2, 'a'), get(3, 4)]],
  ['a lost write', [put(0, 1, 'a'), get(2, 3)]],
  ['two created', [put(0, 10, 'a'), put(0, 10, 'b')]],
  ['created twice without a delete', [ifAbsent(0, 10, 'a', 'created'), ifAbsent(0, 10, 'b', 'created')]],
  ['refused by an absent key', [ifAbsent(0, 1, 'a', 'refused')]],
  [
    'refused by a value that came later',
    [put(0, 1, 'a'), ifAbsent(2, 3, 'b', 'refused', 'c'), put(4, 5, 'c', 'replaced')],
  ],
  ['a delete of nothing', [del(0, 1, true)]],
  ['one deleted twice', [put(0, 1, 'a'), del(2, 5, true), del(2, 5, true)]],
  [
    'a value that comes back',
    [put(0, 9, 'a'), put(0, 9, 'b', 'replaced'), get(1, 2, 'a'), get(3, 4, 'b'), get(5, 6, 'a')],
  ],
  ['an unknown put seen before its call', [get(0, 1, 'a'), put(2, INF, 'a')]],
])('not linearizable: %s', (_, history) => {
  expect(isLinearizable(history)).toBe(false);
  expect(isLinearizable([...history].reverse())).toBe(false);
});
