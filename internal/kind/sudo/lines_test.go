package sudo

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

func TestOnlyGrantsToTheAllowedAreLeft(t *testing.T) {
	for name, test := range map[string]struct{ before, after string }{
		"the user's own file":                  {"#1000 ALL=(ALL:ALL) ALL\n", mark + "#1000 ALL=(ALL:ALL) ALL\n"},
		"an allowed one by uid":                {"#1001 ALL=(ALL) NOPASSWD: ALL\n", "#1001 ALL=(ALL) NOPASSWD: ALL\n"},
		"an allowed group by gid":              {"%#500 ALL=(ALL) NOPASSWD: ALL\n", "%#500 ALL=(ALL) NOPASSWD: ALL\n"},
		"a member of an allowed group":         {"alice ALL=(ALL) NOPASSWD: ALL\n", "alice ALL=(ALL) NOPASSWD: ALL\n"},
		"everybody":                            {"ALL ALL=NOPASSWD: /bin/mount\n", mark + "ALL ALL=NOPASSWD: /bin/mount\n"},
		"a list with one who is not":           {"alice, bob ALL=ALL\n", partly + "alice, bob ALL=ALL\nalice ALL=ALL\n"},
		"an alias with one who is not":         {"User_Alias A = alice, bob\nA ALL=ALL\n", "User_Alias A = alice, bob\n" + partly + "A ALL=ALL\nalice ALL=ALL\n"},
		"an alias in an alias":                 {"User_Alias A = alice, bob : B = A, %admins\nB, bob ALL=ALL\n", "User_Alias A = alice, bob : B = A, %admins\n" + partly + "B, bob ALL=ALL\nalice, %admins ALL=ALL\n"},
		"an alias with a denial in it":         {"User_Alias A = alice, bob, !bob\nA ALL=ALL\n", "User_Alias A = alice, bob, !bob\n" + mark + "A ALL=ALL\n"},
		"a denial of an alias that denies":     {"User_Alias A = !bob : B = A\nalice, !A ALL=ALL\n!B ALL=ALL\n", "User_Alias A = !bob : B = A\n" + mark + "alice, !A ALL=ALL\n" + mark + "!B ALL=ALL\n"},
		"a denial of commands that are denied": {"Cmnd_Alias C = !/bin/sh\nbob ALL=!C\nbob ALL=!/bin/sh\n", "Cmnd_Alias C = !/bin/sh\n" + mark + "bob ALL=!C\nbob ALL=!/bin/sh\n"},
		"several hosts of the allowed":         {"alice h1 = ALL : h2 = (ALL) NOPASSWD: ALL\n", "alice h1 = ALL : h2 = (ALL) NOPASSWD: ALL\n"},
		"several hosts of some":                {"alice, bob h1 = ALL : h2 = ALL\n", partly + "alice, bob h1 = ALL : h2 = ALL\nalice h1 = ALL : h2 = ALL\n"},
		"options of the allowed":               {"alice ALL=(ALL) CWD=/srv ROLE=a_r TYPE=a_t NOTAFTER=20990101000000Z NOPASSWD: ALL\n", "alice ALL=(ALL) CWD=/srv ROLE=a_r TYPE=a_t NOTAFTER=20990101000000Z NOPASSWD: ALL\n"},
		"options of some":                      {"%admins, bob ALL=(ALL) TIMEOUT=2h ALL\n", partly + "%admins, bob ALL=(ALL) TIMEOUT=2h ALL\n%admins ALL=(ALL) TIMEOUT=2h ALL\n"},
		"options of somebody else":             {"bob ALL=(ALL) CWD=/srv ALL\n", mark + "bob ALL=(ALL) CWD=/srv ALL\n"},
		"one of several settings":              {"Defaults env_keep += \"LANG\", !authenticate, insults\n", faulty + "Defaults env_keep += \"LANG\", !authenticate, insults\nDefaults env_keep += \"LANG\", insults\n"},
		"settings over several lines":          {"Defaults insults, \\\n  rootpw, \\\n  passwd_tries=0\n", faulty + "Defaults insults, \\\n" + faulty + "  rootpw, \\\n" + faulty + "  passwd_tries=0\nDefaults insults\n"},
		"all of several settings":              {"Defaults:bob !authenticate, rootpw\n", weak + "Defaults:bob !authenticate, rootpw\n"},
		"a setting for what an alias is":       {"Cmnd_Alias MOST = ALL\nDefaults!MOST noexec\n", "Cmnd_Alias MOST = ALL\n" + refuses + "Defaults!MOST noexec\n"},
		"a setting for one of an alias":        {"User_Alias A = alice, bob, !carol : B = !carol, A\nDefaults:B noexec\n", "User_Alias A = alice, bob, !carol : B = !carol, A\n" + refuses + "Defaults:B noexec\n"},
		"a setting for others of an alias":     {"User_Alias A = bob, !alice\nDefaults:A noexec\n", "User_Alias A = bob, !alice\nDefaults:A noexec\n"},
		"an alias of the allowed":              {"User_Alias A = alice, %admins\nA ALL=ALL\n", "User_Alias A = alice, %admins\nA ALL=ALL\n"},
		"an alias of all but one":              {"User_Alias A = !alice\nA ALL=ALL\n", "User_Alias A = !alice\n" + mark + "A ALL=ALL\n"},
		"a netgroup":                           {"+ops ALL=ALL\n", mark + "+ops ALL=ALL\n"},
		"a denial for everybody":               {"ALL ALL=(ALL) !/bin/su, !/bin/sh\n", "ALL ALL=(ALL) !/bin/su, !/bin/sh\n"},
		"a denial that is none":                {"ALL ALL=!!/bin/su\n", mark + "ALL ALL=!!/bin/su\n"},
		"defaults and comments":                {"# bob\nDefaults:bob !lecture\n", "# bob\nDefaults:bob !lecture\n"},
		"a continued grant and a comment":      {"# x \\\nbob ALL = \\\n ALL\n%admins ALL=ALL", "# x \\\n" + mark + "bob ALL = \\\n" + mark + " ALL\n%admins ALL=ALL"},
	} {
		t.Run(name, func(t *testing.T) {
			root := machine(t, map[string]string{"/etc/sudoers.d/50-x": test.before})
			if r, _ := pass(t, root, []string{"root", "%admins"}, nil); r.State != converge.Corrected {
				t.Errorf("it is %s: %s", r.State, r.Reason)
			}
			if got := kindtest.Read(t, root, "/etc/sudoers.d/50-x"); got != test.after {
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

// sudo reads the directory by whatever name, and so do the agent's files in it count.
func TestADirectoryThatIsIncludedByAnotherNameIsTheSame(t *testing.T) {
	for name, links := range map[string]map[string]string{
		"/etc/drop":           {"/etc/drop": "sudoers.d"},
		"/srv/etc/sudoers.d":  {"/srv": "/"},
		"/etc/a/":             {"/etc/a": "/etc/b", "/etc/b": "../etc/./sudoers.d"},
		"/etc/../etc/drop":    {"/etc/drop": "/etc/sudoers.d/"},
		"/opt/sudoers":        {"/etc/sudoers.d": "/opt/sudoers"},
		"/etc/sudoers.d/../x": {"/etc/x": "/etc/sudoers.d"},
	} {
		t.Run(name, func(t *testing.T) {
			root := machine(t, map[string]string{
				"/etc/sudoers":     "root ALL=(ALL) ALL\n#includedir " + name + "\nbob ALL=(ALL) ALL\n",
				"/opt/sudoers/50x": "bob ALL=(ALL) ALL\n",
			})
			if _, moved := links["/etc/sudoers.d"]; moved {
				if err := os.Remove(filepath.Join(root, "/etc/sudoers.d")); err != nil {
					t.Fatal(err)
				}
			} else if err := os.Rename(filepath.Join(root, "/opt/sudoers/50x"), filepath.Join(root, "/etc/sudoers.d/50x")); err != nil {
				t.Fatal(err)
			}
			for link, target := range links {
				if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
					t.Fatal(err)
				}
			}
			if r, _ := pass(t, root, []string{"root", "%admins"}, nil); r.State != converge.Corrected {
				t.Errorf("it is %s: %s", r.State, r.Reason)
			}
			for file, want := range map[string]string{
				"/etc/sudoers.d/50x": mark + "bob ALL=(ALL) ALL\n",
				"/etc/sudoers":       "root ALL=(ALL) ALL\n#includedir " + name + "\n" + mark + "bob ALL=(ALL) ALL\n",
			} {
				s := kindtest.Open(t, system.Options{Root: root})
				if got, err := s.FS.ReadFile(file); err != nil || string(got) != want {
					t.Errorf("%s holds\n%s%v", file, got, err)
				}
			}
			if r, _ := pass(t, root, []string{"root", "%admins"}, nil); r.State != converge.Compliant {
				t.Errorf("then it is %s: %s", r.State, r.Reason)
			}
		})
	}
}

func TestTheModeAndOwnerOfAFileOfSomebodyElsesStay(t *testing.T) {
	for _, mode := range []fs.FileMode{0o400, 0o444, 0o640, 0o600, 0o440 | fs.ModeSetuid} {
		root := machine(t, map[string]string{"/etc/sudoers.d/50-x": "bob ALL=ALL\nalice ALL=ALL\n"})
		file := filepath.Join(root, "/etc/sudoers.d/50-x")
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if r, _ := pass(t, root, []string{"root", "%admins"}, nil); r.State != converge.Corrected {
			t.Errorf("%v: it is %s: %s", mode, r.State, r.Reason)
		}
		if got := kindtest.Read(t, root, "/etc/sudoers.d/50-x"); got != mark+"bob ALL=ALL\nalice ALL=ALL\n" {
			t.Errorf("%v: it holds\n%s", mode, got)
		}
		if info, err := os.Stat(file); err != nil || info.Mode() != mode {
			t.Errorf("%v became %v, %v", mode, info.Mode(), err)
		}
	}
}

func TestWhatBecameACommentIsTakenBackUnlessSomebodyHasChangedIt(t *testing.T) {
	for name, test := range map[string]struct{ after, reverted string }{
		"a line":                         {"x ALL=ALL\n" + mark + "bob ALL=ALL\n# end", "x ALL=ALL\nbob ALL=ALL\n# end"},
		"lines that go on":               {mark + "bob ALL= \\\n" + mark + " ALL\n" + weak + "Defaults !authenticate\n", "bob ALL= \\\n ALL\nDefaults !authenticate\n"},
		"a part that was kept":           {partly + "alice, bob ALL= \\\n" + partly + " ALL\nalice ALL=   ALL\nx ALL=ALL\n", "alice, bob ALL= \\\n ALL\nx ALL=ALL\n"},
		"two parts":                      {partly + "alice, bob ALL=ALL\nalice ALL=ALL\n" + partly + "x, y ALL=ALL\ny ALL=ALL\n", "alice, bob ALL=ALL\nx, y ALL=ALL\n"},
		"a part that somebody changed":   {partly + "alice, bob ALL=ALL\nalice ALL=/bin/ls\n", partly + "alice, bob ALL=ALL\nalice ALL=/bin/ls\n"},
		"a part that somebody deleted":   {partly + "alice, bob ALL=ALL\n", partly + "alice, bob ALL=ALL\n"},
		"a part that names another one":  {partly + "alice, bob ALL=ALL\ncarla ALL=ALL\n", partly + "alice, bob ALL=ALL\ncarla ALL=ALL\n"},
		"some settings":                  {faulty + "Defaults a, \\\n" + faulty + " rootpw\nDefaults a\nx ALL=ALL\n", "Defaults a, \\\n rootpw\nx ALL=ALL\n"},
		"settings that somebody changed": {faulty + "Defaults a, rootpw\nDefaults b\n", faulty + "Defaults a, rootpw\nDefaults b\n"},
		"settings for somebody else":     {faulty + "Defaults:x a, rootpw\nDefaults a\n", faulty + "Defaults:x a, rootpw\nDefaults a\n"},
		"a part of an alias":             {"User_Alias A = x, y\n" + partly + "A ALL=ALL\nx ALL=ALL\n", "User_Alias A = x, y\nA ALL=ALL\n"},
		"one without a mark":             {"# a comment\n", "# a comment\n"},
	} {
		if got := string(Revert([]byte(test.after))); got != test.reverted {
			t.Errorf("%s: it becomes\n%s", name, got)
		}
	}
}

// counter counts the questions to the directory.
type counter struct {
	system.Runner
	asked *int
}

func (c counter) Run(ctx context.Context, command system.Command) (system.Output, error) {
	if command.Argv[0] == "id" || command.Argv[0] == "getent" {
		*c.asked++
	}
	if last := command.Argv[len(command.Argv)-1]; command.Argv[0] == "id" && strings.HasPrefix(last, "a") && last != "alice" {
		return system.Output{ExitCode: 1, Stderr: []byte("id: '" + last + "': no such user\n")}, nil
	}
	return c.Runner.Run(ctx, command)
}

func TestALineThatNamesManyIsTakenBackAfterFewQuestions(t *testing.T) {
	var line strings.Builder
	for n := range 20000 {
		fmt.Fprintf(&line, "a%d, #%d, %%#%d, ", n, 100000+n, 200000+n)
	}
	line.WriteString("alice, bob ALL=(ALL) ALL\n")
	root := machine(t, map[string]string{"/etc/sudoers.d/50-x": line.String()})
	s := kindtest.Open(t, system.Options{Root: root})
	runner := people()
	runner.files = s.FS
	asked := 0
	s.Runner = counter{runner, &asked}
	p := &policy.Policy{Resources: []policy.Resource{{ID: "sudo/allow", Spec: policy.Sudo{Allow: []string{"root", "%admins"}}}}}
	if r := kindtest.Engine(p, New(p, s), kindtest.Ledger(t, root), s.Clock).Pass(t.Context()).Resources[0]; r.State != converge.Corrected {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	if want := partly + line.String() + "alice ALL=(ALL) ALL\n"; kindtest.Read(t, root, "/etc/sudoers.d/50-x") != want {
		t.Error("the line is another one")
	}
	if asked > 5*(maxJudged+10) {
		t.Errorf("the directory is asked %d times", asked)
	}
}
