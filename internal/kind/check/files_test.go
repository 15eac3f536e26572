package check_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/check"
	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/system"
)

const fileSearches = `
[checks]
world-writable = { find = "world-writable", except = ["/opt/*"], every = "12h" }
unowned        = { find = "unowned", every = "12h" }
set-id         = { find = "set-id", except = ["/usr/bin/listed"], every = "12h" }
dot-files      = { find = "dot-files", every = "12h" }
altered-files  = { find = "altered-files", except = ["/usr/share/x*"], every = "12h" }
[files."/etc/kept"]
mode = "at most 0600"
`

// A place is a machine of which the files are searched, and what rpm and getent say there.
type place struct {
	root string
	now  time.Time
	runs []string
	rpm  func(args []string) system.Output
	kind *check.Kind
}

func (p *place) Now() time.Time { return p.now }

func (p *place) Sleep(context.Context, time.Duration) error { panic("nobody sleeps here") }

func (p *place) Run(_ context.Context, c system.Command) (system.Output, error) {
	p.runs = append(p.runs, c.String())
	switch {
	case c.Argv[0] == "getent" && c.Argv[1] == "passwd" && c.Argv[len(c.Argv)-1] == "5001":
		return system.Output{Stdout: []byte("far:*:5001:5001::/home/far:/bin/sh\n")}, nil
	case c.Argv[0] == "getent":
		return system.Output{ExitCode: 2}, nil
	case c.Argv[0] == "rpm" && p.rpm != nil:
		return p.rpm(c.Argv[1:]), nil
	}
	return system.Output{}, system.ErrNotInstalled
}

// rpm answers for two packages.
func rpm(args []string) system.Output {
	switch args[0] {
	case "-qa":
		return system.Output{Stdout: []byte("two-1-1.noarch\ngpg-pubkey-1-2.(none)\none-1-1.noarch\n")}
	case "-V":
		return system.Output{ExitCode: 1, Stdout: []byte("S.5....T.    /usr/bin/one\nS.5....T.  c /etc/content\n.M....G..  c /etc/modes\n.M.......    /etc/kept\nmissing     /usr/bin/two\nmissing   c /etc/gone\n.......T.    /usr/lib/time\n" +
			"..5......  g /var/ghost\nS.5.....  d /usr/share/x/doc\n..?......    /usr/bin/unreadable\n........P    /usr/bin/ping\n")}
	}
	return system.Output{Stdout: []byte("104755 /bin/brought\n100755 /usr/bin/changed\nfile /usr/bin/alien is not owned by any package\n")}
}

func newPlace(t *testing.T, files map[string]string) *place {
	t.Helper()
	all := tidy()
	for name, content := range files {
		all[name] = content
	}
	return &place{root: kindtest.Root(t, all), now: time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC), rpm: rpm}
}

func (p *place) set(t *testing.T, name string, mode fs.FileMode, uid, gid int) {
	t.Helper()
	full := filepath.Join(p.root, name)
	if err := os.Lchown(full, uid, gid); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(full, mode); err != nil {
		t.Fatal(err)
	}
}

// search makes one pass, as a start of the agent with that policy does.
func (p *place) search(t *testing.T, toml string, look system.Looker) map[string]converge.Resource {
	t.Helper()
	s := kindtest.Open(t, system.Options{Root: p.root, Look: look})
	s.Clock, s.Runner = p, p
	ledger := kindtest.LedgerIn(t, s.FS)
	p.kind = check.New(kindtest.Policy(t, toml), s, ledger)
	found := map[string]converge.Resource{}
	for _, r := range kindtest.Check(t, p.kind) {
		found[r.ID.Name()] = r
	}
	if err := ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestEachSearchOfFilesNamesWhatItFindsAndPassesOverWhatIsExcepted(t *testing.T) {
	p := newPlace(t, map[string]string{
		"srv/open": "x", "srv/drop/": "", "srv/fine/": "", "opt/open": "x", "srv/lost": "x", "srv/far": "x", "srv/sub": "x",
		"usr/bin/brought": "x", "usr/bin/changed": "x", "usr/bin/alien": "x", "usr/bin/listed": "x", "home/ann/own": "x",
		"home/ann/.rhosts": "x", "home/ann/.netrc": "x", "home/ann/.profile": "x", "home/ann/.fine": "x", "home/ann/.theirs": "x", "home/ann/sub/.rhosts": "x",
		"srv/a; b\nhas the mode": "x", "etc/subuid": "ann:100000:65536\n", "etc/subgid": "ann:100000:65536\n", "srv/link": "-> open",
	})
	ownsHome(t, p.root, "home/ann", 1000, 0o750)
	for name, mode := range map[string]fs.FileMode{
		"srv/open": 0o666, "srv/drop": 0o777, "srv/fine": 0o777 | fs.ModeSticky, "opt/open": 0o666, "srv/a; b\nhas the mode": 0o666,
		"usr/bin/brought": 0o755 | fs.ModeSetuid, "usr/bin/changed": 0o755 | fs.ModeSetuid, "usr/bin/alien": 0o755 | fs.ModeSetgid, "usr/bin/listed": 0o755 | fs.ModeSetuid,
	} {
		p.set(t, name, mode, 0, 0)
	}
	p.set(t, "srv/lost", 0o600, 5000, 1000)
	p.set(t, "srv/far", 0o600, 5001, 5001)
	p.set(t, "srv/sub", 0o600, 100007, 100007)
	for name, mode := range map[string]fs.FileMode{"own": 0o755 | fs.ModeSetuid, ".rhosts": 0o600, ".netrc": 0o640, ".profile": 0o664, ".fine": 0o644} {
		p.set(t, "home/ann/"+name, mode, 1000, 1000)
	}
	p.set(t, "home/ann/.theirs", 0o600, 1001, 1000)
	found := p.search(t, fileSearches, nil)
	for name, want := range map[string]string{
		"world-writable": `3 found: "/srv/a; b\nhas the mode" may be written by everybody; /srv/drop is a directory in which everybody may replace files; /srv/open may be written by everybody`,
		"unowned":        "2 found: /srv/far has the gid 5001, which has no name; /srv/lost has the uid 5000, which has no name",
		"set-id":         "3 found: /usr/bin/alien has the mode 2755, and no package brought it so; /usr/bin/changed has the mode 4755, and no package brought it so; /home/ann/own has the mode 4755 and belongs to the uid 1000",
		"dot-files":      "4 found: /home/ann/.netrc holds passwords and has the mode 0640, and 0600 is the most; /home/ann/.profile may be written by others than its owner: it has the mode 0664; /home/ann/.rhosts lets others in, or sends mail away; /home/ann/.theirs belongs to the uid 1001, and the home to the uid 1000",
		"altered-files":  "5 found: /usr/bin/one differs from its package: content; /etc/modes differs from its package: mode, group; /usr/bin/two is missing; /usr/bin/unreadable could not be read; /usr/bin/ping differs from its package: capabilities",
	} {
		r := found[name]
		if r.State != converge.Failed || sortedFindings(r.Reason) != sortedFindings("the check does not hold: "+want) {
			t.Errorf("%s is %s:\n%s\nwant\n%s", name, r.State, r.Reason, want)
		}
		if shown := r.Public().Reason; strings.Contains(shown, "/srv") || strings.Contains(shown, "/usr") || strings.Contains(shown, "/home") || !strings.Contains(shown, " found") {
			t.Errorf("everybody reads of %s: %s", name, shown)
		}
	}
}

func sortedFindings(text string) string {
	parts := strings.Split(text, "; /")
	for i := range parts {
		for j := i; j > 0 && parts[j] < parts[j-1] && j > 1; j-- {
			parts[j], parts[j-1] = parts[j-1], parts[j]
		}
	}
	return strings.Join(parts, "; /")
}

func TestASearchOfFilesThatDoesNotEndIsUnknownAndGoesOnWhereItWas(t *testing.T) {
	p := newPlace(t, map[string]string{"a/1": "x", "b/\xff/2": "x", "c/3": "x"})
	p.set(t, "c/3", 0o666, 0, 0)
	const toml = "[checks]\nw = { find = \"world-writable\", every = \"12h\", timeout = \"20ms\" }\n"
	slow, looked := true, map[string]int{}
	look := func(l system.Look) error {
		if l.Op == "stat" {
			looked[l.Target]++
		}
		if slow && l.Op == "list" && strings.HasPrefix(l.Target, "/b/") {
			time.Sleep(40 * time.Millisecond)
		}
		return nil
	}
	began := p.now
	r := p.search(t, toml, look)["w"]
	if r.State != converge.Unknown || !strings.HasPrefix(r.Reason, "cannot tell: the search did not end within 20ms, and is continued: it has come to ") {
		t.Fatalf("it is %s: %s", r.State, r.Reason)
	}
	if shown := r.Public().Reason; strings.Contains(shown, "come to") || !strings.Contains(shown, "did not end") {
		t.Errorf("everybody reads %s", shown)
	}
	slow = false
	for r.State == converge.Unknown && p.now.Before(began.Add(23*time.Hour)) {
		if next := p.kind.NextLook(); next.After(p.now.Add(10 * time.Minute)) {
			t.Fatalf("it goes on only at %s", next)
		}
		p.now = p.now.Add(10 * time.Minute)
		r = p.search(t, toml, look)["w"]
	}
	if r.State != converge.Failed || !strings.HasSuffix(r.Reason, "1 found: /c/3 may be written by everybody") || !r.AsOf.Equal(began) {
		t.Errorf("it is %s as of %s: %s", r.State, r.AsOf, r.Reason)
	}
	for name, times := range looked {
		if times > 1 && (name == "/a/1" || strings.HasSuffix(name, "/2")) {
			t.Errorf("%s was looked at %d times", name, times)
		}
	}
	before := len(looked)
	p.now = p.now.Add(time.Hour)
	if again := p.search(t, toml, look)["w"]; again.State != converge.Failed || len(looked) != before {
		t.Error("it looks again before its time")
	}
}

// Somebody's own files are no curtain for root's, and a name says no more than one row.
func TestNobodyHidesWhatIsFoundBehindThousandsOfHisOwnFiles(t *testing.T) {
	p := newPlace(t, map[string]string{"zz": "x"})
	p.set(t, "zz", 0o666, 0, 0)
	for i := range 300 {
		name := fmt.Sprintf("home/ann/%03d\x1b[31m; /etc/shadow %s", i, strings.Repeat("long", 40))
		kindtest.Put(t, p.root, name, "x")
		p.set(t, name, 0o666, 1000, 1000)
	}
	r := p.search(t, fileSearches, nil)["world-writable"]
	if !strings.HasPrefix(r.Reason, "the check does not hold: 301 found: /zz may be written by everybody; \"/home/ann/000\\x1b[31m; ") || !strings.HasSuffix(r.Reason, "; and 281 more") || len(r.Reason) > 20*300 || strings.Contains(r.Reason, "\x1b") {
		t.Errorf("%d bytes: %.600q", len(r.Reason), r.Reason)
	}
}

// A name is no answer of rpm's.
func TestASetIDProgramIsOfNoPackageBecauseItsNameSaysSo(t *testing.T) {
	const name = "srv/x\n104755 /srv/evil"
	p := newPlace(t, map[string]string{name: "x", "srv/evil": "x"})
	p.rpm = func(args []string) system.Output {
		var out strings.Builder
		for _, arg := range args[3:] {
			fmt.Fprintf(&out, "file %s is not owned by any package\n", arg)
		}
		return system.Output{ExitCode: 2, Stdout: []byte(out.String())}
	}
	p.set(t, name, 0o755|fs.ModeSetuid, 0, 0)
	p.set(t, "srv/evil", 0o755|fs.ModeSetuid, 0, 0)
	r := p.search(t, "[checks]\ns = { find = \"set-id\", every = \"12h\" }\n", nil)["s"]
	if !strings.Contains(r.Reason, "2 found") {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
}

func TestWithoutRPMEverySetIDProgramThatIsNotExceptedIsNamedAndNothingIsSaidOfPackages(t *testing.T) {
	p := newPlace(t, map[string]string{"usr/bin/brought": "x"})
	p.rpm = nil
	p.set(t, "usr/bin/brought", 0o755|fs.ModeSetuid, 0, 0)
	found := p.search(t, fileSearches, nil)
	if r := found["set-id"]; r.State != converge.Failed || !strings.Contains(r.Reason, "/usr/bin/brought") {
		t.Errorf("set-id is %s: %s", r.State, r.Reason)
	}
	if r := found["altered-files"]; r.State != converge.Unknown {
		t.Errorf("altered-files is %s: %s", r.State, r.Reason)
	}
}

func TestNoFileIsSearchedByALookThatFailed(t *testing.T) {
	for _, untidy := range []bool{false, true} {
		faultwalk.Walk(t, "check", faultwalk.Scene{
			Name: fmt.Sprintf("files, untidy: %v", untidy),
			Build: func(t *testing.T, look system.Looker) faultwalk.Machine {
				p := newPlace(t, map[string]string{"srv/x": "x", "usr/bin/brought": "x"})
				ownsHome(t, p.root, "home/ann", 1000, 0o750)
				p.set(t, "usr/bin/brought", 0o755|fs.ModeSetuid, 0, 0)
				if p.rpm = rpm; !untidy {
					p.rpm = func(args []string) system.Output {
						if args[0] == "-V" {
							return system.Output{}
						}
						return rpm(args)
					}
				} else {
					p.set(t, "srv/x", 0o666, 77, 77)
				}
				s := kindtest.Open(t, system.Options{Root: p.root, Look: look})
				s.Clock, s.Runner = p, faultwalk.Runner(p, look)
				policy := kindtest.Policy(t, fileSearches)
				ledger := kindtest.Ledger(t, p.root)
				k := check.New(policy, s, ledger)
				return faultwalk.Machine{Kind: k, Root: p.root, Engine: kindtest.Engine(policy, k, ledger, s.Clock)}
			},
			Believes: func(command string, _ system.Output) bool { return command == "rpm" }, // it is asked for its answer
		})
	}
}
