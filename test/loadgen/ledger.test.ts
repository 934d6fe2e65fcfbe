import { expect, it } from 'vitest';
import { Ledger } from '../../loadgen/ledger.js';

const RECORD = 2;

function begin(ledger: Ledger): { sequence: number; answer: () => void } {
  const sequence = ledger.begin(RECORD);
  const oldest = ledger.oldest(RECORD);
  return { sequence, answer: () => ledger.succeeded(RECORD, oldest) };
}

it('asks for the last of writes that follow each other', () => {
  const ledger = new Ledger(4);
  expect(ledger.floor(RECORD)).toBe(0);
  for (let i = 1; i <= 3; i += 1) {
    const write = begin(ledger);
    expect(write.sequence).toBe(i);
    expect(ledger.floor(RECORD)).toBe(i - 1);
    write.answer();
    expect(ledger.floor(RECORD)).toBe(i);
  }
  expect(ledger.floor(RECORD + 1)).toBe(0);
  expect(ledger.issued(RECORD)).toBe(3);
});

it('allows any of writes that overlapped', () => {
  const ledger = new Ledger(4);
  begin(ledger).answer();
  const second = begin(ledger);
  const third = begin(ledger);
  third.answer();
  expect(ledger.floor(RECORD)).toBe(2);
  second.answer();
  expect(ledger.floor(RECORD)).toBe(2);
  begin(ledger).answer();
  expect(ledger.floor(RECORD)).toBe(4);
});

it('expects a write with an unknown outcome for ever', () => {
  const ledger = new Ledger(4);
  begin(ledger).answer();
  begin(ledger);
  for (let i = 0; i < 3; i += 1) begin(ledger).answer();
  expect(ledger.floor(RECORD)).toBe(2);
});
