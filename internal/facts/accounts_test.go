package facts_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
)

const passwd = `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1::/usr/sbin:/usr/sbin/nologin
alice:x:1000:1000:Alice A.:/home/alice:/bin/bash
bob:x:1001:1001::/home/bob:/sbin/nologin
nobody:x:65534:65534::/:/bin/bash
broken:x:abc:1::/:/bin/sh
too:few:fields
#former:x:1002:1002::/home/former:/bin/bash
 # remark:x:1003:1003::/:/bin/sh
  carol:x:1004:1004::/home/carol:/sbin/nologin
negative:x:-5:1::/:/bin/sh
huge:x:4294967296:1::/:/bin/sh
-gone:x:1005:1005::/:/bin/sh
:x:7:7::/:/bin/sh

+nis::::::
`

// directory is a getent on a machine that is joined to a directory.
type directory struct {
	people map[string]string
	asked  []string
	err    error
}

func (d *directory) Run(_ context.Context, c system.Command) (system.Output, error) {
	d.asked = append(d.asked, strings.Join(c.Argv, " "))
	if d.err != nil {
		return system.Output{}, d.err
	}
	entry, ok := d.people[c.Argv[len(c.Argv)-1]]
	if !ok {
		return system.Output{ExitCode: 2}, nil
	}
	return system.Output{Stdout: []byte(entry + "\n")}, nil
}

type loggedIn []system.Session

func (l loggedIn) List(context.Context) ([]system.Session, error) { return l, nil }

func machine(t *testing.T, d *directory, sessions ...system.Session) *system.System {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"passwd": passwd, "group": "root:x:0:\nops:x:5000:alice,bob\nbad:x:y:\n"} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	s.Runner, s.Sessions = d, loggedIn(sessions)
	return s
}

func names(accounts []facts.Account) []string {
	var all []string
	for _, a := range accounts {
		all = append(all, fmt.Sprintf("%s=%d", a.Name, a.UID))
	}
	return all
}

func TestLinesThatAreNoEntriesArePassedOver(t *testing.T) {
	s := machine(t, &directory{})
	accounts, err := facts.LocalAccounts(s)
	if diff := cmp.Diff([]string{"root=0", "daemon=1", "alice=1000", "bob=1001", "nobody=65534", "carol=1004"}, names(accounts)); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if want := (facts.Account{Name: "alice", UID: 1000, GID: 1000, Comment: "Alice A.", Home: "/home/alice", Shell: "/bin/bash"}); accounts[2] != want {
		t.Errorf("alice is %+v", accounts[2])
	}
	groups, err := facts.LocalGroups(s)
	want := []facts.Group{{Name: "root", Members: []string{}}, {Name: "ops", GID: 5000, Members: []string{"alice", "bob"}}}
	if diff := cmp.Diff(want, groups); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// Everybody whom glibc lets in counts: an account or a member of a group that a stricter parser
// would skip.
func TestAccountsAndGroupsAreReadAsTolerantlyAsByWhoLetsPeopleIn(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"passwd": "plus:x:+0:+100::/root:/bin/sh\nminus:x:-0:0::/root:/bin/sh\nblank:x: 0:\t0::/root:/bin/sh\n\vtab:x:0:0::/root:/bin/sh\nzeros:x:00:007::/root:/bin/sh\n" +
			"short:x:1600:100\nlong:x:1601:100::/home/long:/bin/sh:more\nround:x:-18446744073709551615:0::/:/bin/sh\n" +
			"largest:x:4294967295:0::/:/bin/sh\nover:x:4294967296:0::/:/bin/sh\nhuge:x:99999999999999999999:0::/:/bin/sh\nless:x:-1:0::/:/bin/sh\nhex:x:0x0:0::/:/bin/sh\nnone:x::0::/:/bin/sh\n#plus:x:0:0::/:/bin/sh\n+nis:x:0:0::/:/bin/sh\n",
		"group": "docker:x:+990:ann, bob,\nshort:x:991\nlong:x: 992:ann:bob\nnone:x::ann\n",
	} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	accounts, err := facts.LocalAccounts(s)
	if diff := cmp.Diff([]string{"plus=0", "minus=0", "blank=0", "tab=0", "zeros=0", "short=1600", "long=1601", "round=1"}, names(accounts)); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	groups, err := facts.LocalGroups(s)
	want := []facts.Group{
		{Name: "docker", GID: 990, Members: []string{"ann", "bob"}}, {Name: "short", GID: 991, Members: []string{}}, {Name: "long", GID: 992, Members: []string{"ann:bob"}},
	}
	if diff := cmp.Diff(want, groups); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestNamesOfTheDirectoryAreTakenAsTheyAre(t *testing.T) {
	d := &directory{people: map[string]string{
		`EXAMPLE\jane doe`: `EXAMPLE\jane doe:*:20001:20000:Doe, Jane #1:/home/EXAMPLE/jane doe:/bin/bash`,
		`j.doe#1`:          `j.doe#1:*:20002:20000::/home/j.doe#1:/bin/bash`,
		`EXAMPLE\linux #1`: `EXAMPLE\linux #1:x:20010:EXAMPLE\jane doe,j.doe#1`,
	}}
	s := machine(t, d)
	for key, want := range map[string]facts.Account{
		`EXAMPLE\jane doe`: {Name: `EXAMPLE\jane doe`, UID: 20001, GID: 20000, Comment: "Doe, Jane #1", Home: "/home/EXAMPLE/jane doe", Shell: "/bin/bash"},
		`j.doe#1`:          {Name: `j.doe#1`, UID: 20002, GID: 20000, Home: "/home/j.doe#1", Shell: "/bin/bash"},
	} {
		if a, found, err := facts.LookupUser(t.Context(), s, key); a != want || !found || err != nil {
			t.Errorf("%s: %+v, %v, %v", key, a, found, err)
		}
	}
	g, _, err := facts.LookupGroup(t.Context(), s, `EXAMPLE\linux #1`)
	if diff := cmp.Diff(facts.Group{Name: `EXAMPLE\linux #1`, GID: 20010, Members: []string{`EXAMPLE\jane doe`, "j.doe#1"}}, g); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestPeopleAreWhoeverMaySitAtTheDesktop(t *testing.T) {
	d := &directory{people: map[string]string{"20001": `EXAMPLE\carol:*:20001:20000:Carol:/home/carol:/bin/bash`}}
	s := machine(t, d,
		system.Session{UID: 20001, State: "active"}, system.Session{UID: 20002, State: "active"},
		system.Session{UID: 1001}, system.Session{UID: 0})
	people, err := facts.People(t.Context(), s)
	// bob may not log in, but is logged in.
	if diff := cmp.Diff([]string{"alice=1000", "bob=1001", `EXAMPLE\carol=20001`}, names(people)); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff([]string{"getent passwd -- 20001", "getent passwd -- 20002"}, d.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func TestNobodyAnswersToAnEmptyName(t *testing.T) {
	d := &directory{people: map[string]string{"": "root:x:0:0::/root:/bin/sh"}} // getent would list all entries
	s := machine(t, d)
	if a, found, err := facts.LookupUser(t.Context(), s, ""); found || err != nil {
		t.Errorf("%+v, %v", a, err)
	}
	if g, found, err := facts.LookupGroup(t.Context(), s, ""); found || err != nil {
		t.Errorf("%+v, %v", g, err)
	}
}

func TestADirectoryThatCannotBeAskedIsNoProofThatThereIsNoSuchUser(t *testing.T) {
	s := machine(t, &directory{err: system.ErrNotInstalled})
	if _, found, err := facts.LookupUser(t.Context(), s, "carol"); found || !errors.Is(err, system.ErrNotInstalled) {
		t.Errorf("%v, %v", found, err)
	}
	s.Runner = &directory{}
	if _, found, err := facts.LookupUser(t.Context(), s, "carol"); found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
}
