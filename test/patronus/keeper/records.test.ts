import { Packr } from 'msgpackr';
import { expect, test } from 'vitest';
import { decodeMember, encodeMember, newIncarnation } from '../../../patronus/keeper/records.js';
import { random } from '../random.js';

const node = {
  kind: 'node',
  number: 3,
  incarnation: newIncarnation(),
  pid: 42,
  address: 'unix:/somewhere/ünusual',
} as const;

test('a member comes back as it was, under its own key only', () => {
  const bytes = encodeMember(node);
  expect(decodeMember(bytes, 'node', 3)).toEqual(node);
  expect(decodeMember(bytes, 'node', 4)).toBeUndefined();
  expect(decodeMember(bytes, 'client', 3)).toBeUndefined();
  const client = { ...node, kind: 'client', address: undefined } as const;
  expect(decodeMember(encodeMember(client), 'client', 3)).toEqual(client);
});

test('every field is checked', () => {
  const packr = new Packr({ useRecords: false });
  const good = [1, 'node', 3, node.incarnation, 42, 'unix:/x'];
  expect(decodeMember(packr.pack(good), 'node', 3)).toBeDefined();
  const bad: [number, unknown][] = [
    [0, 2],
    [0, '1'],
    [1, 'nodes'],
    [2, 3.5],
    [2, '3'],
    [3, 'x'.repeat(16)],
    [3, `${node.incarnation}0`],
    [3, 5],
    [4, 0],
    [4, 1.5],
    [4, 2 ** 40],
    [4, null],
    [5, ''],
    [5, null],
    [5, 7],
    [5, 'x'.repeat(513)],
  ];
  for (const [index, value] of bad) {
    expect(decodeMember(packr.pack(good.with(index, value as string)), 'node', 3)).toBeUndefined();
  }
  expect(decodeMember(packr.pack(good.slice(0, 5)), 'node', 3)).toBeUndefined();
  expect(decodeMember(packr.pack([...good, 1]), 'node', 3)).toBeUndefined();
  expect(decodeMember(packr.pack({ 0: 1 }), 'node', 3)).toBeUndefined();
});

test('bytes that are damaged are no member, or one whose fields are whole', () => {
  const next = random(11);
  const good = encodeMember(node);
  for (let round = 0; round < 20_000; round++) {
    const bytes = good.slice(0, next() < 0.3 ? Math.floor(next() * good.length) : good.length);
    for (let i = 0; i < 1 + next() * 4; i++)
      bytes[Math.floor(next() * bytes.length)] = Math.floor(next() * 256);
    const member = decodeMember(bytes, 'node', 3);
    if (member !== undefined) {
      expect(member).toMatchObject({ kind: 'node', number: 3 });
      expect(member.incarnation).toMatch(/^[0-9a-f]{16}$/);
    }
  }
});
