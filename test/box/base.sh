#!/bin/bash
# base.sh OUT - makes the root that all boxes share, in the new folder OUT: systemd, D-Bus, logind, sudo,
# polkit, dconf with the schemas of MATE, and rpm and dnf that behave as on an RPM distribution.
# Needs root, mmdebstrap and the host's own apt sources.
set -euo pipefail

packages=(
  systemd systemd-sysv dbus dbus-user-session libpam-systemd sudo passwd procps iproute2 util-linux-extra
  polkitd pkexec tzdata ca-certificates gnupg
  rpm dnf dnf-plugins-core createrepo-c
  dconf-cli dconf-gsettings-backend libglib2.0-bin
  # Readers of drop-ins: they are asked what is in effect, and run where a test starts them.
  openssh-server chrony logrotate cron rsyslog nftables iptables
  # Of these only the GSettings schemas are kept.
  mate-desktop-common mate-panel-common marco-common caja-common mate-screensaver-common
  mate-power-manager-common mate-settings-daemon-common
)
unwanted=(man doc locale help info icons sounds backgrounds pixmaps mate-power-manager mate-panel themes lintian)
# Timers and terminals that a test would only stumble over.
masked=(apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service
  fstrim.timer console-getty.service getty@.service systemd-firstboot.service)

disabled=(ssh.service chrony.service logrotate.timer cron.service rsyslog.service nftables.service)

# customize ROOT runs as a hook of mmdebstrap, with /proc and /dev in place.
customize() {
  local root=$1
  rm -f "$root/etc/hostname"
  : >"$root/etc/machine-id" # empty: every box makes its own
  : >"$root/etc/resolv.conf"
  chroot "$root" systemctl mask --quiet "${masked[@]}"
  chroot "$root" systemctl disable --quiet "${disabled[@]}" 2>/dev/null
  rm -f "$root"/etc/ssh/ssh_host_* # a box that runs sshd makes its own

  # polkit 121 and 122 signal the end of a rule without holding the lock that the waiter checks under (mended in 123,
  # commit 5615ed0): now and then the wake-up is lost, and polkitd stands still for 15 s. On one CPU, and
  # without being preempted by what it has just started, the waiter waits by the time the rule ends.
  mkdir -p "$root/etc/systemd/system/polkit.service.d"
  printf '[Service]\nCPUAffinity=0\nCPUSchedulingPolicy=batch\n' >"$root/etc/systemd/system/polkit.service.d/one-cpu.conf"

  # Some schemas come with programs that would bring the desktop along.
  local package
  for package in mate-session-manager mate-panel; do
    (cd "$root/tmp" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download -qq -o APT::Sandbox::User=root $package)
    dpkg-deb --fsys-tarfile "$root"/tmp/${package}_*.deb | tar -C "$root" -x ./usr/share/glib-2.0/schemas
    rm "$root"/tmp/${package}_*.deb
  done
  chroot "$root" glib-compile-schemas /usr/share/glib-2.0/schemas

  # What reads .pkla files beside the rules is at hand in /opt, and no part of the machine until a test copies it.
  (cd "$root/tmp" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download -qq -o APT::Sandbox::User=root polkitd-pkla)
  dpkg-deb -x "$root"/tmp/polkitd-pkla_*.deb "$root/opt/polkitd-pkla"
  rm "$root"/tmp/polkitd-pkla_*.deb

  # Debian's rpm keeps the database in root's home directory.
  mkdir -p "$root/etc/rpm" "$root/etc/yum.repos.d" "$root/etc/dnf/vars" "$root/var/lib/rpm" "$root/etc/dconf/db"
  echo '%_dbpath /var/lib/rpm' >"$root/etc/rpm/macros"
  # The empty repository of Debian's "local" plugin makes every install fail under gpgcheck=1.
  [ ! -e "$root/etc/dnf/plugins/local.conf" ] || sed -i 's/^enabled.*/enabled = false/' "$root/etc/dnf/plugins/local.conf"
  # There is no package of a distribution's release to tell dnf $releasever.
  echo 2 >"$root/etc/dnf/vars/releasever"
  # What dpkg installed is unknown to rpm: this package stands for it.
  cat >"$root/tmp/shim.spec" <<'SPEC'
Name: debian-base-shim
Version: 1
Release: 1
Summary: What this machine already has from Debian
License: Apache-2.0
BuildArch: noarch
Provides: systemd = 252, systemd-units = 252, systemd-libs = 252, shadow-utils = 4.9, util-linux = 2.38
Provides: /bin/sh, /usr/bin/sh, /bin/bash, /usr/bin/bash, /usr/sbin/useradd, /usr/sbin/groupadd
Provides: dbus = 1.14, sudo = 1.9, dconf = 0.40, polkit = 122, glibc = 2.36, coreutils = 9.1, python3 = 3.11
%description
What this machine already has from Debian.
%files
SPEC
  chroot "$root" rpmbuild -bb --quiet --define '_topdir /tmp/shim' /tmp/shim.spec
  chroot "$root" sh -c 'rpm --force-debian --install /tmp/shim/RPMS/noarch/*.rpm'
  rm -rf "$root/tmp/shim" "$root/tmp/shim.spec"
}

# sources CODENAME DIR prints the host's apt sources that have the host's own release, as files.
# One-line sources are copied into DIR without the lines of other releases.
sources() {
  local codename=$1 dir=$2 file list=$2/host.list
  for file in /etc/apt/sources.list.d/*.sources; do
    if [ -e "$file" ] && grep -Eq "^Suites:(.*[[:space:]])?$codename([[:space:]]|\$)" "$file"; then echo "$file"; fi
  done
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | grep -v 'cdrom:' |
    grep -E "^deb[[:space:]]([^#]*[[:space:]])?$codename(-updates|-security)?[[:space:]]" >"$list" || true
  if [ -s "$list" ]; then echo "$list"; fi
}

if [ "$1" = customize ]; then
  customize "$2"
  exit
fi

out=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
mapfile -t from < <(sources "$codename" "$work")
if [ ${#from[@]} -eq 0 ]; then
  echo "cannot build the base machine: no apt source of $codename in /etc/apt" >&2
  exit 1
fi
opts=()
for dir in "${unwanted[@]}"; do opts+=("--dpkgopt=path-exclude=/usr/share/$dir/*"); done
eval "$(apt-config shell http Acquire::http::Proxy https Acquire::https::Proxy)"
[ -z "${http:-}" ] || opts+=("--aptopt=Acquire::http::Proxy \"$http\"")
[ -z "${https:-}" ] || opts+=("--aptopt=Acquire::https::Proxy \"$https\"")

mmdebstrap --variant=minbase --mode=root --format=directory --include="$(IFS=, && echo "${packages[*]}")" \
  "${opts[@]}" --customize-hook="'$(realpath "$0")' customize \"\$1\"" "$codename" "$out" "${from[@]}"
