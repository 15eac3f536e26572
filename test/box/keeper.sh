#!/bin/bash
# keeper.sh DIR - waits until standard input ends, then removes the box in DIR and all that belongs to it.
#
# The process that made the box holds the other end of standard input: so the box is removed when that
# process closes it, and just as well when it is killed. test/setup.sh runs this on what is left after a
# power cut, with nothing on standard input. A box that has its keeper already is left alone.
set -u
dir=${1%/}
name=${dir##*/}
exec 9>"$dir/lock"
flock --nonblock 9 || exit 0
cat >/dev/null

pid=$(cat "$dir/nspawn.pid" 2>/dev/null)
alive() { [ -n "$pid" ] && grep -qsz -- "--machine=$name" "/proc/$pid/cmdline"; }
if alive; then
  # The children of nspawn are PID 1 of the box; it takes all processes of the box with it.
  read -ra children <"/proc/$pid/task/$pid/children"
  kill -KILL "${children[@]}"
  for _ in $(seq 250); do alive && sleep 0.02; done
  if alive; then kill -KILL "$pid"; fi
fi
if ip netns list | grep -q "^$name\b"; then ip netns delete "$name"; fi
find /sys/fs/cgroup -maxdepth 2 -type d -name "$name" -exec find {} -depth -type d -delete \; -prune 2>/dev/null
if mountpoint -q "$dir/root"; then umount "$dir/root" || umount --lazy "$dir/root"; fi
rm -rf --one-file-system "$dir"
