#!/bin/sh
# Boots the guest that scripts/guest/app.sh has packed and shows what it prints: sh scripts/guest/boot.sh [PART [QEMU OPTION ...]]
# PART: what to run of test/guest/inside/main.ts; - or none for all. Software emulation, one processor; no network, no disk
# unless options say so. The guest halts by itself; who waits for it should have a limit.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)
cache=$root/.cache/guest
part=${1:--}
[ $# -eq 0 ] || shift
# The kernel makes of it an environment variable of the first process.
variable=
[ "$part" = - ] || variable=PART=$part
exec qemu-system-x86_64 -accel tcg -smp 1 -m 768 -nodefaults -no-user-config -no-reboot -display none -serial stdio \
  -kernel "$cache/vmlinuz" -initrd "$cache/initramfs" -append "console=ttyS0 panic=-1 quiet $variable" "$@" </dev/null
