#!/bin/sh
# Boots a guest that measures what permissions cost on Soft-RoCE, and prints that: npm run bench:guest (after a build).
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)
sh "$root/scripts/guest/app.sh"
output=$(timeout 500 sh "$root/scripts/guest/boot.sh" figures)
printf '%s\n' "$output" | tr -d '\r' | sed -n 's/^@figure //p'
case $output in
  *guest-end\ 0*) ;;
  *)
    printf '%s\n' "$output" >&2
    exit 1
    ;;
esac
