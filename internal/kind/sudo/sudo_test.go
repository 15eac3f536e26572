package sudo

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

// directory stands for the name service, and for a visudo that finds no fault
// but with the word "broken". The real ones are asked in boxes.
type directory struct {
	users  map[string]string // name or uid → line of passwd
	groups map[string]string // name or gid → line of group
	member map[string]string // user → groups
}

func (d directory) Run(_ context.Context, c system.Command) (system.Output, error) {
	key := c.Argv[len(c.Argv)-1]
	answer := func(line string, found bool) (system.Output, error) {
		if !found {
			return system.Output{ExitCode: 2}, nil
		}
		return system.Output{Stdout: []byte(line + "\n")}, nil
	}
	switch c.Argv[0] {
	case "visudo":
		for i, line := range strings.Split(string(c.Stdin), "\n") {
			if strings.HasPrefix(line, "Defaults broken") {
				return system.Output{ExitCode: 1, Stderr: fmt.Appendf(nil, ">>> stdin: syntax error near line %d <<<", i+1)}, nil
			}
		}
		return system.Output{}, nil
	case "getent":
		if c.Argv[1] == "passwd" {
			line, found := d.users[key]
			return answer(line, found)
		}
		line, found := d.groups[key]
		return answer(line, found)
	case "id":
		return system.Output{Stdout: []byte(strings.ReplaceAll(d.member[key], ",", "\x00"))}, nil
	}
	return system.Output{}, system.ErrNotInstalled
}

func people() directory {
	alice, bob := "alice:x:1001:1001::/home/alice:/bin/sh", "bob:x:1000:1000::/home/bob:/bin/sh"
	return directory{
		users:  map[string]string{"alice": alice, "1001": alice, "bob": bob, "1000": bob},
		groups: map[string]string{"admins": "admins:x:500:alice", "500": "admins:x:500:alice", "empty": "empty:x:501:", "wheel": "wheel:x:10:bob"},
		member: map[string]string{"alice": "alice,admins", "bob": "bob,wheel"},
	}
}

const mainFile = "Defaults env_reset\nroot ALL=(ALL) ALL\n%wheel ALL=(ALL) ALL\n#includedir /etc/sudoers.d\n"

func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	all := map[string]string{
		"/usr/bin/sudo": "", "/etc/sudoers": mainFile,
		"/etc/passwd": "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n",
		"/etc/group":  "root:x:0:\nwheel:x:10:bob\nadmins:x:500:alice\nempty:x:501:\n",
	}
	for name, content := range files {
		all[name] = content
	}
	for _, dir := range []string{"/etc/sudoers.d", "/etc/polkit-1/rules.d", "/home"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range all {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o440); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func pass(t *testing.T, root string, allow []string, gate system.Gate) (sudo, polkit converge.Resource) {
	t.Helper()
	s, err := system.Open(system.Options{Root: root, Gate: gate})
	if err != nil {
		t.Fatal(err)
	}
	s.Runner = people()
	state, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := converge.OpenLedger(state.FS, "/var/lib/soe-agent", facts.Identity{MachineID: "machine"})
	if err != nil {
		t.Fatal(err)
	}
	p := &policy.Policy{Resources: []policy.Resource{{ID: "sudo/allow", Spec: policy.Sudo{Allow: allow}}}}
	result := converge.New(p, []converge.Kind{New(p, s)}, ledger, s.Clock, slog.New(slog.DiscardHandler)).Pass(t.Context())
	if len(result.Resources) != 2 {
		t.Fatalf("got %+v", result.Resources)
	}
	return result.Resources[0], result.Resources[1]
}

func read(t *testing.T, root, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestOnlyGrantsToTheAllowedAreLeft(t *testing.T) {
	for name, test := range map[string]struct{ before, after string }{
		"the user's own file":             {"#1000 ALL=(ALL:ALL) ALL\n", mark + "#1000 ALL=(ALL:ALL) ALL\n"},
		"an allowed one by uid":           {"#1001 ALL=(ALL) NOPASSWD: ALL\n", "#1001 ALL=(ALL) NOPASSWD: ALL\n"},
		"an allowed group by gid":         {"%#500 ALL=(ALL) NOPASSWD: ALL\n", "%#500 ALL=(ALL) NOPASSWD: ALL\n"},
		"a member of an allowed group":    {"alice ALL=(ALL) NOPASSWD: ALL\n", "alice ALL=(ALL) NOPASSWD: ALL\n"},
		"everybody":                       {"ALL ALL=NOPASSWD: /bin/mount\n", mark + "ALL ALL=NOPASSWD: /bin/mount\n"},
		"a list with one who is not":      {"alice, bob ALL=ALL\n", mark + "alice, bob ALL=ALL\n"},
		"an alias with one who is not":    {"User_Alias A = alice, bob\nA ALL=ALL\n", "User_Alias A = alice, bob\n" + mark + "A ALL=ALL\n"},
		"an alias of the allowed":         {"User_Alias A = alice, %admins\nA ALL=ALL\n", "User_Alias A = alice, %admins\nA ALL=ALL\n"},
		"an alias of all but one":         {"User_Alias A = !alice\nA ALL=ALL\n", "User_Alias A = !alice\n" + mark + "A ALL=ALL\n"},
		"a netgroup":                      {"+ops ALL=ALL\n", mark + "+ops ALL=ALL\n"},
		"a denial for everybody":          {"ALL ALL=(ALL) !/bin/su, !/bin/sh\n", "ALL ALL=(ALL) !/bin/su, !/bin/sh\n"},
		"a denial that is none":           {"ALL ALL=!!/bin/su\n", mark + "ALL ALL=!!/bin/su\n"},
		"defaults and comments":           {"# bob\nDefaults:bob !lecture\n", "# bob\nDefaults:bob !lecture\n"},
		"a continued grant and a comment": {"# x \\\nbob ALL = \\\n ALL\n%admins ALL=ALL", "# x \\\n" + mark + "bob ALL = \\\n" + mark + " ALL\n%admins ALL=ALL"},
	} {
		t.Run(name, func(t *testing.T) {
			root := machine(t, map[string]string{"/etc/sudoers.d/50-x": test.before})
			if r, _ := pass(t, root, []string{"root", "%admins"}, nil); r.State != converge.Corrected {
				t.Errorf("it is %s: %s", r.State, r.Reason)
			}
			if got := read(t, root, "/etc/sudoers.d/50-x"); got != test.after {
				t.Errorf("got\n%s\nwant\n%s", got, test.after)
			}
			recorder := &system.Recorder{}
			if r, polkit := pass(t, root, []string{"root", "%admins"}, recorder.Gate); r.State != converge.Compliant || polkit.State != converge.Compliant {
				t.Errorf("the second time it is %s: %s %v", r.State, r.Reason, r.Diff)
			}
			if changes := recorder.Changes(); len(changes) > 0 {
				t.Errorf("the second pass changed something: %v", changes)
			}
		})
	}
}

func TestAFileThatSortsLastCannotIncludeAnother(t *testing.T) {
	root := machine(t, map[string]string{"/etc/sudoers.d/zzz": "#include /opt/x\n", "/opt/x": "bob ALL=ALL\n", "/etc/sudoers.d/x.bak": "bob ALL=ALL\n"})
	if r, _ := pass(t, root, []string{"%admins"}, nil); r.State != converge.Corrected {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	if got := read(t, root, "/etc/sudoers.d/zzz"); got != mark+"#include /opt/x\n" {
		t.Errorf("got %s", got)
	}
	if got := read(t, root, "/etc/sudoers.d/x.bak"); got != "bob ALL=ALL\n" {
		t.Errorf("a file that sudo skips was changed: %s", got)
	}
}

func TestNothingIsChangedWhenNobodyCouldAdminister(t *testing.T) {
	for _, allow := range [][]string{{"root", `%EXAMPLE\Admins`}, {"nobody-knows"}, {"%empty"}} {
		root := machine(t, map[string]string{"/etc/sudoers.d/50-x": "bob ALL=ALL\n"})
		recorder := &system.Recorder{}
		r, polkit := pass(t, root, allow, recorder.Gate)
		for _, r := range []converge.Resource{r, polkit} {
			if r.State != converge.Failed || !strings.Contains(r.Reason, "no administrator") {
				t.Errorf("%v: %s is %s: %s", allow, r.ID, r.State, r.Reason)
			}
		}
		if changes := recorder.Changes(); len(changes) > 0 {
			t.Errorf("%v: it changed something: %v", allow, changes)
		}
	}
}

func TestWhatIsNotTheAgentsToMendIsReported(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"does not include":       {"/etc/sudoers": "root ALL=(ALL) ALL\n"},
		"comes after":            {"/etc/sudoers": mainFile + "%wheel ALL=(ALL) ALL\n"},
		"does not edit":          {"/etc/sudoers": mainFile + "Defaults broken\n"},
		"before the agent's own": {"/usr/share/polkit-1/rules.d/00-a.rules": "polkit.addAdminRule(f)"},
	} {
		root := machine(t, files)
		r, polkit := pass(t, root, []string{"%admins"}, nil)
		if said := r.Reason + polkit.Reason; !strings.Contains(said, want) || (r.State != converge.Failed && polkit.State != converge.Failed) {
			t.Errorf("want %q, got %s: %s / %s: %s", want, r.State, r.Reason, polkit.State, polkit.Reason)
		}
	}
}

func TestAFileThatBreaksSudoBecomesAComment(t *testing.T) {
	root := machine(t, map[string]string{"/etc/sudoers.d/50-x": "Defaults broken\nalice ALL=ALL\n", "/etc/sudoers.d/60-y": "alice ALL=ALL\n"})
	if r, _ := pass(t, root, []string{"%admins"}, nil); r.State != converge.Corrected {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	for _, line := range sudoers.Parse([]byte(read(t, root, "/etc/sudoers.d/50-x"))) {
		if line.Sort != sudoers.Idle {
			t.Errorf("a line is left: %s", line.Text)
		}
	}
	if got := read(t, root, "/etc/sudoers.d/60-y"); got != "alice ALL=ALL\n" {
		t.Errorf("the other file holds %s", got)
	}
}

// administers follows the tree as sudo does, for one subject and everything.
func administers(t *testing.T, s *system.System, subject string) bool {
	t.Helper()
	tree, err := sudoers.Read(s.FS, nil)
	if err != nil {
		t.Fatal(err)
	}
	may := false
	for _, line := range tree.Lines {
		if line.Sort != sudoers.Grant {
			continue
		}
		for _, s := range slices.Backward(line.Users) {
			positive := s
			positive.Negated = false
			if s.Form == sudoers.All || names(positive, subject) {
				if !s.Negated {
					may = !strings.Contains(line.Rest, "!")
				}
				break
			}
		}
	}
	return may
}

func TestNoFaultLeavesTheMachineWithoutAnAdministrator(t *testing.T) {
	before, after := []string{"%admins"}, []string{"alice"}
	for _, fault := range []func(int) system.Gate{system.FailNth, system.FailFrom} {
		for n, hit := 1, true; hit; n++ {
			root := machine(t, map[string]string{"/etc/sudoers.d/01-ws-admin-user": "#1000 ALL=(ALL) ALL\n"})
			pass(t, root, before, nil)
			s, err := system.Open(system.Options{Root: root})
			if err != nil {
				t.Fatal(err)
			}
			hit = false
			gate := fault(n)
			pass(t, root, after, func(c system.Change) error {
				// At every step, and not only where it ends.
				if !administers(t, s, "root") || (!administers(t, s, "%admins") && !administers(t, s, "alice")) {
					t.Fatalf("fault %d: before %s nobody can administer", n, c)
				}
				err := gate(c)
				hit = hit || err != nil
				return err
			})
			if !administers(t, s, "root") || (!administers(t, s, "%admins") && !administers(t, s, "alice")) {
				t.Fatalf("fault %d: nobody can administer", n)
			}
			if r, polkit := pass(t, root, after, nil); !r.State.InLine() || !polkit.State.InLine() {
				t.Fatalf("fault %d: the pass after it leaves %s: %s, and %s: %s", n, r.State, r.Reason, polkit.State, polkit.Reason)
			}
			if !administers(t, s, "alice") || administers(t, s, "%admins") || administers(t, s, "%wheel") {
				t.Fatalf("fault %d: the pass after it does not do what the policy says", n)
			}
		}
	}
}

func TestAGrantOfTheMainFileIsNotRepeated(t *testing.T) {
	root := machine(t, map[string]string{"/etc/sudoers": "root ALL=(ALL) ALL\n%admins ALL=(ALL) NOPASSWD: ALL\n@includedir /etc/sudoers.d\n"})
	pass(t, root, []string{"%admins", "alice"}, nil)
	if got, want := read(t, root, grantsPath), header+"alice ALL = (ALL:ALL) ALL\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPolkitNamesAreQuoted(t *testing.T) {
	if got := string(rules([]string{"root", `%EXAMPLE\Linux "Admins"`})); !strings.Contains(got, `["unix-user:root", "unix-group:EXAMPLE\\Linux \"Admins\""]`) {
		t.Error(got)
	}
	if got := string(authorities([]string{"root", `%EXAMPLE\a;b`})); !strings.Contains(got, `AdminIdentities=unix-user:root;unix-group:EXAMPLE\\a\;b`) {
		t.Error(got)
	}
}
