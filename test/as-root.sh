#!/bin/sh
# Runs a command as root: the files of a desktop are root's and other people's. Who is
# not root is root of a user namespace of their own, with their subordinate ids in it
# (subuid(5)) for the other people.
if [ "$(id -u)" = 0 ]; then
	exec "$@"
fi
if ! unshare --user --map-root-user --map-auto true; then
	cat >&2 <<-END
		cannot make a user namespace with more than one user in it. It takes unshare of
		util-linux 2.38, newuidmap (package uidmap of Debian and Ubuntu), lines for $(id -un)
		in /etc/subuid and /etc/subgid, which useradd writes, and a kernel that lets
		everybody make one (AppArmor does not in Ubuntu 24.04). Or run it as root.
	END
	exit 1
fi
exec unshare --user --map-root-user --map-auto -- "$@"
