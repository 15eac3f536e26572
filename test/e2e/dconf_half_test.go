package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// dconf compile exits with 0 when it was short of memory, or could not read a file, and has
// made half a database. Whichever of its system calls fails, a setting is either in force
// and locked, or not called so.
func TestHalfADatabaseOfTheRealDconfIsNeverTakenForWhole(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, withStrace())
	const ids = 4
	var toml strings.Builder
	toml.WriteString("[dconf.\"org/mate/screensaver\"]\nlock-enabled = { value = true, lock = true }\nidle-activation-enabled = { value = true, lock = true }\n")
	toml.WriteString("[dconf.\"org/mate/power-manager\"]\nbutton-suspend = { value = \"blank\", lock = true }\nsleep-computer-ac = { value = 0, lock = false }\n")
	d.setPolicy(t, toml.String())
	d.MustWriteFile(t, "/usr/local/bin/dconf", box.File{Mode: 0o755, Content: `#!/bin/sh
[ "$1" = compile ] && [ -s /run/inject ] || exec /usr/bin/dconf "$@"
exec /opt/strace/run -f -qq -o /dev/null -e "inject=$(cat /run/inject)" /usr/bin/dconf "$@"
`})
	inForce := func() int {
		n := 0
		for key, want := range map[string]string{
			"org.mate.screensaver lock-enabled": "true", "org.mate.screensaver idle-activation-enabled": "true", "org.mate.power-manager button-suspend": "'blank'", "org.mate.power-manager sleep-computer-ac": "0",
		} {
			script := "gsettings get " + key + "; gsettings writable " + key
			said := d.MustExecAs(t, box.DesktopUser, "sh", "-c", script)
			writable := fmt.Sprint(strings.HasSuffix(key, "sleep-computer-ac"))
			if said == want+"\n"+writable+"\n" {
				n++
			}
		}
		return n
	}
	halves, worked := 0, 0
	apply := func(what, prepare string) {
		d.MustExec(t, "sh", "-c", "! mountpoint -q /etc/dconf || umount /etc/dconf; rm -rf /etc/dconf /etc/dconf-was; : >/run/inject; "+prepare)
		o := d.command(t, "apply", "--policy", policyDir)
		said := 0
		for _, r := range o.Resources {
			if strings.HasPrefix(string(r.ID), "dconf/org/") && r.State.InLine() {
				said++
			}
		}
		if got := inForce(); said > 0 && got < said {
			t.Errorf("%s: %d settings are called in line, and %d are in force and locked", what, said, got)
		}
		if said == ids {
			worked++
		} else {
			halves++
		}
		if r := o.resource(policy.ID("dconf/database")); said < ids && o.Code == 0 {
			t.Errorf("%s: apply exits with 0: %+v", what, r)
		}
	}
	for _, fault := range []string{"read:error=EIO:when=%d", "openat:error=EIO:when=%d", "openat:error=ENOMEM:when=%d", "getdents64:error=EIO:when=%d", "write:error=ENOSPC:when=%d", "mmap,brk:error=ENOMEM:when=%d", "newfstatat,fstat,statx:error=EIO:when=%d"} {
		for _, n := range []int{1, 4, 12} {
			inject := fmt.Sprintf(fault, n)
			apply(inject, "echo '"+inject+"' >/run/inject")
		}
	}
	faults := halves
	for pages := range 12 { // where the database is to be there is room for so much
		apply(fmt.Sprintf("room for %d pages", pages), fmt.Sprintf("mkdir /etc/dconf; mount -t tmpfs -o size=%dk,mode=755 none /etc/dconf", 4*(pages+1)))
	}
	if halves == faults {
		t.Error("there always was room enough, and this test shows nothing of it")
	}
	t.Logf("%d applies failed, and %d worked", halves, worked)
	if halves == 0 || worked == 0 {
		t.Error("all failed, or none, and this test shows nothing")
	}
}
