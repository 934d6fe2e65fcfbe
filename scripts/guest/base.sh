#!/bin/sh
# Builds what a guest boots from, once: sh scripts/guest/base.sh
# Downloads Debian packages with apt and unpacks them (nothing is installed), then writes .cache/guest/vmlinuz and
# .cache/guest/base.cpio: busybox, the kernel modules of Soft-RoCE and of a network device, the RDMA libraries and programs,
# memcached, Node.js.
# With nothing to do it takes no time. Needs apt-get, dpkg-deb, ldd and node, and installs qemu. Exit code 3: there is no
# guest to be had on this machine; the last line on stderr says why.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)
cache=$root/.cache/guest
say() { printf 'guest: %s\n' "$*" >&2; }
unavailable() { say "$@"; exit 3; }

for program in apt-get apt-cache dpkg-deb ldd node; do
  command -v "$program" >/dev/null 2>&1 || unavailable "there is no $program here"
done
[ "$(dpkg --print-architecture)" = amd64 ] || unavailable 'the guest is for amd64 only'
mkdir -p "$cache"

if ! command -v qemu-system-x86_64 >/dev/null 2>&1; then
  sudo=
  [ "$(id -u)" -eq 0 ] || sudo='sudo -n'
  say 'installing qemu-system-x86 ...'
  # shellcheck disable=SC2086
  timeout 200 $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=60 install -y \
    --no-install-recommends qemu-system-x86 >"$cache/install.log" 2>&1 </dev/null ||
    unavailable 'qemu is not here and can not be installed (apt-get install qemu-system-x86)'
fi

# The cloud kernel has no Soft-RoCE, so the ordinary one: the package that the meta package depends on.
kernel=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^  Depends: \(linux-image-[0-9].*-amd64\)$/\1/p')
[ -n "$kernel" ] || unavailable 'the Debian kernel package is not in the package lists (apt-get update may help)'
release=${kernel#linux-image-}
packages="$kernel busybox-static iproute2 libmnl0 libcap2 libbsd0 libmd0 libibverbs1 ibverbs-providers libnl-3-200
libnl-route-3-200 memcached libevent-2.1-7 libsasl2-2"
rdma_modules='crc32_generic ib_core ib_uverbs udp_tunnel ip6_udp_tunnel rdma_rxe'
network_modules='virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net'

# What a finished base was made of: another kernel, program or script makes it anew.
stamp="$release $(node -p process.version) $(cksum <"$0")"
if [ -e "$cache/base.cpio" ] && [ -e "$cache/vmlinuz" ] && [ "$(cat "$cache/stamp" 2>/dev/null)" = "$stamp" ]; then
  exit 0
fi

mkdir -p "$cache/debs"
rm -rf "$cache/stamp" "$cache/unpacked" "$cache/base" "$cache/debs/"*.deb
say "downloading $kernel and the RDMA packages ..."
# shellcheck disable=SC2086
(cd "$cache/debs" && timeout 300 apt-get -q -o Acquire::Retries=2 download $packages >"$cache/download.log" 2>&1) || {
  tail -n 5 "$cache/download.log" >&2
  unavailable 'the packages could not be downloaded'
}
unpacked=$cache/unpacked
mkdir -p "$unpacked"
for deb in "$cache/debs/"*.deb; do dpkg-deb -x "$deb" "$unpacked"; done

base=$cache/base
mkdir -p "$base/bin" "$base/lib/modules" "$base/lib64" "$base/lib/x86_64-linux-gnu" "$base/usr/lib/x86_64-linux-gnu" \
  "$base/etc" "$base/proc" "$base/sys" "$base/dev" "$base/tmp" "$base/app"
cp "$unpacked/bin/busybox" "$base/bin/busybox"
for module in $rdma_modules $network_modules; do
  found=$(find "$unpacked/lib/modules/$release" -name "$module.ko" | head -n 1)
  [ -n "$found" ] || unavailable "the kernel package has no module $module"
  cp "$found" "$base/lib/modules/"
done
# libibverbs looks for its providers at fixed paths.
cp -r "$unpacked/etc/libibverbs.d" "$base/etc/"
find "$base/etc/libibverbs.d" -type f ! -name rxe.driver -exec rm {} +
mkdir -p "$base/usr/lib/x86_64-linux-gnu/libibverbs"
cp "$unpacked"/usr/lib/x86_64-linux-gnu/libibverbs/librxe-*.so "$base/usr/lib/x86_64-linux-gnu/libibverbs/"
cp "$unpacked/usr/bin/rdma" "$base/bin/rdma"
cp "$unpacked/usr/bin/memcached" "$base/bin/memcached"
echo 'root:x:0:0:root:/:/bin/sh' >"$base/etc/passwd"
cp "$(node -p process.execPath)" "$base/bin/node"

# Libraries that these need: from the packages, else from this machine.
for program in "$base/bin/rdma" "$base/bin/node" "$base/bin/memcached" "$base"/usr/lib/x86_64-linux-gnu/libibverbs/*.so \
  "$unpacked"/usr/lib/x86_64-linux-gnu/libibverbs.so.1; do
  LD_LIBRARY_PATH="$unpacked/usr/lib/x86_64-linux-gnu:$unpacked/lib/x86_64-linux-gnu" ldd "$program"
done | sed -n 's/.*=> \(\/[^ ]*\) (.*/\1/p; s/^[[:space:]]*\(\/lib64\/[^ ]*\) (.*/\1/p' | sort -u >"$cache/libraries"
while read -r library; do
  case $library in
    /lib64/*) cp -L "$library" "$base/lib64/" ;;
    *) cp -L "$library" "$base/lib/x86_64-linux-gnu/" ;;
  esac
done <"$cache/libraries"
cp -L "$unpacked/usr/lib/x86_64-linux-gnu/libibverbs.so.1" "$base/lib/x86_64-linux-gnu/"

cat >"$base/init" <<INIT
#!/bin/busybox sh
# The first process of the guest: Soft-RoCE on the loopback device, or on a network device if there is an ADDRESS for it, then
# the program.
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t tmpfs tmpfs /tmp
/bin/busybox mkdir -p /dev/shm && /bin/busybox mount -t tmpfs tmpfs /dev/shm
export PATH=/bin NO_COLOR=1
load() {
  for module in "\$@"; do
    busybox insmod /lib/modules/\$module.ko || echo "guest: insmod \$module failed"
  done
}
load $rdma_modules
busybox ip link set lo up
device=lo
if [ -n "\$ADDRESS" ]; then
  load $network_modules
  device=eth0
  busybox ip addr add "\$ADDRESS/24" dev eth0 && busybox ip link set eth0 up || echo 'guest: no eth0'
fi
rdma link add rxe0 type rxe netdev \$device || echo 'guest: no rxe0'
waited=0
while [ ! -e /dev/infiniband/uverbs0 ] && [ \$waited -lt 50 ]; do
  busybox sleep 0.1
  waited=\$((waited + 1))
done
cd /app
echo guest-begin
# Nothing but what the program prints may stand on its lines.
echo 1 >/proc/sys/kernel/printk
node dist/test/guest/inside/main.js </dev/null
echo "guest-end \$?"
busybox poweroff -f
INIT
chmod 755 "$base/init"

# The modules fit this kernel only.
cp "$unpacked/boot/vmlinuz-$release" "$cache/vmlinuz"
(cd "$base" && find . | "$base/bin/busybox" cpio -o -H newc >"$cache/base.cpio" 2>/dev/null)
rm -rf "$unpacked" "$cache/debs"
printf '%s' "$stamp" >"$cache/stamp"
