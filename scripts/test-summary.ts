// Prints the counts of a vitest JSON report as the line that scripts/test.sh ends with: node test-summary.js REPORT
import { readFileSync } from 'node:fs';

interface Report {
  readonly testResults: readonly {
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
}

const report = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as Report;
const tests = report.testResults.flatMap((file) => file.assertionResults);
const count = (status: string) => tests.filter((test) => test.status === status).length;
// A file that could not be loaded, or a failed hook, has no failed test of its own, and is a failure all the same.
const brokenFiles = report.testResults.filter(
  (file) => file.status === 'failed' && !file.assertionResults.some((test) => test.status === 'failed'),
).length;
const passed = count('passed');
const failed = count('failed') + brokenFiles;
const skipped = tests.length - passed - count('failed');
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
if (failed > 0 || passed === 0) process.exitCode = 1;
