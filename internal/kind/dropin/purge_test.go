package dropin

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// purging is a policy that owns directories, and names files as well.
func purging(dropins map[string]policy.Dropin, dirs ...string) *policy.Policy {
	p := files(dropins)
	for _, dir := range dirs {
		p.Resources = append(p.Resources, policy.Resource{ID: policy.NewID("dropin", dir), Spec: policy.Directory{Purge: true}})
	}
	slices.SortFunc(p.Resources, func(a, b policy.Resource) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return p
}

// dpkgOwning answers as dpkg-query does on a machine whose packages hold these
// files, and itself.
func dpkgOwning(owned ...string) func(system.Command) (system.Output, error) {
	unquote := strings.NewReplacer(`\\`, `\`, `\*`, "*", `\?`, "?", `\[`, "[")
	return func(c system.Command) (system.Output, error) {
		if c.Argv[0] != "dpkg-query" {
			return system.Output{}, system.ErrNotInstalled
		}
		var out system.Output
		for _, pattern := range c.Argv[3:] {
			if name := unquote.Replace(pattern); name == "/usr/bin/dpkg-query" || slices.Contains(owned, name) {
				out.Stdout = append(out.Stdout, "some-package: "+name+"\n"...)
				continue
			}
			out.ExitCode = 1
			out.Stderr = append(out.Stderr, "dpkg-query: no path found matching pattern "+pattern+"\n"...)
		}
		return out, nil
	}
}

func names(t *testing.T, root, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil {
		t.Fatal(err)
	}
	var bases []string
	for _, entry := range entries {
		bases = append(bases, entry.Name())
	}
	return bases
}

func TestWhatNobodyNamesGoesFromADirectoryThatThePolicyOwnsAndTakesEffect(t *testing.T) {
	const dir = "/etc/sysctl.d"
	strays := []string{"stray.conf", "with \"quotes\" and 'blanks'.conf", `*?[a]\.conf`, "no-drop-in"}
	m := &running{root: machine(t, map[string]string{
		dir + "/package.conf": "# theirs\n", dir + "/.hidden.conf": "",
		dir + "/dir.conf/a": "", "/var/lib/dpkg/status": "", "/etc/other.d/a": "",
	}), reads: dpkgOwning(dir + "/package.conf")}
	for _, base := range strays {
		kindtest.Put(t, m.root, dir+"/"+base, "a.b = 1\n")
	}
	if err := os.Symlink("/dev/null", filepath.Join(m.root, dir, "link.conf")); err != nil {
		t.Fatal(err)
	}
	m.sysctl("a/b", "1")
	kindtest.Put(t, m.root, "/usr/lib/sysctl.d/50.conf", "a.b = 7\n")
	p := purging(map[string]policy.Dropin{dir + "/named.conf": {Content: "# ours\n"}}, dir)

	want := map[policy.ID]converge.State{"dropin" + dir: converge.Compliant, "dropin" + dir + "/named.conf": converge.Corrected, "dropin" + dir + "/link.conf": converge.Corrected}
	for _, base := range strays {
		want[policy.NewID("dropin", dir+"/"+base)] = converge.Corrected
	}
	wants(t, m.pass(t, p), want)
	if diff := cmp.Diff([]string{".hidden.conf", "dir.conf", "named.conf", "package.conf"}, names(t, m.root, dir)); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
	if got := kindtest.Read(t, m.root, "/proc/sys/a/b"); got != "7\n" {
		t.Errorf("the kernel has %s", got)
	}
	if backups := names(t, m.root, "/var/lib/soe-agent/backups"); len(backups) != len(strays)+1 {
		t.Errorf("%d files were kept, want %d", len(backups), len(strays)+1)
	}
	m.gate = func(c system.Change) error { t.Errorf("the next pass does %v", c); return nil }
	wants(t, m.pass(t, p), map[policy.ID]converge.State{"dropin" + dir: converge.Compliant, "dropin" + dir + "/named.conf": converge.Compliant})
}

// What stays in a directory in which nothing may be is said: the directory is not compliant then.
func TestADirectoryThatThePolicyOwnsIsNotCompliantWithWhatCannotGo(t *testing.T) {
	const dir = "/etc/sysctl.d"
	m := &running{root: machine(t, map[string]string{dir + "/with\na-line-break.conf": "", dir + "/stray.conf": "", "/var/lib/dpkg/status": ""}), reads: dpkgOwning()}
	if err := unix.Mkfifo(filepath.Join(m.root, dir, "pipe.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.sysctl("a/b", "1")
	for range 2 {
		resources := m.pass(t, purging(nil, dir))
		for id, said := range map[policy.ID]struct {
			state converge.State
			why   string
		}{
			"dropin" + dir:                {converge.Unknown, `with\na-line-break.conf" belongs to a package`},
			"dropin" + dir + "/pipe.conf": {converge.Failed, "remove it by hand"},
		} {
			got := resources[id]
			if got.State != said.state || !strings.Contains(got.Reason, said.why) {
				t.Errorf("%s: %+v", id, resources)
			}
		}
	}
	if diff := cmp.Diff([]string{"pipe.conf", "with\na-line-break.conf"}, names(t, m.root, dir)); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
}

func TestWhileNobodyCanTellWhatBelongsToPackagesNothingIsPurged(t *testing.T) {
	const stray = "/etc/modprobe.d/stray.conf"
	says := func(out system.Output, err error) func(system.Command) (system.Output, error) {
		return func(system.Command) (system.Output, error) { return out, err }
	}
	unowned := []byte("file /usr/bin/rpmkeys is not owned by any package\nfile " + stray + " is not owned by any package\n")
	known := []byte("rpm-4.11.3-48.amzn2.x86_64\nfile " + stray + " is not owned by any package\n")
	for what, test := range map[string]struct {
		database string
		reads    func(system.Command) (system.Output, error)
		want     string // "" when the file goes
	}{
		"there is no database":          {"/etc/none", nil, "no database"},
		"the query is not there":        {"/var/lib/rpm/Packages", says(system.Output{}, system.ErrNotInstalled), "no database"},
		"the query does not answer":     {"/var/lib/rpm/Packages", says(system.Output{}, os.ErrDeadlineExceeded), "timeout"},
		"the database is broken":        {"/var/lib/rpm/Packages", says(system.Output{Stdout: known, Stderr: []byte("error: cannot open Packages database\n")}, nil), "cannot open Packages"},
		"the database is empty":         {"/var/lib/rpm/Packages", says(system.Output{Stdout: unowned, ExitCode: 2}, nil), "no database"},
		"the query says something else": {"/var/lib/dpkg/status", says(system.Output{Stderr: []byte("dpkg-query: error: parsing file\n"), ExitCode: 2}, nil), "parsing file"},
		"the query says nothing":        {"/var/lib/rpm/Packages", says(system.Output{}, nil), "did not say of all files"},
		"the query says half of it":     {"/var/lib/rpm/Packages", says(system.Output{Stdout: known[:bytes.IndexByte(known, '\n')+1], ExitCode: 1}, nil), "did not say of all files"},
		"all is well":                   {"/var/lib/rpm/Packages", says(system.Output{Stdout: known, ExitCode: 1}, nil), ""},
	} {
		m := &running{root: machine(t, map[string]string{stray: "x\n", test.database: ""}), reads: test.reads}
		r := m.pass(t, purging(nil, "/etc/modprobe.d"))["dropin/etc/modprobe.d"]
		_, err := os.Lstat(filepath.Join(m.root, stray))
		if gone := os.IsNotExist(err); gone != (test.want == "") {
			t.Errorf("%s: gone: %v", what, gone)
		}
		if test.want != "" && (r.State != converge.Unknown || !strings.Contains(r.Reason, "packages: ") || !strings.Contains(r.Reason, test.want)) {
			t.Errorf("%s: it is %s: %s", what, r.State, r.Reason)
		}
	}
}

func TestADirectoryThatIsNotThereIsPurgedAlready(t *testing.T) {
	m := &running{root: machine(t, nil)}
	wants(t, m.pass(t, purging(nil, "/etc/none.d")), map[policy.ID]converge.State{"dropin/etc/none.d": converge.Compliant})
}

func TestWhatAnEarlierPolicyBroughtIsGivenBackAlsoInADirectoryThatIsPurged(t *testing.T) {
	const name = "/etc/modprobe.d/a.conf"
	m := &running{root: machine(t, map[string]string{name: "theirs\n", "/var/lib/dpkg/status": ""}), reads: dpkgOwning(name)}
	m.pass(t, purging(map[string]policy.Dropin{name: {Content: "ours\n"}}, "/etc/modprobe.d"))
	m.pass(t, purging(nil, "/etc/modprobe.d"))
	if got := kindtest.Read(t, m.root, name); got != "theirs\n" {
		t.Errorf("the package's file holds %q", got)
	}
}

func TestWhatIsPurgedAndFailsToTakeEffectIsTriedAgain(t *testing.T) {
	const stray = "/etc/ld.so.conf.d/stray.conf"
	m := &running{
		root: machine(t, map[string]string{stray: "/tmp\n", "/var/lib/dpkg/status": ""}), reads: dpkgOwning(),
		fails: map[string]string{"ldconfig": "no space left"},
	}
	p := purging(nil, "/etc/ld.so.conf.d")
	for range 2 {
		wants(t, m.pass(t, p), map[policy.ID]converge.State{"dropin/etc/ld.so.conf.d": converge.Compliant, "dropin" + stray: converge.Failed})
	}
	m.fails = nil
	wants(t, m.pass(t, p), map[policy.ID]converge.State{"dropin/etc/ld.so.conf.d": converge.Compliant, "dropin" + stray: converge.Corrected})
	wants(t, m.pass(t, p), map[policy.ID]converge.State{"dropin/etc/ld.so.conf.d": converge.Compliant})
}

// Of a policy that the agent has kept, which may be older than the agent.
func TestInADirectoryThatThePolicyOwnsStaysWhatIsNotItsToTake(t *testing.T) {
	for what, test := range map[string]struct {
		name  string
		stays bool
	}{
		"a stray":               {name: "/etc/modprobe.d/stray.conf"},
		"what people log in by": {"/etc/krb5.conf.d/stray", true},
		"what a hibernated machine is resumed by": {"/etc/dracut.conf.d/stray.conf", true},
		"a host's key":                                 {"/etc/ssh/ssh_host_rsa_key", true},
		"where a session begins":                       {"/etc/gdm/custom.conf", true},
		"what decides who logs in":                     {"/etc/pam.d/stray", true},
		"a file of the streaming agent":                {"/etc/dcv/stray.conf", true},
		"a hidden file":                                {"/etc/modprobe.d/.stray.conf", true},
		"a file of the policy that waits for a secret": {"/etc/modprobe.d/waits.conf", true},
	} {
		dir := filepath.Dir(test.name)
		m := &running{root: machine(t, map[string]string{test.name: "theirs\n", "/var/lib/dpkg/status": ""}), reads: dpkgOwning()}
		p := purging(map[string]policy.Dropin{"/etc/modprobe.d/waits.conf": {Content: "x\n"}}, dir)
		for i, r := range p.Resources {
			if r.ID == "dropin/etc/modprobe.d/waits.conf" {
				p.Resources[i].Missing = []policy.Reference{{Service: "secretsmanager", Name: "x"}}
			}
		}
		found := m.pass(t, p)
		if _, told := found[policy.NewID("dropin", test.name)]; told && test.stays && !strings.Contains(what, "waits") {
			t.Errorf("%s: the report speaks of it: %v", what, found)
		}
		_, err := os.Lstat(filepath.Join(m.root, test.name))
		if stays := err == nil; stays != test.stays {
			t.Errorf("%s: it stays: %v, %v", what, stays, found)
		}
		// And if an earlier agent has brought it, it is not taken back either.
		if !test.stays || strings.Contains(what, "waits") || strings.Contains(what, "hidden") {
			continue
		}
		ledger := kindtest.Ledger(t, m.root)
		ledger.Own(policy.NewID("dropin", test.name))
		if err := ledger.Flush(); err != nil {
			t.Fatal(err)
		}
		for _, p := range []*policy.Policy{files(nil), purging(nil, dir)} {
			found := m.pass(t, p)
			if r, told := found[policy.NewID("dropin", test.name)]; told || kindtest.Read(t, m.root, test.name) != "theirs\n" {
				t.Errorf("%s: a file of the agent's is %s: %s", what, r.State, r.Reason)
			}
		}
	}
}

func TestADirectoryThatThePolicyOnlyNamesLosesNothing(t *testing.T) {
	const stray = "/etc/modprobe.d/stray.conf"
	m := &running{root: machine(t, map[string]string{stray: "x\n", "/var/lib/dpkg/status": ""}), reads: dpkgOwning()}
	m.pass(t, &policy.Policy{Resources: []policy.Resource{{ID: "dropin/etc/modprobe.d", Spec: policy.Directory{}}}})
	if got := kindtest.Read(t, m.root, stray); got != "x\n" {
		t.Errorf("it holds %q", got)
	}
}
