package e2e

import (
	"slices"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// lacks are those of some options that a mount is without.
func (d *desktop) lacks(t *testing.T, point string, options ...string) []string {
	t.Helper()
	mounted := d.mounted(t, point)
	return slices.DeleteFunc(options, func(option string) bool { return slices.Contains(mounted, option) })
}

func TestOptionsOfMountsAreInEffectThroughAnAttackAndAReboot(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, box.WithFiles(map[string]box.File{
		"/etc/systemd/system/srv-mem.mount": {Content: "[Unit]\nDefaultDependencies=no\nConflicts=umount.target\nBefore=local-fs.target umount.target\n[Mount]\nWhat=tmpfs\nWhere=/srv/mem\nType=tmpfs\nOptions=mode=1777,size=33m\n[Install]\nWantedBy=local-fs.target\n"},
		"/etc/fstab":                        {Content: "# theirs\ntmpfs /srv/data tmpfs size=44m,mode=0750\t0 0\n/srv/data/x\t/srv/bound none bind,nofail 0 0"},
	}))
	d.MustExec(t, "sh", "-ec", "mkdir -p /srv/data /srv/bound /srv/mem; mount -t tmpfs -o size=44m,mode=0750 tmpfs /srv/data; mkdir /srv/data/x; mount --bind /srv/data/x /srv/bound; systemctl daemon-reload; systemctl enable srv-mem.mount; systemctl start srv-mem.mount")
	before := d.MustExec(t, "cat", "/etc/fstab")
	const toml = `
[mounts."/dev/shm"]
options = ["nodev", "nosuid", "noexec"]
controls = ["cis-al2:1.1.2.2.4"]
[mounts."/srv/mem"]
options = ["nodev", "nosuid", "noexec"]
[mounts."/srv/data"]
options = ["nodev", "noexec"]
[mounts."/srv/bound"]
options = ["nosuid"]
`
	states := map[policy.ID]converge.State{"mount/dev/shm": converge.Corrected, "mount/srv/mem": converge.Corrected, "mount/srv/data": converge.Corrected, "mount/srv/bound": converge.Corrected}
	const generator = "/usr/lib/systemd/system-generators/systemd-fstab-generator"
	d.MustExec(t, "mv", generator, generator+".kept")
	d.MustWriteFile(t, generator, box.File{Content: "#!/bin/sh\nsed s/Options/Choice/ /etc/fstab >$1/a.mount\n", Mode: 0o755})
	d.apply(t, toml).wants(t, map[policy.ID]converge.State{"mount/srv/data": converge.Failed, "mount/srv/mem": converge.Corrected})
	if now := d.MustExec(t, "cat", "/etc/fstab"); now != before {
		t.Errorf("though systemd would make other units of it /etc/fstab is\n%s", now)
	}
	d.MustExec(t, "mv", generator+".kept", generator)
	d.apply(t, toml+"[mounts.\"/var/tmp\"]\noptions = [\"nodev\"]\n").wants(t, map[policy.ID]converge.State{"mount/var/tmp": converge.Failed})
	d.MustExec(t, "sh", "-c", "! mountpoint -q /var/tmp")
	d.MustExec(t, "mount", "-o", "remount,exec,suid,dev", "/dev/shm")
	d.apply(t, toml).wants(t, map[policy.ID]converge.State{"mount/dev/shm": converge.Corrected, "mount/srv/mem": converge.Compliant})
	inEffect := func(when string) {
		t.Helper()
		for point, options := range map[string][]string{
			"/dev/shm": {"nodev", "nosuid", "noexec"}, "/srv/mem": {"nodev", "nosuid", "noexec", "size=33792k"},
			"/srv/data": {"nodev", "noexec", "size=45056k", "mode=750"}, "/srv/bound": {"nosuid"},
		} {
			if lacks := d.lacks(t, point, options...); len(lacks) > 0 {
				t.Errorf("%s %s is mounted without %v", when, point, lacks)
			}
		}
	}
	inEffect("at first")
	if lacks := d.lacks(t, "/srv/bound", "nodev"); len(lacks) != 1 {
		t.Error("an option of one mount of a file system is that of another too")
	}

	now := d.MustExec(t, "cat", "/etc/fstab")
	if want := "# theirs\ntmpfs /dev/shm tmpfs nodev,nosuid,noexec 0 0\ntmpfs /srv/data tmpfs size=44m,mode=0750,nodev,noexec\t0 0\n/srv/data/x\t/srv/bound none bind,nofail,nosuid 0 0"; now != want {
		t.Errorf("/etc/fstab is\n%s", now)
	}
	for harm, point := range map[string]string{"mount -o remount,exec /dev/shm": "/dev/shm", "mount -o remount,bind,suid /srv/bound": "/srv/bound", "mount -t tmpfs over /srv/mem": "/srv/mem"} {
		d.MustExec(t, "sh", "-ec", harm)
		d.plan(t).wants(t, map[policy.ID]converge.State{policy.NewID("mount", point): converge.Drifted})
	}
	delete(states, "mount/srv/data") // which nobody has touched
	d.apply(t, toml).wants(t, states)
	d.MustExec(t, "umount", "/srv/mem")
	inEffect("after an attack")
	d.converged(t)

	if err := d.Reboot(t.Context()); err != nil { // where no agent runs
		t.Fatal(err)
	}
	inEffect("after a reboot")
	d.MustExec(t, "systemctl", "is-active", "local-fs.target")

	result, err := d.Exec(t.Context(), "soe-agent", "purge", "--yes")
	if err != nil || result.Code != 0 {
		t.Fatalf("%v, exit code %d: %s%s", err, result.Code, result.Stdout, result.Stderr)
	}
	if after := d.MustExec(t, "cat", "/etc/fstab"); after != before {
		t.Errorf("after a purge /etc/fstab is\n%s", after)
	}
	for point, options := range map[string][]string{"/dev/shm": {"noexec"}, "/srv/mem": {"nodev", "nosuid", "noexec"}, "/srv/data": {"nodev", "noexec"}, "/srv/bound": {"nosuid"}} {
		if lacks := d.lacks(t, point, slices.Clone(options)...); len(lacks) != len(options) {
			t.Errorf("after a purge %s has some of %v", point, options)
		}
	}
	d.MustExec(t, "sh", "-c", "! ls /etc/systemd/system/srv-mem.mount.d/* 2>/dev/null")
}
