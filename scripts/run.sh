#!/bin/sh
# Starts the HTTP server, after what set-up is missing: sh scripts/run.sh [OPTION...], --help shows the options.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
sh "$root/scripts/setup.sh" g++ make python3
exec node "$root/dist/http/cli.js" "$@"
