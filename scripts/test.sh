#!/bin/sh
# Checks everything, after what set-up is missing: lint, then all tests, or those of the given vitest arguments.
# The last line of a run says how many tests passed and failed; the exit code is 0 only if nothing failed.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd -- "$root"
sh scripts/setup.sh g++ make python3 memcached wamerican curl wrk clang libclang-rt-dev
report=$(mktemp)
trap 'rm -f "$report"' EXIT

failed=0
npx biome check . || failed=1
[ "$failed" -eq 0 ] || lint_failed='lint failed: see the beginning of the output'
npx vitest run --reporter=default --reporter=json --outputFile.json="$report" "$@" || failed=1
[ -z "${lint_failed-}" ] || printf '%s\n' "$lint_failed"
node dist/scripts/test-summary.js "$report" || failed=1
exit "$failed"
