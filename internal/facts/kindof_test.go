package facts_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/target"
)

// values are the values of the facts that say what kind of machine it is.
func values(f facts.Facts) map[string]string {
	of := map[string]string{}
	for name, fact := range f.Kind {
		of[name] = fact.Value
	}
	delete(of, "arch") // the one on which the test runs
	return of
}

func TestTheKindOfAMachineIsFoundFromWhatIsThere(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string // family, package manager, desktop, streaming, directory
	}{
		"Amazon Linux 2": {map[string]string{
			"etc/os-release": amazonLinux, "usr/bin/yum": "", "usr/bin/mate-session": "", "etc/pcoip-agent/pcoip-agent.conf": "",
			"etc/nsswitch.conf": "passwd: files winbind\n",
		}, "amzn yum mate pcoip winbind"},
		"Rocky 9": {map[string]string{
			"etc/os-release": "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"\n", "usr/bin/dnf": "", "usr/bin/yum": "", "usr/bin/gnome-shell": "",
			"usr/bin/dcv": "", "etc/nsswitch.conf": "passwd:     sss files systemd\n", "etc/sssd/sssd.conf": "",
		}, "rhel dnf gnome dcv sssd"},
		"Ubuntu": {map[string]string{
			"etc/os-release": "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\nVERSION_CODENAME=noble\n", "usr/bin/apt-get": "", "usr/bin/gnome-session": "",
			"usr/lib/systemd/system/dcvserver.service": "", "etc/nsswitch.conf": "# passwd: winbind\npasswd: files systemd sss\n", "etc/sssd/sssd.conf": "",
		}, "debian apt gnome dcv sssd"},
		"one that is not joined yet": {map[string]string{
			"etc/os-release": "ID=ubuntu\n", "usr/bin/apt-get": "", "etc/nsswitch.conf": "passwd: files sss\n",
		}, "debian apt none none none"},
		"both of everything": {map[string]string{
			"etc/os-release": "ID=fedora\n", "usr/bin/dnf": "", "usr/bin/apt-get": "", "usr/bin/mate-session": "", "usr/bin/gnome-session": "",
			"etc/pcoip-agent/x": "", "etc/wsp/wsp.conf": "",
		}, "rhel dnf both both none"},
		"something else":         {map[string]string{"etc/os-release": "ID=arch\n"}, "other none none none none"},
		"one that says nothing":  {map[string]string{"etc/hostname": "a"}, " none none none none"},
		"a relative of a family": {map[string]string{"etc/os-release": "ID=eurolinux\nID_LIKE=\"rhel fedora\"\n"}, "rhel none none none none"},
	} {
		got := values(gather(t, c.files, nil))
		want := strings.Split(c.want, " ")
		if diff := cmp.Diff(map[string]string{
			target.Family: want[0], target.PackageManager: want[1], target.Desktop: want[2], target.Streaming: want[3], target.Directory: want[4],
		}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// blind fails each look at some files.
type blind struct {
	system.FileReader
	part string
}

func (b blind) Stat(name string) (system.Info, error) {
	if strings.Contains(name, b.part) {
		return system.Info{}, &os.PathError{Op: "stat", Path: name, Err: unix.EMFILE}
	}
	return b.FileReader.Stat(name)
}

func (b blind) ReadFile(name string) ([]byte, error) {
	if strings.Contains(name, b.part) {
		return nil, &os.PathError{Op: "open", Path: name, Err: unix.EMFILE}
	}
	return b.FileReader.ReadFile(name)
}

func TestALookThatFailsMakesAFactUnknownAndNotAbsent(t *testing.T) {
	for part, want := range map[string]string{
		"os-release": target.Family, "/usr/bin/dnf": target.PackageManager, "mate-session": target.Desktop, "gnome-shell": target.Desktop,
		"pcoip-agent": target.Streaming, "/etc/wsp": target.Streaming, "dcvserver.service": target.Streaming, "nsswitch": target.Directory, "sssd.conf": target.Directory,
	} {
		s := machineWith(t, map[string]string{"etc/os-release": amazonLinux, "etc/nsswitch.conf": "passwd: sss\n"})
		s.FS.FileReader = blind{s.FS.FileReader, part}
		f, err := facts.Gather(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		got := values(f)
		if got[want] != "" {
			t.Errorf("%s cannot be looked at, and %s is %q", part, want, got[want])
		}
		if f.Of(want).From == "" {
			t.Errorf("%s: nothing says why %s is not known", part, want)
		}
		if _, known := f.Target()[want]; known {
			t.Errorf("%s: %s counts as known", part, want)
		}
	}
}

func TestEachFactSaysWhereItComesFrom(t *testing.T) {
	f, err := facts.Gather(context.Background(), machineWith(t, map[string]string{"etc/os-release": amazonLinux}))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range facts.Names() {
		if f.Of(name).From == "" {
			t.Errorf("nothing says where %s comes from", name)
		}
	}
	if extra := slices.DeleteFunc(slices.Collect(maps.Keys(f.Kind)), func(name string) bool { return slices.Contains(facts.Names(), name) }); len(extra) > 0 {
		t.Errorf("%q have no place among the facts", extra)
	}
}

func machineWith(t *testing.T, files map[string]string) *system.System {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhatAMachineIsHoldsForOneBoot(t *testing.T) {
	files := map[string]string{"etc/os-release": "ID=rocky\n", "proc/sys/kernel/random/boot_id": "one\n", "etc/machine-id": "0123456789abcdef0123456789abcdef\n", "usr/bin/mate-session": "", "run/soe-agent/x": ""}
	s := machineWith(t, files)
	root := s.Root
	s.Root = "/" // a running machine, below the same door
	gather := func() facts.Facts {
		t.Helper()
		f, err := facts.Gather(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Remember(s); err != nil {
			t.Fatal(err)
		}
		return f
	}
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := values(gather()); got["desktop"] != "mate" || got["streaming"] != "none" {
		t.Fatalf("%v", got)
	}
	write("usr/bin/gnome-shell", "")
	if err := os.Remove(filepath.Join(root, "usr/bin/mate-session")); err != nil {
		t.Fatal(err)
	}
	write("usr/bin/dcv", "")
	if got := values(gather()); got["desktop"] != "mate" || got["streaming"] != "dcv" {
		t.Errorf("in the same boot it is another desktop, or what came is not seen: %v", got)
	}
	s.FS.FileReader = blind{s.FS.FileReader, "mate-session"}
	if got := values(gather()); got["desktop"] != "mate" {
		t.Errorf("what was found in this boot is not known when it cannot be looked at: %v", got)
	}
	write("proc/sys/kernel/random/boot_id", "two\n")
	s.FS.FileReader = s.FS.FileReader.(blind).FileReader
	if got := values(gather()); got["desktop"] != "gnome" {
		t.Errorf("after a boot it is not looked at anew: %v", got)
	}
	write("run/soe-agent/facts.json", "{")
	if got := values(gather()); got["desktop"] != "gnome" {
		t.Errorf("garbage in the place of what was remembered: %v", got)
	}
}
