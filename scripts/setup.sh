#!/bin/sh
# Brings this tree into a state in which it can run: sh scripts/setup.sh [DEBIAN_PACKAGE...]
# Installs what is missing of the Debian packages and of the npm packages and builds what is older than its sources.
# With nothing to do it takes a fraction of a second. What it does it says on stderr.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
addon=$root/native/build/Release/patronus_native.node

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

# step MESSAGE COMMAND...: says what happens; shows what the command printed only if it fails.
step() {
  say "$1 ..."
  shift
  log=$(mktemp)
  # 9 is the lock: a process that outlives the command must not keep it.
  if "$@" >"$log" 2>&1 </dev/null 9<&-; then
    rm -f "$log"
    return
  fi
  tail -n 60 "$log" >&2
  die "failed: $* (the last lines of its output are above, all of it is in $log)"
}

has_package() {
  case $1 in
    wamerican) [ -e /usr/share/dict/american-english ] ;;
    # The libFuzzer and the sanitizers of clang.
    libclang-rt-dev) ls /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-* >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
  esac
}

# newer_than FILE FIND_ARGUMENT...: whether FILE is missing or find finds something newer.
newer_than() {
  [ -e "$1" ] || return 0
  reference=$1
  shift
  [ -n "$(find "$@" -newer "$reference" -print -quit)" ]
}

install_debian_packages() {
  missing=
  for package in "$@"; do
    has_package "$package" || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null 2>&1 ||
    die "these programs are needed:$missing. There is no apt-get here, so please install them by hand."
  sudo=
  if [ "$(id -u)" -ne 0 ]; then
    by_hand="please run as root: apt-get install -y$missing"
    command -v sudo >/dev/null 2>&1 || die "Debian packages are missing and there is no sudo here; $by_hand"
    # Asks for the password where somebody can type it; elsewhere it fails at once.
    if [ -t 0 ]; then sudo -v; else sudo -n true; fi || die "Debian packages are missing and sudo refuses; $by_hand"
    sudo='sudo -n'
  fi
  options='-o DPkg::Lock::Timeout=300 -o Acquire::Retries=2'
  # shellcheck disable=SC2086
  step 'reading the lists of Debian packages' $sudo apt-get $options update
  # shellcheck disable=SC2086
  step "installing Debian packages:$missing" \
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get $options install -y --no-install-recommends $missing
}

check_node() {
  least=$(sed -n 's/^ *"node": ">=\([0-9.]*\)".*/\1/p' package.json)
  where='it is at https://nodejs.org/en/download'
  command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 ||
    die "Node.js $least or later is needed and there is no node and npm on the PATH; $where"
  has=$(node -p process.versions.node)
  [ "$(printf '%s\n' "$least" "$has" | sort -V | head -n 1)" = "$least" ] ||
    die "Node.js $least or later is needed and $(command -v node) is $has; $where"
}

install_npm_packages() {
  installed=node_modules/.package-lock.json
  newer_than "$installed" package-lock.json || return 0
  # The install script of this package is the native build, which has a step of its own.
  step 'installing npm packages' npm ci --ignore-scripts --no-audit --no-fund
  touch "$installed"
}

build_addon() {
  newer_than "$addon" native -path native/build -prune -o -type f \
    \( -name '*.cc' -o -name '*.h' -o -name '*.gyp' -o -name '*.gypi' \) || return 0
  began=$(mktemp)
  # Headers beside the node program spare node-gyp their download.
  prefix=$(node -p 'path.resolve(process.execPath, "../..")')
  nodedir=
  [ -e "$prefix/include/node/node_api.h" ] && nodedir="--nodedir=$prefix"
  # shellcheck disable=SC2086
  step 'building the native addon (this takes a while the first time)' \
    npm run build:native -- --jobs max $nodedir
  # Not newer than what was changed during the build; and newer than a source that it did not need.
  touch -c -r "$began" "$addon"
  rm -f "$began"
}

build_typescript() {
  stamp=dist/.built
  # Folders count as sources, for a file that was removed from one.
  newer_than "$stamp" native patronus kv http loadgen test scripts tsconfig.json package.json node_modules/.package-lock.json \
    -path native/build -prune -o \( -name '*.ts' -o -name '*.json' -o -type d \) || return 0
  began=$(mktemp)
  step 'compiling TypeScript' npm run build
  touch -r "$began" "$stamp"
  rm -f "$began"
}

[ "$(uname -s)" = Linux ] || die "this needs Linux; here is $(uname -s)"
cd -- "$root"
install_debian_packages "$@"
check_node
# One set-up at a time; a second one waits and then finds its work done.
exec 9<"$root"
if ! flock -n 9; then
  say 'another set-up is under way; waiting for it ...'
  flock -w 900 9 || die 'the other set-up did not end within 15 minutes'
fi
install_npm_packages
build_addon
build_typescript
