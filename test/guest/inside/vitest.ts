/**
 * Stands in for vitest in the guest, where vitest itself would take longer than the tests: the calls that the tests use,
 * vitest's own expect(), and a runner that prints every result as a line for test/guest/guest.test.ts.
 */
import { writeSync } from 'node:fs';
import { chai, JestAsymmetricMatchers, JestChaiExpect, JestExtend } from '@vitest/expect';

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);
export const expect = chai.expect;

/** A line that begins with this is a result; what follows is JSON. */
export const MARK = '@result ';

export interface GuestResult {
  readonly title: string;
  readonly status: 'passed' | 'failed' | 'skipped';
  readonly ms: number;
  /** Of a failure. */
  readonly error?: string;
}

type Body = () => unknown;

interface Suite {
  readonly title: string;
  readonly parent: Suite | undefined;
  readonly before: Body[];
  readonly after: Body[];
}

interface Test {
  readonly suite: Suite;
  readonly title: string;
  /** Undefined: skipped. */
  readonly body: Body | undefined;
  readonly timeoutMs: number;
}

const TEST_TIMEOUT_MS = 180_000;
const root: Suite = { title: '', parent: undefined, before: [], after: [] };
const tests: Test[] = [];
let current = root;

export function describe(title: string, define: () => void): void {
  const outer = current;
  current = { title, parent: outer, before: [], after: [] };
  try {
    define();
  } finally {
    current = outer;
  }
}

export function test(title: string, body: Body, timeoutMs = TEST_TIMEOUT_MS): void {
  tests.push({ suite: current, title, body, timeoutMs });
}

test.skip = (title: string): void => {
  tests.push({ suite: current, title, body: undefined, timeoutMs: 0 });
};

export const it = test;

export function beforeEach(body: Body): void {
  current.before.push(body);
}

export function afterEach(body: Body): void {
  current.after.push(body);
}

/** Run all tests, one after another; how many failed. */
export async function run(): Promise<number> {
  let failed = 0;
  for (const { suite, title, body, timeoutMs } of tests) {
    const chain: Suite[] = [];
    for (let one: Suite | undefined = suite; one !== undefined; one = one.parent) chain.unshift(one);
    const titles = [...chain.map((one) => one.title), title].filter((text) => text !== '');
    const began = performance.now();
    const error = body && (await failureOf(chain, body, timeoutMs));
    if (error !== undefined) failed++;
    report({
      title: titles.join(' > '),
      status: body === undefined ? 'skipped' : error === undefined ? 'passed' : 'failed',
      ms: Math.round(performance.now() - began),
      ...(error === undefined ? {} : { error }),
    });
  }
  return failed;
}

export function report(result: GuestResult): void {
  writeSync(1, `${MARK}${JSON.stringify(result)}\n`);
}

async function failureOf(
  chain: readonly Suite[],
  body: Body,
  timeoutMs: number,
): Promise<string | undefined> {
  try {
    for (const suite of chain) for (const before of suite.before) await inTime(before);
    try {
      await inTime(body, timeoutMs);
    } finally {
      for (const suite of [...chain].reverse()) for (const after of suite.after) await inTime(after);
    }
    return undefined;
  } catch (error) {
    return describeError(error);
  }
}

function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { actual, expected } = error as { actual?: unknown; expected?: unknown };
  const compared =
    actual === undefined ? '' : `\nactual ${JSON.stringify(actual)}, expected ${JSON.stringify(expected)}`;
  return `${error.stack ?? error.message}${compared}`;
}

async function inTime(body: Body, timeoutMs = TEST_TIMEOUT_MS): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    await Promise.race([body(), late]);
  } finally {
    clearTimeout(timer);
  }
}
