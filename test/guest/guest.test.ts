/**
 * The libibverbs provider on the kernel's Soft-RoCE: a small virtual machine boots, runs test/guest/inside and prints
 * the results, each of which becomes a test here. Needs qemu and Debian's packages; what is missing is said.
 */
import { describe, expect, test } from 'vitest';
import { buildGuest, Guest } from './guest.js';

const RUN_MS = 900_000;

const built = await buildGuest();

describe.runIf(built.unavailable !== undefined)('Soft-RoCE guest', () => {
  test('is not there', ({ skip }) => {
    process.stdout.write(`Soft-RoCE guest: skipped: ${built.unavailable}\n`);
    skip(built.unavailable);
  });
});

describe.runIf(built.unavailable === undefined)('Soft-RoCE guest', async () => {
  test('is built', () => {
    expect(built).toMatchObject({ code: 0 });
  });
  if (built.code !== 0) return;

  const guest = new Guest([], RUN_MS);
  await guest.ended;
  const { messages, results } = guest;

  test('boots, runs the tests to their end and halts', () => {
    // Without the end there was a panic, or the time was over: what it printed last says which.
    expect(messages.split('\n').slice(-40).join('\n')).toMatch(/^guest-end [01]$/m);
    expect(messages).not.toMatch(/Kernel panic|BUG:|Oops/);
    expect(results.length).toBeGreaterThan(50);
  });

  for (const { title, status, error } of results) {
    test(title, ({ skip }) => {
      if (status === 'skipped') skip('the device lacks what it needs');
      expect(error).toBeUndefined();
      expect(status).toBe('passed');
    });
  }
});
