package account_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/system"
)

// newHouse returns a desk whose tools change its files, with an /etc/skel. more adds homes by path,
// with their uid and a file in each.
func newHouse(t *testing.T, toml string, more map[string]int, gate system.Gate) *desk {
	t.Helper()
	d := newDesk(t, toml)
	root := d.system.Root
	if err := os.RemoveAll(filepath.Join(root, "home/alice")); err != nil {
		t.Fatal(err)
	}
	put := func(name, content string) { kindtest.Put(t, root, name, content) }
	put("etc/skel/.profile", "# of skel\n")
	put("etc/skel/.config/app.ini", "# of skel\n")
	put("home/lost+found", "")
	for dir, uid := range more {
		put(dir+"/thesis.txt", "of "+dir)
		if err := os.Chown(filepath.Join(root, dir), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	s := kindtest.Open(t, system.Options{Root: root, Gate: gate})
	s.Runner = files{root}
	d.system = s
	return d
}

// home describes the home of alice: the path in /etc/passwd, its owner, and its contents.
func (d *desk) home(t *testing.T) string {
	t.Helper()
	passwd, err := os.ReadFile(filepath.Join(d.system.Root, "etc/passwd"))
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(passwd), "\nalice:")
	name := strings.Split(line, ":")[4]
	dir := filepath.Join(d.system.Root, name)
	info, err := os.Stat(dir)
	if err != nil {
		return name + " missing"
	}
	var in []string
	err = filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		info, _ := os.Lstat(file)
		if err == nil && !e.IsDir() {
			in = append(in, fmt.Sprintf("%s of %d", file[len(dir)+1:], info.Sys().(*syscall.Stat_t).Uid))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s of %d: %s", name, info.Sys().(*syscall.Stat_t).Uid, strings.Join(in, ", "))
}

func TestAHomeIsThereAndTheAccountsAndNothingOfAnOldOneIsLost(t *testing.T) {
	const named = `users.alice = { home = "/home/alice" }`
	const fresh = ".config/app.ini of 1001, .profile of 1001"
	for name, test := range map[string]struct {
		policy string
		homes  map[string]int
		want   string
		fails  string
		left   string // a directory whose file still exists
	}{
		"in line":              {named, map[string]int{"home/alice": 1001}, "/home/alice of 1001: thesis.txt of 0", "", "home/alice"},
		"missing":              {named, nil, "/home/alice of 1001: " + fresh, "", ""},
		"root's":               {named, map[string]int{"home/alice": 0}, "/home/alice of 1001: thesis.txt of 0", "", "home/alice"},
		"somebody else's":      {named, map[string]int{"home/alice": 5101}, "/home/alice of 5101: thesis.txt of 0", "it is soe-scan's", "home/alice"},
		"of nobody known":      {named, map[string]int{"home/alice": 4711}, "/home/alice of 4711: thesis.txt of 0", "it is that of uid 4711", "home/alice"},
		"moves":                {`users.alice = { home = "/srv/deep/a" }`, map[string]int{"home/alice": 1001}, "/srv/deep/a of 1001: thesis.txt of 0", "", "srv/deep/a"},
		"none of hers to move": {`users.alice = { home = "/srv/a" }`, map[string]int{"home/alice": 0}, "/srv/a of 1001: " + fresh, "", "home/alice"},
		"both are there":       {`users.alice = { home = "/srv/a" }`, map[string]int{"home/alice": 1001, "srv/a": 1001}, "/srv/a of 1001: thesis.txt of 0", "", "home/alice"},
		"taken":                {`users.alice = { home = "/home/carol" }`, map[string]int{"home/alice": 1001, "home/carol": 5101}, "/home/alice of 1001: thesis.txt of 0", "it is soe-scan's", "home/carol"},
		"a part of the system": {`users.alice = { home = "/var/www" }`, map[string]int{"home/alice": 1001, "var/www": 0}, "/home/alice of 1001: thesis.txt of 0", "it is root's", "home/alice"},
		"into itself":          {`users.alice = { home = "/home/alice/new" }`, map[string]int{"home/alice": 1001}, "/home/alice of 1001: thesis.txt of 0", "others may change it", "home/alice"},
		"what logs in to it":   {`users.alice = { home = "/srv/a", system = true }`, map[string]int{"home/alice": 1001}, "/srv/a missing", "", "home/alice"},
		"none is to be":        {`users.alice = { home = "/nonexistent" }`, map[string]int{"home/alice": 1001}, "/nonexistent missing", "", "home/alice"},
		"not managed":          {`users.alice = { comment = "Alice" }`, nil, "/home/alice missing", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := newHouse(t, test.policy, test.homes, nil)
			_, outcomes := d.walk(t)
			if got := errorOf(outcomes); (got == "") != (test.fails == "") || !strings.Contains(got, test.fails) {
				t.Errorf("it fails with %q and not %q", got, test.fails)
			}
			if got := d.home(t); got != test.want {
				t.Errorf("the home is %s, and not %s", got, test.want)
			}
			if test.left != "" {
				if _, err := os.Stat(filepath.Join(d.system.Root, test.left, "thesis.txt")); err != nil {
					t.Error(err)
				}
			}
			found, _ := d.walk(t)
			if inLine := found[0].State == converge.Compliant; inLine != (test.fails == "") {
				t.Errorf("then it is %s: %v", found[0].State, found[0].Diff)
			}
		})
	}
}

// The home that useradd created is kept as long as the policy wants the account.
func TestTheHomeOfAnAccountThatTheAgentMadeIsKeptThoughThePolicyNamesNone(t *testing.T) {
	d := newHouse(t, `users.bob = {}`, nil, nil)
	if _, outcomes := d.walk(t); len(outcomes) > 0 {
		t.Fatal(outcomes)
	}
	home := filepath.Join(d.system.Root, "home/bob")
	if err := os.Remove(home); err != nil {
		t.Fatal(err)
	}
	if found, outcomes := d.walk(t); found[0].State != converge.Drifted || len(outcomes) > 0 {
		t.Errorf("%v, %v", found, outcomes)
	}
	if _, err := os.Stat(home); err != nil {
		t.Error(err)
	}
}

func TestAHomeThatMovedGoesBackWhenTheAccountCannotBeChanged(t *testing.T) {
	d := newHouse(t, `users.alice = { home = "/srv/a" }`, map[string]int{"home/alice": 1001}, nil)
	d.tools.exit = 1
	d.system.Runner = d.tools
	_, outcomes := d.walk(t)
	if got, want := d.home(t), "/home/alice of 1001: thesis.txt of 0"; len(outcomes) != 1 || got != want {
		t.Errorf("%v: %s and not %s", outcomes, got, want)
	}
}

// Wherever the machine dies, the contents of the home are complete in the old or the new one. After
// the next pass, the account has a home with these contents.
func TestAHomeIsInOnePlaceWhereverItsMoveIsInterrupted(t *testing.T) {
	for _, homes := range []map[string]int{{"home/alice": 1001}, {}} {
		for stop := 1; ; stop++ {
			steps := 0
			dead := errors.New("the machine died")
			d := newHouse(t, `users.alice = { home = "/srv/deep/a" }`, homes, func(system.Change) error {
				if steps++; steps >= stop {
					return dead
				}
				return nil
			})
			d.walk(t)
			died := steps >= stop
			steps = -1000
			if _, outcomes := d.walk(t); len(outcomes) > 0 {
				t.Fatalf("after step %d: %v", stop, outcomes)
			}
			want := "/srv/deep/a of 1001: thesis.txt of 0"
			if len(homes) == 0 {
				want = "/srv/deep/a of 1001: .config/app.ini of 1001, .profile of 1001"
			}
			if got := d.home(t); got != want {
				t.Errorf("after step %d: %s", stop, got)
			}
			if !died {
				break
			}
		}
	}
}
