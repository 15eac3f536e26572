#!/bin/bash
# setup.sh - prepares what the tests in boxes need, on Debian 12 or Ubuntu 24.04 and newer. Run as root.
#
# Installs the Debian packages that are missing, builds the base machine and the RPM repository into
# $SOE_TEST_CACHE (/var/cache/soe-agent-test) and removes what crashed test runs left. May be run at any
# time and any number of times: what is there already costs nothing. "setup.sh peers" also builds the machine with
# other configuration management beside which the agent is measured.
set -euo pipefail
umask 022
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SOE_TEST_CACHE:-/var/cache/soe-agent-test}

say() { printf '%s\n' "$*"; }
fail() {
  printf 'setup.sh: %s\n' "$*" >&2
  exit 1
}

check_host() {
  [ "$(id -u)" = 0 ] || fail "cannot prepare the tests: root is needed to boot machines; run: sudo $0"
  local id version
  # shellcheck source=/dev/null
  id=$(. /etc/os-release && echo "$ID")
  # shellcheck source=/dev/null
  version=$(. /etc/os-release && echo "${VERSION_ID:-}") # none on Debian testing
  case $id in
  debian) [ -z "$version" ] || dpkg --compare-versions "$version" ge 12 || fail "cannot prepare the tests: this is Debian $version, 12 or newer is needed" ;;
  ubuntu) dpkg --compare-versions "$version" ge 24.04 || fail "cannot prepare the tests: this is Ubuntu $version, 24.04 or newer is needed" ;;
  *) fail "cannot prepare the tests: this is $id, and they need Debian (12 or newer) or Ubuntu (24.04 or newer); the unit tests run anywhere: go test ./internal/..." ;;
  esac
  grep -qw overlay /proc/filesystems || modprobe overlay || fail "cannot prepare the tests: the kernel has no overlay file system"
}

install_packages() {
  local package missing=()
  for package in systemd-container mmdebstrap rpm createrepo-c gnupg iproute2 nftables strace make gcc libc6-dev git ca-certificates tidy libxml2-utils openscap-scanner groff-base; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then return; fi
  say "Debian packages: installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  logged apt-get update -q
  logged apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# logged runs a command silently, but shows what it said if it fails.
logged() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    rm -f "$log"
    fail "cannot prepare the tests: failed: $*"
  fi
  rm -f "$log"
}

# build NAME SAY [PART…] RECIPE makes $cache/NAME-HASH with the script RECIPE, where HASH is that of the recipe with
# its parts. It appears whole or not at all.
build() {
  local name=$1 message=$2 recipe=${*: -1} hash target
  shift 2
  hash=$(cat "$@" | sha256sum | cut -c 1-12)
  target=$cache/$name-$hash
  if [ ! -d "$target" ]; then
    say "$message"
    logged bash "$recipe" "$cache/unfinished/$name"
    mv "$cache/unfinished/$name" "$target"
  fi
  touch "$target" # in use: see forget_old
}

forget_old() {
  find "$cache" -mindepth 1 -maxdepth 1 \( -name 'base-*' -o -name 'older-*' -o -name 'peers-*' -o -name 'rpmrepo-*' \) -mtime +30 \
    -exec rm -rf --one-file-system {} +
}

remove_leftovers() {
  local dir
  for dir in "$cache"/boxes/*/; do
    # A box that is being made has its keeper a moment later.
    if [ -d "$dir" ] && [ -n "$(find "$dir" -maxdepth 0 -mmin +1)" ]; then bash "$here/box/keeper.sh" "$dir" </dev/null; fi
  done
  rm -rf --one-file-system "$cache/unfinished"
}

# Each box has a dozen inotify instances, and all count for the one root.
raise_limits() {
  local limit=/proc/sys/fs/inotify/max_user_instances
  if [ "$(cat "$limit")" -lt 1024 ]; then
    say "fs.inotify.max_user_instances: raising from $(cat "$limit") to 1024, until the next boot of this host"
    echo 1024 >"$limit" || say "cannot raise it; more than six boxes at a time may fail to boot"
  fi
}

check_host
mkdir -p "$cache/boxes"
exec 9>"$cache/lock"
flock 9
install_packages
remove_leftovers
mkdir -p "$cache/unfinished"
build rpmrepo "RPM repository: building (a few seconds, once)…" "$here/rpmrepo/build.sh"
build base "base machine: building (about a minute, once)…" "$here/box/base.sh"
build older "base machine with an older rpm: building (less than a minute, once)…" "$here/box/older.sh"
if [ "${1:-}" = peers ]; then
  build peers "base machine with puppet and cfengine: building (two minutes, once)…" "$here/box/base.sh" "$here/box/peers.sh"
fi
forget_old
raise_limits
say "test machines: ready in $cache"
