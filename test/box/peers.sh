#!/bin/bash
# peers.sh OUT - makes the root of boxes in which the agent is measured beside other configuration management, in
# the new folder OUT: what base.sh makes, and puppet and cfengine from Debian. A minute and a half.
# Needs what base.sh needs, and the network.
set -euo pipefail

out=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bash "$here/base.sh" "$out"

# enter runs a command in the new root, with the names of hosts as the host knows them.
enter() {
  # shellcheck disable=SC2016 # the inner bash is to expand them
  unshare --mount bash -c '
    set -e
    root=$1
    shift
    mount --bind /proc "$root/proc"
    mount --bind /dev "$root/dev"
    mount --bind "$(realpath /etc/resolv.conf)" "$root/etc/resolv.conf"
    mount --bind /etc/hosts "$root/etc/hosts"
    exec chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"' enter "$out" "$@"
}

touch "$out/etc/hosts"
printf '#!/bin/sh\nexit 101\n' >"$out/usr/sbin/policy-rc.d" # nothing is to be started in a chroot
chmod 755 "$out/usr/sbin/policy-rc.d"
proxy=()
eval "$(apt-config shell http Acquire::http::Proxy https Acquire::https::Proxy)"
[ -z "${http:-}" ] || proxy+=(-o "Acquire::http::Proxy=$http")
[ -z "${https:-}" ] || proxy+=(-o "Acquire::https::Proxy=$https")
enter apt-get "${proxy[@]}" update -q
enter apt-get "${proxy[@]}" install -y -q --no-install-recommends puppet-agent cfengine3
enter apt-get clean
rm -rf "$out/usr/sbin/policy-rc.d" "$out"/var/lib/apt/lists/*
# They are run by hand, so that nothing else is measured.
chroot "$out" systemctl mask --quiet puppet.service cfengine3.service

# What a bootstrap from a policy hub would bring: the standard library, the module for packages with its Python,
# and yum, by whose name that module calls dnf.
inputs=$out/var/lib/cfengine3/inputs
mkdir -p "$inputs" "$out/var/lib/cfengine3/modules/packages" "$out/var/lib/cfengine3/plugins"
cp -r "$out/usr/share/cfengine3/masterfiles/." "$inputs/"
install -m 755 "$inputs/modules/packages/vendored/yum.mustache" "$out/var/lib/cfengine3/modules/packages/yum"
ln -sfn python3 "$out/usr/bin/cfengine-selected-python"
[ -e "$out/usr/bin/yum" ] || ln -s dnf-3 "$out/usr/bin/yum"
