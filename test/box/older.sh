#!/bin/bash
# older.sh OUT - makes the root of a box with an older rpm in the new folder OUT: rpm 4.16, whose database is a
# Berkeley DB as on Amazon Linux 2, and dnf 4.5, from Debian 11. Half a minute.
# Needs root, mmdebstrap and the host's own Debian mirror, or Debian's.
set -euo pipefail

packages=(systemd systemd-sysv dbus libpam-systemd sudo procps rpm dnf gnupg tzdata ca-certificates)
unwanted=(man doc locale info lintian)
masked=(apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service
  fstrim.timer console-getty.service getty@.service systemd-firstboot.service)

# customize ROOT runs as a hook of mmdebstrap, with /proc and /dev in place.
customize() {
  local root=$1
  rm -f "$root/etc/hostname"
  : >"$root/etc/machine-id" # empty: every box makes its own
  : >"$root/etc/resolv.conf"
  chroot "$root" systemctl mask --quiet "${masked[@]}"
  # As in base.sh, where it says why.
  mkdir -p "$root/etc/rpm" "$root/etc/yum.repos.d" "$root/etc/dnf/vars" "$root/var/lib/rpm"
  printf '%%_dbpath /var/lib/rpm\n%%_db_backend bdb\n' >"$root/etc/rpm/macros"
  [ ! -e "$root/etc/dnf/plugins/local.conf" ] || sed -i 's/^enabled.*/enabled = false/' "$root/etc/dnf/plugins/local.conf"
  echo 2 >"$root/etc/dnf/vars/releasever"
  cat >"$root/tmp/shim.spec" <<'SPEC'
Name: debian-base-shim
Version: 1
Release: 1
Summary: What this machine already has from Debian
License: Apache-2.0
BuildArch: noarch
Provides: systemd = 247, shadow-utils = 4.8, /bin/sh, /usr/bin/sh, /bin/bash, /usr/bin/bash
%description
What this machine already has from Debian.
%files
SPEC
  chroot "$root" rpmbuild -bb --quiet --define '_topdir /tmp/shim' /tmp/shim.spec
  chroot "$root" sh -c 'rpm --force-debian --install /tmp/shim/RPMS/noarch/*.rpm'
  rm -rf "$root/tmp/shim" "$root/tmp/shim.spec"
}

if [ "$1" = customize ]; then
  customize "$2"
  exit
fi

# mirror prints where the host gets Debian from.
mirror() {
  cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null |
    grep -Eo '(https?|file|copy)://[^][:space:]]+/debian/?([[:space:]]|$)' | tr -d '[:space:]' | head -n 1 || true
}

out=$1
from=$(mirror)
opts=()
for dir in "${unwanted[@]}"; do opts+=("--dpkgopt=path-exclude=/usr/share/$dir/*"); done
eval "$(apt-config shell http Acquire::http::Proxy https Acquire::https::Proxy)"
[ -z "${http:-}" ] || opts+=("--aptopt=Acquire::http::Proxy \"$http\"")
[ -z "${https:-}" ] || opts+=("--aptopt=Acquire::https::Proxy \"$https\"")

mmdebstrap --variant=minbase --mode=root --format=directory --include="$(IFS=, && echo "${packages[*]}")" \
  "${opts[@]}" --customize-hook="'$(realpath "$0")' customize \"\$1\"" bullseye "$out" "${from:-http://deb.debian.org/debian}"
