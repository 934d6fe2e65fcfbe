#!/bin/sh
# Packs this build of the project onto the guest's base: sh scripts/guest/app.sh
# Writes .cache/guest/initramfs: base.cpio, and the compiled project with its addon under /app. Takes about a second.
# Exit code 3: there is no guest to be had on this machine; the last line on stderr says why.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)
cache=$root/.cache/guest
sh "$root/scripts/guest/base.sh"

app=$cache/app
rm -rf "$app"
mkdir -p "$app/app/dist/test" "$app/app/native/build/Release" "$app/app/node_modules"
cp "$root/package.json" "$app/app/"
cp "$root/native/build/Release/patronus_native.node" "$app/app/native/build/Release/"
for part in native patronus kv test/native test/guest; do
  mkdir -p "$app/app/dist/$part"
  cp -r "$root/dist/$part/." "$app/app/dist/$part/"
done
# What the project itself imports. The guest has a runner of its own under vitest's name, and compares with vitest's library.
for package in memjs msgpackr @vitest/expect @vitest/pretty-format @vitest/spy @vitest/utils chai tinyrainbow; do
  mkdir -p "$app/app/node_modules/$package"
  cp -r "$root/node_modules/$package/." "$app/app/node_modules/$package/"
done
mkdir -p "$app/app/node_modules/vitest"
echo '{"name": "vitest", "type": "module", "main": "index.js"}' >"$app/app/node_modules/vitest/package.json"
echo "export * from '../../dist/test/guest/inside/vitest.js';" >"$app/app/node_modules/vitest/index.js"
(cd "$app" && find . | "$cache/base/bin/busybox" cpio -o -H newc >"$cache/app.cpio" 2>/dev/null)
cat "$cache/base.cpio" "$cache/app.cpio" >"$cache/initramfs"
