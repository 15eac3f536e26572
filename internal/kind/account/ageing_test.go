package account_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/account"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// agedPasswd has: bob and carol, persons; alice, who administers by wheel; dave, by sudoers; a service with a
// password; AWS's; an account of a person without a password.
const (
	agedPasswd = passwd + `bob:x:1002:1002::/home/bob:/bin/bash
carol:x:1003:1003::/home/carol:/bin/bash
dave:x:1004:1004::/home/dave:/bin/bash
ssm-user:x:1005:1005::/home/ssm-user:/bin/bash
ec2-user:x:1006:1006::/home/ec2-user:/bin/bash
keys:x:1007:1007::/home/keys:/bin/bash
`
	agedSudoers = "root ALL=(ALL) ALL\nUser_Alias OPS = dave\nOPS ALL = /usr/bin/systemctl\nALL ALL = NOPASSWD: /usr/bin/vendor\n"
)

// A fixedClock stands still.
type fixedClock struct{ now time.Time }

func (c *fixedClock) Now() time.Time                           { return c.now }
func (*fixedClock) Sleep(context.Context, time.Duration) error { return nil }

// An ageDesk is a machine with accounts whose passwords have an age.
type ageDesk struct {
	root   string
	system *system.System
	ledger *converge.Ledger
	clock  *fixedClock
	ran    []string
}

// Run does what chage(1) of shadow-utils does.
func (d *ageDesk) Run(_ context.Context, c system.Command) (system.Output, error) {
	if c.Argv[0] != "chage" {
		return system.Output{}, system.ErrNotInstalled
	}
	d.ran = append(d.ran, strings.Join(c.Argv, " "))
	file := filepath.Join(d.root, "etc/shadow")
	content, err := os.ReadFile(file)
	if err != nil {
		return system.Output{}, err
	}
	lines := strings.Split(string(content), "\n")
	for i, line := range lines {
		fields := strings.Split(line, ":")
		if fields[0] != c.Argv[len(c.Argv)-1] {
			continue
		}
		for j := 1; j+1 < len(c.Argv); j += 2 {
			at := map[string]int{"-d": 2, "-m": 3, "-M": 4, "-W": 5, "-I": 6, "-E": 7}[c.Argv[j]]
			if fields[at] = c.Argv[j+1]; fields[at] == "-1" {
				fields[at] = ""
			}
		}
		lines[i] = strings.Join(fields, ":")
	}
	return system.Output{}, os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600)
}

func (d *ageDesk) day() int { return int(d.clock.now.Unix() / 86400) }

// newAgeDesk has these entries of shadow(5), in which @N stands for the date N days ago.
func newAgeDesk(t *testing.T, entries ...string) *ageDesk {
	t.Helper()
	d := &ageDesk{clock: &fixedClock{time.Now()}}
	d.root = kindtest.Root(t, map[string]string{"etc/passwd": agedPasswd, "etc/group": group, "etc/sudoers": agedSudoers, "etc/shadow": ""})
	d.put(t, entries...)
	d.system = kindtest.Open(t, system.Options{Root: d.root})
	d.system.Runner, d.system.Clock = d, d.clock
	d.ledger = kindtest.Ledger(t, d.root)
	return d
}

func (d *ageDesk) put(t *testing.T, entries ...string) {
	t.Helper()
	var text strings.Builder
	for _, entry := range entries {
		fields := strings.Split(entry, ":")
		for i, field := range fields {
			if ago, is := strings.CutPrefix(field, "@"); is {
				n, err := strconv.Atoi(ago)
				if err != nil {
					t.Fatal(err)
				}
				fields[i] = strconv.Itoa(d.day() - n)
			}
		}
		text.WriteString(strings.Join(fields, ":") + "\n")
	}
	kindtest.Put(t, d.root, "etc/shadow", text.String())
}

// shadow returns the fields of an account behind the password, with dates in days ago as @N.
func (d *ageDesk) shadow(t *testing.T, name string) string {
	t.Helper()
	for line := range strings.Lines(kindtest.Read(t, d.root, "etc/shadow")) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if fields[0] != name {
			continue
		}
		for _, i := range []int{2, 7} {
			if day, err := strconv.Atoi(fields[i]); err == nil && day > 0 {
				fields[i] = fmt.Sprintf("@%d", d.day()-day)
			}
		}
		return strings.Join(fields[2:8], ":")
	}
	return "no entry"
}

// pass checks and repairs both kinds until nothing is repaired, as an engine does, and returns the states.
func (d *ageDesk) pass(t *testing.T, toml string) map[policy.ID]converge.Resource {
	t.Helper()
	p := kindtest.Policy(t, toml)
	all := map[policy.ID]converge.Resource{}
	for _, kind := range []converge.Kind{account.NewUsers(p, d.system, d.ledger), account.NewAgeing(p, d.system, d.ledger)} {
		kindtest.Engine(p, kind, d.ledger, d.clock).Pass(t.Context())
		resources, _ := kind.Check(t.Context())
		for id, r := range kindtest.ByID(resources) {
			all[id] = r
		}
	}
	return all
}

func is(t *testing.T, all map[policy.ID]converge.Resource, id policy.ID, state converge.State, says string) {
	t.Helper()
	if r := all[id]; r.State != state || !strings.Contains(r.Reason, says) {
		t.Errorf("%s is %s (%s) %v, want %s (%s)", id, r.State, r.Reason, r.Diff, state, says)
	}
}

const (
	people = "[ageing.people]\nmin_days = 1\nmax_days = 365\nwarn_days = 7\ninactive_days = 30\n"
	fresh  = ":$6$x:@10:0:99999:7:::"
)

func TestPasswordsOfAllLocalPersonsLastAsLongAsThePolicySays(t *testing.T) {
	d := newAgeDesk(t, "root:$6$x:@10:0:99999:7:::", "apache"+fresh, "soe-scan:!:@10:0:99999:7:::", "bob"+fresh, "carol:$6$x:@10:5:60:14:7:@-90:", "alice:$6$x:@10:0:99999:7:5::", "dave"+fresh, "ssm-user"+fresh, "ec2-user"+fresh, "keys:!!:@10:0:99999:7:::")
	all := d.pass(t, people)
	is(t, all, "ageing/people", converge.Compliant, "inactive_days is not set for alice, who administers the machine; inactive_days is not set for dave")
	if told := all["ageing/people"].Public(); strings.Contains(told.Reason, "alice") { // what sudoers says is root's to read
		t.Errorf("everybody is told that %s", told.Reason)
	}
	for name, want := range map[string]string{
		"bob": "@10:1:365:7:30:", "carol": "@10:1:365:7:30:@-90", "alice": "@10:1:365:7::", "dave": "@10:1:365:7::",
		"root": "@10:0:99999:7::", "apache": "@10:0:99999:7::", "ssm-user": "@10:0:99999:7::", "ec2-user": "@10:0:99999:7::", "keys": "@10:0:99999:7::", "soe-scan": "@10:0:99999:7::",
	} {
		if got := d.shadow(t, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if !slices.Contains(d.ran, "chage -m 1 -M 365 -W 7 -I 30 carol") {
		t.Errorf("ran %q", d.ran)
	}
	d.ran = nil
	if d.pass(t, people); len(d.ran) > 0 {
		t.Errorf("a second pass ran %q", d.ran)
	}
}

func TestNobodyIsLockedOutByHowLongAPasswordLasts(t *testing.T) {
	for name, test := range map[string]struct {
		entry, toml string
		id          policy.ID
		state       converge.State
		says, left  string
	}{
		"too old":                        {"bob:$6$x:@400:0:99999:7:::", people, "ageing/people", converge.Failed, "max_days 365 is not set for bob: it would lock bob out at once: the password is too old; it was last changed on", "@400:1:99999:7::"},
		"too old, with some days left":   {"bob:$6$x:@390:0:99999:7:::", people, "ageing/people", converge.Failed, "max_days 365 is not set for bob: the password of bob would be too old at once; it was last changed on", "@390:1:99999:7:30:"},
		"too old tomorrow":               {"bob:$6$x:@364:0:99999:7:::", people, "ageing/people", converge.Failed, "max_days 365 is not set for bob", "@364:1:99999:7:30:"},
		"not too old before long":        {"bob:$6$x:@363:0:99999:7:::", people, "ageing/people", converge.Compliant, "", "@363:1:365:7:30:"},
		"no date":                        {"bob:$6$x::0:99999:7:::", people, "ageing/people", converge.Failed, "it has not been changed since accounts have dates", ":1:99999:7::"},
		"to be changed already":          {"bob:$6$x:0:0:99999:7:::", people, "ageing/people", converge.Compliant, "", "0:1:365:7:30:"},
		"to be changed, and locked next": {"bob:$6$x:@100:0:60:7:::", "[ageing.people]\ninactive_days = 30\n", "ageing/people", converge.Failed, "inactive_days 30 is not set for bob: it would lock bob out at once", "@100:0:60:7::"},
		"locked already":                 {"bob:$6$x:@100:0:60:7:10::", "[ageing.people]\nmax_days = 60\ninactive_days = 10\n", "ageing/people", converge.Compliant, "", "@100:0:60:7:10:"},
		"changed in the future":          {"bob:$6$x:@-90:0:99999:7:::", people, "ageing/people", converge.Compliant, "", "@0:1:365:7:30:"},
		"cannot be changed before":       {"bob:$6$x:@1:90:99999:7:::", "[ageing.people]\nmax_days = 60\n", "ageing/people", converge.Failed, "too old before it can be changed", "@1:90:99999:7::"},
		"cannot be changed within":       {"bob:$6$x:@1:0:60:7:::", "[ageing.people]\nmin_days = 90\n", "ageing/people", converge.Failed, "too old before it can be changed", "@1:0:60:7::"},
		"expired":                        {"bob" + fresh, "[users.bob]\nexpires = \"2020-02-01\"\n", "user/bob", converge.Failed, "expires 2020-02-01 is not set for bob: that day is past", "@10:0:99999:7::"},
		"expires later":                  {"bob" + fresh, "[users.bob]\nexpires = \"2199-02-01\"\nmax_days = 90\n", "user/bob", converge.Compliant, "", fmt.Sprintf("@10:0:90:7::@%d", time.Now().Unix()/86400-dayOf("2199-02-01"))},
		"never expires":                  {"bob:$6$x:@10:0:99999:7::@-5:", "[users.bob]\nexpires = \"never\"\n", "user/bob", converge.Compliant, "", "@10:0:99999:7::"},
		"an administrator expires":       {"alice" + fresh, "[users.alice]\nexpires = \"2199-02-01\"\n", "user/alice", converge.Failed, "expires 2199-02-01 is not set for alice: it would lock out somebody who administers", "@10:0:99999:7::"},
		"no password":                    {"keys:!!:@900:0:99999:7:::", "[users.keys]\nmax_days = 90\n", "user/keys", converge.Compliant, "keys has no password that could grow old", "@900:0:99999:7::"},
		"root's is old":                  {"root:$6$x:@400:0:99999:7:::", "[ageing.root]\nmax_days = 365\n", "ageing/root", converge.Failed, "max_days 365 is not set for root", "@400:0:99999:7::"},
		"root's":                         {"root:$6$x:@40:0:99999:7:::", "[ageing.root]\nmax_days = 365\n", "ageing/root", converge.Compliant, "", "@40:0:365:7::"},
		"root has none":                  {"root:*:@40:0:99999:7:::", "[ageing.root]\nmax_days = 365\n", "ageing/root", converge.Compliant, "root has no password that could grow old", "@40:0:99999:7::"},
		"nobody has one":                 {"bob:!:@40:0:99999:7:::", people, "ageing/people", converge.Compliant, "no local person has one", "@40:0:99999:7::"},
		"twice in shadow":                {"bob:$6$x:@10:0:99999:7:::\nbob:$6$y:1:0:99999:7:::", people, "ageing/people", converge.Failed, "more than once", "@10:0:99999:7::"},
		"no number":                      {"bob:$6$x:@10:0:many:7:::", people, "ageing/people", converge.Failed, "is no number", "@10:0:many:7::"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newAgeDesk(t, test.entry)
			is(t, d.pass(t, test.toml), test.id, test.state, test.says)
			who, _, _ := strings.Cut(test.entry, ":")
			if got := d.shadow(t, who); got != test.left {
				t.Errorf("%s, want %s", got, test.left)
			}
		})
	}
}

func dayOf(date string) int64 {
	day, _ := time.Parse(time.DateOnly, date)
	return day.Unix() / 86400
}

// root's jobs of cron end when root's password is too old, and so does an administrator's sudo.
func TestThePasswordOfWhoAdministersDoesNotBecomeTooOldByThePolicy(t *testing.T) {
	d := newAgeDesk(t, "root:$6$x:@40:0:99999:7:::", "alice:$6$x:@40:0:99999:7:::", "bob:$6$x:@40:0:99999:7:::")
	const toml = people + "[ageing.root]\nmax_days = 365\n"
	all := d.pass(t, toml)
	is(t, all, "ageing/root", converge.Compliant, "")
	is(t, all, "ageing/people", converge.Compliant, "")
	d.clock.now = d.clock.now.AddDate(0, 0, 324) // the day before
	all = d.pass(t, toml)
	is(t, all, "ageing/root", converge.Failed, "max_days 365 is not set for root: the password of root would be too old at once")
	is(t, all, "ageing/people", converge.Failed, "max_days 365 is not set for alice")
	for name, want := range map[string]string{"root": "@364:0:99999:7::", "alice": "@364:1:99999:7::", "bob": "@364:1:365:7:30:"} {
		if got := d.shadow(t, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	d.put(t, "root:$6$y:@0:0:99999:7:::", "alice:$6$y:@0:1:99999:7:::", "bob:$6$y:@0:1:365:7:30::")
	all = d.pass(t, toml)
	is(t, all, "ageing/root", converge.Compliant, "")
	is(t, all, "ageing/people", converge.Compliant, "")
	if root, alice := d.shadow(t, "root"), d.shadow(t, "alice"); root != "@0:0:365:7::" || alice != "@0:1:365:7::" {
		t.Errorf("%s, %s", root, alice)
	}
}

func TestWhatThePolicyNoLongerSaysOfAPasswordsAgeIsGivenBackUnlessSomebodyElseChangedIt(t *testing.T) {
	d := newAgeDesk(t, "root:$6$x:@40:0:99999:7:::", "bob:$6$x:@40:3:::::", "carol:$6$x:@40:0:50:7:::", "keys:$6$x:@40:0:99999:7:::")
	d.pass(t, people+"[users.bob]\nmax_days = 90\nexpires = \"2199-01-01\"\n[ageing.root]\nmin_days = 2\nmax_days = 300\n")
	if got := d.shadow(t, "bob"); !strings.HasPrefix(got, "@40:1:90:7:30:@-") {
		t.Errorf("bob: %s", got)
	}
	d.pass(t, people+"[ageing.root]\nmax_days = 300\n")
	if bob, root := d.shadow(t, "bob"), d.shadow(t, "root"); bob != "@40:1:365:7:30:" || root != "@40:0:300:7::" {
		t.Errorf("bob %s, root %s", bob, root)
	}
	if out, err := d.Run(t.Context(), system.Command{Argv: []string{"chage", "-M", "77", "keys"}}); err != nil || out.ExitCode != 0 {
		t.Fatal(err)
	}
	d.clock.now = d.clock.now.AddDate(0, 0, 20) // by then carol's would be too old
	all := d.pass(t, "")
	is(t, all, "ageing/carol", converge.Failed, "max_days of carol is not given back: the password of carol would be too old at once")
	for name, want := range map[string]string{"root": "@60:0:99999:7::", "bob": "@60:3::::", "carol": "@60:0:365:7::", "keys": "@60:0:77:7::"} {
		if got := d.shadow(t, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	d.put(t, "carol:$6$y:@0:0:365:7:::", "keys:$6$x:@60:0:365:7:30::")
	if all := d.pass(t, ""); len(all) > 0 || d.shadow(t, "carol") != "@0:0:50:7::" {
		t.Errorf("%v; %s", all, d.shadow(t, "carol"))
	}
	if got := d.shadow(t, "keys"); got != "@60:0:365:7:30:" {
		t.Errorf("what somebody else has set since became %s", got)
	}
}

// Of an account that is gone, or was changed by others or not at all after a crash, nothing is remembered that
// would be given to somebody later.
func TestNothingIsRememberedOfAPasswordsAgeThatIsNotTheAgents(t *testing.T) {
	d := newAgeDesk(t, "bob:$6$x:@40:0:99999:7:::", "carol:$6$x:@40:0:99999:7:::")
	d.ledger.Own("ageing/carol") // as before a chage that never ran
	d.ledger.Retouch("ageing/carol", map[string]converge.Retouch{"max_days": {Was: "99999", Made: "365"}})
	d.pass(t, "[users.bob]\nmax_days = 365\n")
	d.put(t, "carol:$6$x:@40:0:99999:7:::")
	kindtest.Put(t, d.root, "etc/passwd", strings.ReplaceAll(agedPasswd, "bob:x:1002:1002::/home/bob:/bin/bash\n", ""))
	d.pass(t, "")
	kindtest.Put(t, d.root, "etc/passwd", agedPasswd)
	d.put(t, "bob:$6$x:@1:0:365:7:::", "carol:$6$x:@40:0:365:7:::")
	if all := d.pass(t, ""); len(all) > 0 || len(d.ledger.Owned("ageing")) > 0 {
		t.Errorf("%v; %v", all, d.ledger.Owned("ageing"))
	}
	if bob, carol := d.shadow(t, "bob"), d.shadow(t, "carol"); bob != "@1:0:365:7::" || carol != "@40:0:365:7::" {
		t.Errorf("bob %s, carol %s", bob, carol)
	}
}

func TestDriftOfAPasswordsAgeIsCorrectedThoughSomebodyIsLoggedIn(t *testing.T) {
	d := newAgeDesk(t, "bob"+fresh)
	d.system.Sessions = kindtest.Sessions{{User: "bob", UID: 1002, State: "active", Class: "user"}}
	const toml = people + "[users.bob]\nmax_days = 90\n"
	d.pass(t, toml)
	if _, err := d.Run(t.Context(), system.Command{Argv: []string{"chage", "-M", "99999", "-I", "-1", "bob"}}); err != nil {
		t.Fatal(err)
	}
	all := d.pass(t, toml)
	is(t, all, "user/bob", converge.Compliant, "")
	is(t, all, "ageing/people", converge.Compliant, "")
	if got := d.shadow(t, "bob"); got != "@10:1:90:7:30:" {
		t.Error(got)
	}
}

// By a clock that is behind an old password is a new one, and all would be locked out once it goes right.
func TestByAClockThatIsBehindNoOldPasswordIsTakenForANewOne(t *testing.T) {
	d := newAgeDesk(t, "bob:$6$x:@400:0:99999:7:::", "carol:$6$x:@10:0:99999:7:::")
	d.clock.now = d.clock.now.AddDate(-2, 0, 0)
	is(t, d.pass(t, people), "ageing/people", converge.Failed, "max_days 365 is not set for bob: it would lock bob out at once")
	d.clock.now = d.clock.now.AddDate(2, 0, 0)
	if bob, carol := d.shadow(t, "bob"), d.shadow(t, "carol"); bob != "@400:1:99999:7::" || carol != "@10:1:365:7:30:" {
		t.Errorf("bob %s, carol %s", bob, carol)
	}
}

// What chage(1) of shadow-utils 4.1.5.1 knows (process_flags of src/chage.c): -1 empties a field, and a date may be a number.
func TestNoOptionOfChageIsNewerThanAmazonLinux(t *testing.T) {
	d := newAgeDesk(t, "bob:$6$x:@-90:3:99999:7::@-5:", "carol:$6$x:@5::::::")
	d.pass(t, people+"[users.bob]\nexpires = \"never\"\n")
	d.pass(t, "")
	if len(d.ran) != 5 {
		t.Errorf("ran %q", d.ran)
	}
	for _, command := range d.ran {
		words := strings.Fields(command)
		for i := 1; i+1 < len(words); i += 2 {
			if _, err := strconv.Atoi(words[i+1]); !slices.Contains([]string{"-d", "-E", "-I", "-m", "-M", "-W"}, words[i]) || err != nil {
				t.Errorf("ran %q", command)
			}
		}
	}
}

func TestNoPasswordsAgeIsChangedBeforeWhatItHadIsRecorded(t *testing.T) {
	d := newAgeDesk(t, "bob"+fresh)
	gated := kindtest.Open(t, system.Options{Root: d.root, Gate: func(system.Change) error { return errors.New("the disk is full") }})
	d.ledger = kindtest.LedgerIn(t, gated.FS)
	if err := gated.FS.MkdirAll("/x", 0o755); err == nil {
		t.Fatal("the gate is open")
	}
	p := kindtest.Policy(t, people)
	kind := account.NewAgeing(p, d.system, d.ledger)
	outcomes := kind.Repair(t.Context(), kindtest.Drifted(kindtest.Check(t, kind)))
	if len(outcomes) != 1 || !strings.Contains(errorOf(outcomes), "cannot record its previous values") || len(d.ran) > 0 {
		t.Errorf("%v; ran %q", outcomes, d.ran)
	}
}
