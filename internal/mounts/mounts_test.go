package mounts_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/mounts"
)

func TestAMountPointIsWhatAPathLeadsToAndNotWhatIsHiddenThere(t *testing.T) {
	all := mounts.Parse(`22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw,errors=remount-ro
30 22 0:20 / /tmp rw,nodev - tmpfs first rw
31 30 0:21 / /tmp rw,noexec master:3 - tmpfs second rw,size=1k
40 22 0:30 / /var/log rw - tmpfs hidden rw
41 22 0:31 / /var rw - tmpfs over rw
50 22 0:40 / /srv/a\040b rw,nosuid - tmpfs blank\040source rw
60 22 8:1 /old /bound ro,nodev,noatime - ext4 /dev/root rw
garbage
`)
	for point, source := range map[string]string{
		"/": "/dev/root", "/tmp": "second", "/var": "over", "/var/log": "", "/srv/a b": "blank source", "/bound": "/dev/root", "/tmp/x": "", "/srv": "", "/t": "",
	} {
		m, is := mounts.At(all, point)
		if is != (source != "") || is && m.Source != source {
			t.Errorf("%s: %v %+v", point, is, m)
		}
	}
	if m, _ := mounts.At(all, "/bound"); cmp.Diff([]string{"ro", "nodev", "noatime"}, m.Flags) != "" || m.Root != "/old" || m.Kind != "ext4" {
		t.Errorf("%+v", m)
	}
	if _, is := mounts.At(nil, "/tmp"); is {
		t.Error("where nothing is known something is mounted")
	}
}

const fstab = "# by the installer\nUUID=ab /\t\text4   defaults,noatime 1 1\n/dev/b /var/tmp  xfs\tdefaults,usrquota,size=1g,exec\t0 2 # kept\n/srv/x /srv/a\\040b/ none bind 0 0\n/dev/c /two ext4 rw\n/dev/d /two ext4 rw\nbroken /few\n\n"

func TestAnOptionIsAddedToItsLineAndTakenOutAndAllElseStaysToTheByte(t *testing.T) {
	f := mounts.ParseFstab(fstab)
	lines := f.Lines("/var/tmp")
	if len(lines) != 1 || f.Has(lines[0], "noexec") || f.Unsure(lines[0]) != "" {
		t.Fatalf("%v", lines)
	}
	f.Set(lines[0], "noexec", true)
	if want := strings.Replace(fstab, "size=1g,exec", "size=1g,exec,noexec", 1); f.String() != want || !f.Has(lines[0], "noexec") {
		t.Errorf("it is\n%s", f)
	}
	if err := mounts.OnlyOptions(fstab, f.String()); err != nil {
		t.Error(err)
	}
	f.Set(lines[0], "noexec", false)
	if f.String() != fstab {
		t.Errorf("taken out it is\n%s", f)
	}
	if len(f.Lines("/srv/a b")) != 1 || len(f.Lines("/two")) != 2 || len(f.Lines("/none")) != 0 || f.Unsure(f.Lines("/few")[0]) == "" {
		t.Error("a line is not known by its mount point")
	}
	for _, content := range []string{fstab, "", "# only this", "/dev/a / ext4 rw 0 1"} {
		f := mounts.ParseFstab(content)
		f.Insert(mounts.SharedMemoryLine([]string{"nodev", "noexec"}))
		added := f.Lines(mounts.SharedMemory)
		if err := mounts.OnlyOptions(content, f.String()); err != nil || len(added) != 1 {
			t.Fatalf("%v: %q", err, f)
		}
		f.Delete(added[0])
		if f.String() != content {
			t.Errorf("without its line %q is %q", content, f)
		}
	}
}

func TestAFileThatDiffersInMoreThanOptionsThatTakeRightsAwayIsRefused(t *testing.T) {
	for what, change := range map[string][2]string{
		"an option more":             {"defaults,noatime", "defaults,noatime,ro"},
		"one less":                   {"usrquota,", ""},
		"another source":             {"UUID=ab", "UUID=ac"},
		"another point":              {"/var/tmp", "/var/tmq"},
		"another type":               {"xfs", "ext4"},
		"another order of checks":    {"1 1", "0 0"},
		"a line less":                {"/dev/c /two ext4 rw\n", ""},
		"a line more":                {"broken", "tmpfs /srv/x tmpfs nodev 0 0\nbroken"},
		"a line that is no comment":  {"# by", "by"},
		"a line for the memory more": {"broken", "tmpfs /dev/shm tmpfs nodev,size=1k 0 0\nbroken"},
		"a break less":               {"rw\n/dev/d", "rw /dev/d"},
	} {
		after := strings.Replace(fstab, change[0], change[1], 1)
		if after == fstab {
			t.Fatalf("%s: nothing is changed", what)
		}
		if err := mounts.OnlyOptions(fstab, after); err == nil {
			t.Errorf("%s: it is accepted", what)
		}
	}
}
