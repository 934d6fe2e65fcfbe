#!/bin/sh
# Boots the guest that scripts/guest/app.sh has packed and shows what it prints: sh scripts/guest/boot.sh [PART [ADDRESS OPTION ...]]
# PART: what to run of test/guest/inside/main.ts; none: everything that one guest can run. ADDRESS: IPv4 address of its network
# device, which the options of qemu that follow make; none: Soft-RoCE runs on the loopback device. Software emulation, one
# processor, no disk. The guest halts by itself; who waits for it should have a limit.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)
cache=$root/.cache/guest
# The kernel makes of these the environment of the first process.
variables="PART=${1:-} ADDRESS=${2:-}"
[ $# -lt 1 ] || shift
[ $# -lt 1 ] || shift
exec qemu-system-x86_64 -accel tcg -smp 1 -m 768 -nodefaults -no-user-config -no-reboot -display none -serial stdio \
  -kernel "$cache/vmlinuz" -initrd "$cache/initramfs" -append "console=ttyS0 panic=-1 quiet $variables" "$@" </dev/null
