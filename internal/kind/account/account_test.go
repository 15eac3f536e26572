package account_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/account"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const passwd = `root:x:0:0:root:/root:/bin/bash
toor:x:0:0:another root:/root:/bin/bash
sshd:x:74:74::/var/empty/sshd:/sbin/nologin
ubuntu:x:1000:1000:Ubuntu:/home/ubuntu:/bin/bash
gdm:x:120:120::/var/lib/gdm3:/bin/false
apache:x:48:48::/var/www:/sbin/nologin
alice:x:1001:1001:Alice:/home/alice:/bin/bash
soe-scan:x:5101:5101:Scanner:/var/lib/scan:/usr/sbin/nologin
`

const group = `root:x:0:
wheel:x:10:alice
apache:x:48:
ubuntu:x:1000:
gdm:x:120:
sudo:x:29:ubuntu
docker:x:372:soe-scan
alice:x:1001:
soe-scan:x:5101:
`

// directory is what the name service knows in addition to the local files.
type directory map[string]string

// A shadow is a fake of shadow-utils for answers that the real tools cannot be made to give. It
// changes nothing.
type shadow struct {
	directory directory
	exit      int
	ran       []string
	does      func(tool string) // called when a tool runs
}

func (s *shadow) Run(_ context.Context, c system.Command) (system.Output, error) {
	if c.Argv[0] == "getent" {
		if line, known := s.directory[c.Argv[1]+" "+c.Argv[3]]; known {
			return system.Output{Stdout: []byte(line + "\n")}, nil
		}
		return system.Output{ExitCode: 2}, nil
	}
	s.ran = append(s.ran, c.String())
	if s.does != nil {
		s.does(c.Argv[0])
	}
	return system.Output{ExitCode: s.exit, Stderr: []byte(c.Argv[0] + ": it says why")}, nil
}

func makeHome(t *testing.T, dir string, uid int) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o755), os.Mkdir(dir, 0o700), os.Chown(dir, uid, uid)); err != nil {
		t.Fatal(err)
	}
}

// A desk is a machine with the accounts above, and a policy.
type desk struct {
	system *system.System
	policy *policy.Policy
	ledger *converge.Ledger
	tools  *shadow
}

func newDesk(t *testing.T, toml string) *desk {
	t.Helper()
	root := kindtest.Root(t, map[string]string{"etc/passwd": passwd, "etc/group": group, "usr/sbin/nologin": "", "bin/sh": ""})
	makeHome(t, filepath.Join(root, "home/alice"), 1001)
	s := kindtest.Open(t, system.Options{Root: root})
	tools := &shadow{}
	s.Runner = tools
	p := kindtest.Policy(t, toml)
	l := kindtest.LedgerIn(t, s.FS)
	return &desk{s, p, l, tools}
}

// walk checks both kinds and repairs what has drifted.
func (d *desk) walk(t *testing.T) (found []converge.Resource, outcomes []converge.Outcome) {
	t.Helper()
	for _, kind := range []converge.Kind{
		account.NewGroups(d.policy, d.system, d.ledger), account.NewUsers(d.policy, d.system, d.ledger),
	} {
		resources := kindtest.Check(t, kind)
		found = append(found, resources...)
		if drifted := kindtest.Drifted(resources); len(drifted) > 0 {
			outcomes = append(outcomes, kind.Repair(t.Context(), drifted)...)
		}
	}
	return found, outcomes
}

func TestNoProgramRunsWhileAllIsWell(t *testing.T) {
	d := newDesk(t, `
[groups]
docker   = {}
soe-scan = { gid = 5101 }
gone     = { ensure = "absent" }
[users]
gone     = { ensure = "absent" }
alice    = { shell = "/bin/bash", comment = "Alice", home = "/home/alice", group = "alice", groups = ["wheel", "alice"] }
soe-scan = { uid = 5101, group = "soe-scan", groups = ["docker"], system = true }
[ids]
uid.apache = 48
gid.apache = 48
`)
	d.system.Runner = nil
	found, _ := d.walk(t)
	if len(found) != 8 {
		t.Errorf("%d resources were found and not 8", len(found))
	}
	for _, r := range found {
		if r.State != converge.Compliant {
			t.Errorf("%s is %s: %v", r.ID, r.State, r.Diff)
		}
	}
}

func TestTheToolsAreToldOnlyWhatDiffers(t *testing.T) {
	for name, test := range map[string]struct {
		policy string
		ran    []string
	}{
		"a group":             {`groups.staff = {}`, []string{"groupadd staff"}},
		"a group with an id":  {`groups.staff = { gid = 5200, system = true }`, []string{"groupadd -r -g 5200 staff"}},
		"another gid":         {`groups.docker = { gid = 5200 }`, []string{"groupmod -g 5200 docker"}},
		"no group":            {`groups.docker = { ensure = "absent" }`, []string{"groupdel docker"}},
		"a registered gid":    {`ids.gid.mysql = 27`, []string{"groupadd -r -g 27 mysql"}},
		"a person":            {`users.bob = { comment = "Bob" }`, []string{"useradd -U -m -K UMASK=077 -c Bob bob"}},
		"a registered uid":    {`ids.uid.mysql = 27`, []string{"useradd -u 27 -U -r -M -s /usr/sbin/nologin mysql"}},
		"a group of its name": {`users.docker = { system = true, shell = "/bin/sh" }`, []string{"useradd -N -g docker -r -M -s /bin/sh docker"}},
		"everything": {
			`users.bob = { uid = 5200, group = "alice", groups = ["wheel", "docker"], home = "/srv/bob", shell = "/bin/sh" }`,
			[]string{"useradd -u 5200 -N -g alice -m -K UMASK=077 -d /srv/bob -s /bin/sh -G wheel,docker bob"},
		},
		"another uid":          {`users.alice = { uid = 5200, shell = "/bin/bash" }`, []string{"usermod -u 5200 alice"}},
		"another shell":        {`users.alice = { uid = 1001, shell = "/bin/sh" }`, []string{"usermod -s /bin/sh alice"}},
		"another group":        {`users.alice = { group = "docker" }`, []string{"usermod -g docker alice"}},
		"one more membership":  {`users.alice = { groups = ["wheel", "docker"] }`, []string{"usermod -a -G docker alice"}},
		"no user":              {`users.alice = { ensure = "absent" }`, []string{"userdel alice"}},
		"only the uid counts":  {`ids.uid.soe-scan = 5200`, []string{"usermod -u 5200 soe-scan"}},
		"room is made at once": {`users = { bob = {}, alice = { ensure = "absent" }, soe-scan = { comment = "x" } }`, []string{"userdel alice", "usermod -c x soe-scan", "useradd -U -m -K UMASK=077 bob"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, test.policy)
			if _, outcomes := d.walk(t); len(outcomes) > 0 {
				t.Error(outcomes)
			}
			if diff := cmp.Diff(test.ran, d.tools.ran); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatMustNotBeIsRefusedWithItsReason(t *testing.T) {
	known := directory{
		"passwd 5200":  `EXAMPLE\carol:*:5200:5200::/home/carol:/bin/bash`,
		"passwd carol": `carol:*:5200:5200::/home/carol:/bin/bash`,
		"group 5300":   `EXAMPLE\sales:*:5300:`,
		"group sales":  `sales:*:5300:`,
	}
	for toml, reason := range map[string]string{
		`users.bob = { uid = 1001 }`:               "cannot create user bob: uid 1001 is held by alice",
		`users.bob = { uid = 5200 }`:               `cannot create user bob: uid 5200 is held by EXAMPLE\carol of the directory`,
		`users.alice = { uid = 5200 }`:             `cannot change user alice: uid 5200 is held by EXAMPLE\carol of the directory`,
		`users.carol = {}`:                         "cannot create user carol: the directory has an account of that name, with uid 5200",
		`groups.sales = {}`:                        "cannot create group sales: the directory has a group of that name",
		`groups.staff = { gid = 5300 }`:            `cannot create group staff: gid 5300 is held by group EXAMPLE\sales`,
		`groups.docker = { gid = 10 }`:             "cannot change group docker: gid 10 is held by group wheel",
		`users.toor = { ensure = "absent" }`:       "cannot remove user toor: it is another name of root",
		`users.toor = { uid = 5400 }`:              "cannot change user toor: it is another name of root",
		`ids.uid.sshd = 5200`:                      "cannot change user sshd: the machine does not work without it",
		`users.bob = { group = "staff" }`:          "cannot create user bob: there is no local group staff",
		`ids = { uid.mysql = 27, gid.mysql = 10 }`: "cannot create group mysql: gid 10 is held by group wheel",
		`users.alice = { group = "staff" }`:        "cannot change user alice: there is no local group staff",
		`users.apache = { ensure = "absent" }`:     "cannot remove user apache: id 48 is reserved for it in Amazon Linux, and software relies on that",
		`ids.uid.apache = 5200`:                    "cannot change user apache: id 48 is reserved for it in Amazon Linux, and software relies on that",
		`ids.gid.apache = 5200`:                    "cannot change group apache: id 48 is reserved for it in Amazon Linux, and software relies on that",
		`groups.wheel = { gid = 5200 }`:            "cannot change group wheel: the machine does not work without it",
		`users.alice = { groups = ["a", "sales"]}`: "cannot change user alice: there is no local group a\nthere is no local group sales",
	} {
		d := newDesk(t, toml)
		d.tools.directory = known
		_, outcomes := d.walk(t)
		if len(outcomes) != len(d.policy.Resources) || outcomes[0].Err == nil || !strings.HasPrefix(outcomes[0].Err.Error(), reason) {
			t.Errorf("%s: %v, want %s", toml, outcomes, reason)
		}
		if len(d.tools.ran) > 0 {
			t.Errorf("%s: ran %q", toml, d.tools.ran)
		}
	}
}

// A policy that names them is refused when it is read; should one come past that, the machine refuses it too.
func TestWhatADesktopNeedsOfAccountsStaysAsItIs(t *testing.T) {
	id := func(n int) *int { return &n }
	for what, want := range map[string]struct {
		spec   policy.Spec
		reason string
	}{
		"user/ubuntu":     {policy.User{Ensure: policy.Absent}, "it is the account that the image is made with"},
		"user/gdm":        {policy.User{Ensure: policy.Absent}, "the screen at which people log in runs as it"},
		"user/sshd":       {policy.User{Ensure: policy.Present, Shell: "/bin/sh"}, "the machine does not work without it"},
		"user/rocky":      {policy.User{Ensure: policy.Present}, "it is the account that the image is made with"},
		"user/cloud-user": {policy.User{Ensure: policy.Present, UID: id(4000), Registered: true}, "it is the account that the image is made with"},
		"group/ubuntu":    {policy.Group{Ensure: policy.Absent}, "it is the account that the image is made with"},
		"group/gdm":       {policy.Group{Ensure: policy.Present, GID: id(4000), Registered: true}, "the screen at which people log in runs as it"},
		"group/sudo":      {policy.Group{Ensure: policy.Absent}, "the machine does not work without it"},
	} {
		d := newDesk(t, "")
		d.policy.Resources = []policy.Resource{{ID: policy.ID(what), Spec: want.spec}}
		if _, outcomes := d.walk(t); len(outcomes) != 1 || outcomes[0].Err == nil || !strings.Contains(outcomes[0].Err.Error(), want.reason) {
			t.Errorf("%s: %v, want %s", what, outcomes, want.reason)
		}
		if len(d.tools.ran) > 0 {
			t.Errorf("%s: ran %q", what, d.tools.ran)
		}
	}
	d := newDesk(t, "ids.uid.sssd = 373\n")
	if _, outcomes := d.walk(t); len(outcomes) > 0 || len(d.tools.ran) != 1 {
		t.Errorf("the id of an account that software makes is not registered: %v, %q", outcomes, d.tools.ran)
	}
}

func TestAMissingGroupKeepsNobodyOutOfTheOthers(t *testing.T) {
	d := newDesk(t, `users.bob = { groups = ["docker", "vboxusers"] }`)
	_, outcomes := d.walk(t)
	if diff := cmp.Diff([]string{"useradd -U -m -K UMASK=077 -G docker bob"}, d.tools.ran); diff != "" {
		t.Error(diff)
	}
	if len(outcomes) != 1 || !strings.Contains(outcomes[0].Err.Error(), "there is no local group vboxusers") {
		t.Error(outcomes)
	}
	if !d.ledger.Owns("user/bob") {
		t.Error("the ledger does not know who made bob")
	}
}

func TestWhoeverIsLoggedInIsNotChanged(t *testing.T) {
	for _, toml := range []string{
		`users.alice = { shell = "/bin/sh" }`,
		`users.alice = { ensure = "absent" }`,
		`groups.alice = { gid = 5200 }`,
	} {
		d := newDesk(t, toml)
		d.system.Sessions = kindtest.Sessions{{UID: 1001, User: "alice", State: "online"}}
		_, outcomes := d.walk(t)
		want := []converge.Outcome{{ID: d.policy.Resources[0].ID, Postponed: converge.NextSession, Reason: "alice is logged in"}}
		if diff := cmp.Diff(want, outcomes); diff != "" || len(d.tools.ran) > 0 {
			t.Errorf("%s: %s; ran %q", toml, diff, d.tools.ran)
		}

		d.system.Sessions = kindtest.Sessions{{UID: 1001, User: "alice", State: "closing"}}
		if _, outcomes := d.walk(t); len(outcomes) > 0 || len(d.tools.ran) != 1 {
			t.Errorf("%s, when alice has left: %v; ran %q", toml, outcomes, d.tools.ran)
		}
	}
}

// The tools of version 4.1.5.1 know no other options.
func TestNoOptionIsNewerThanAmazonLinux(t *testing.T) {
	known := map[string]string{
		"useradd": "bcdDefgGkKlmMNoprRsuUZ", "usermod": "acdefgGlLmopRsuUZ", "userdel": "frRZ",
		"groupadd": "fgKoprR", "groupmod": "gnopR", "groupdel": "R", "gpasswd": "adRrAM",
	}
	d := newDesk(t, `
groups.staff  = { gid = 5201, system = true }
groups.docker = { gid = 5202 }
users.bob     = { uid = 5203, group = "alice", groups = ["docker"], home = "/srv/bob", shell = "/bin/sh", comment = "Bob" }
users.carol   = { system = true }
users.alice   = { uid = 5204, group = "soe-scan", groups = ["docker"], home = "/srv/a", shell = "/bin/sh", comment = "A" }
users.soe-scan.ensure = "absent"
`)
	d.walk(t)
	if len(d.tools.ran) != 6 {
		t.Errorf("ran %q", d.tools.ran)
	}
	for _, command := range d.tools.ran {
		words := strings.Fields(command)
		for _, word := range words[1:] {
			if strings.HasPrefix(word, "-") && (len(word) != 2 || !strings.Contains(known[words[0]], word[1:])) {
				t.Errorf("%s: %s", command, word)
			}
		}
	}
}

func TestExitCodesBecomeReasons(t *testing.T) {
	failed := func(what, tool string, code int) converge.Outcome {
		return converge.Outcome{Reason: fmt.Sprintf("cannot %s (%s exited with %d: %s: it says why)", what, tool, code, tool)}
	}
	for _, test := range []struct {
		policy string
		exit   int
		want   converge.Outcome // Reason is part of the error's text
	}{
		{`users.alice = { uid = 5200 }`, 8, converge.Outcome{Postponed: converge.NextSession, Reason: "processes of alice are running (usermod: it says why)"}},
		{`users.alice = { uid = 5200, groups = ["a"] }`, 8, converge.Outcome{Postponed: converge.NextSession, Reason: "cannot change user alice: processes of alice are running (usermod: it says why)\nthere is no local group a"}},
		{`users.alice = { ensure = "absent" }`, 8, converge.Outcome{Postponed: converge.NextSession, Reason: "processes of alice are running (userdel: it says why)"}},
		{`groups.docker = { ensure = "absent" }`, 8, converge.Outcome{Reason: "cannot remove group docker: it is the primary group of an account (groupdel exited with 8: groupdel: it says why)"}},
		{`groups.docker = { gid = 5200 }`, 8, failed("change group docker: it is the primary group of an account", "groupmod", 8)},
		{`users.bob = {}`, 1, failed("create user bob: /etc/passwd or /etc/shadow cannot be written, or another program holds their lock", "useradd", 1)},
		{`users.alice = { shell = "/bin/sh" }`, 1, failed("change user alice: /etc/passwd or /etc/shadow cannot be written, or another program holds their lock", "usermod", 1)},
		{`users.bob = {}`, 2, failed("create user bob: useradd does not know one of these options; it may be too old", "useradd", 2)},
		{`groups.staff = {}`, 3, failed("create group staff: groupadd does not accept one of these values", "groupadd", 3)},
		{`users.bob = { uid = 5200 }`, 4, failed("create user bob: the uid is taken", "useradd", 4)},
		{`groups.docker = { gid = 5200 }`, 4, failed("change group docker: the gid is taken", "groupmod", 4)},
		{`users.bob = { group = "docker" }`, 6, failed("create user bob: there is no such group", "useradd", 6)},
		{`users.alice = { shell = "/bin/sh" }`, 6, failed("change user alice: there is no such account, or no such group", "usermod", 6)},
		{`users.alice = { ensure = "absent" }`, 6, failed("remove user alice: there is no such account", "userdel", 6)},
		{`groups.docker = { ensure = "absent" }`, 6, failed("remove group docker: there is no such group", "groupdel", 6)},
		{`users.bob = {}`, 9, failed("create user bob: the name is taken", "useradd", 9)},
		{`users.bob = {}`, 10, failed("create user bob: /etc/group or /etc/gshadow cannot be written, or another program holds their lock", "useradd", 10)},
		{`users.alice = { shell = "/bin/sh" }`, 12, failed("change user alice: the home directory cannot be moved", "usermod", 12)},
		{`users.alice = { ensure = "absent" }`, 12, failed("remove user alice: the home directory cannot be removed", "userdel", 12)},
		{`users.alice = { shell = "/bin/sh" }`, 13, failed("change user alice: the SELinux mapping cannot be changed", "usermod", 13)},
		{`users.bob = {}`, 14, failed("create user bob: the SELinux mapping cannot be changed", "useradd", 14)},
		{`groups.staff = {}`, 77, failed("create group staff: it did not work", "groupadd", 77)},
	} {
		d := newDesk(t, test.policy)
		d.tools.exit = test.exit
		_, outcomes := d.walk(t)
		if len(outcomes) != 1 {
			t.Errorf("%s: %v", test.policy, outcomes)
			continue
		}
		got := outcomes[0]
		if got.Err != nil {
			got.Reason, got.Err = got.Err.Error(), nil
		}
		test.want.ID = d.policy.Resources[0].ID
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.policy, diff)
		}
		if d.ledger.Owns(got.ID) {
			t.Errorf("%s: the ledger says that it was made", test.policy)
		}
	}
}

// useradd creates the home last.
func TestAnAccountWithoutItsHomeIsTakenBack(t *testing.T) {
	d := newDesk(t, `users.bob = {}`)
	d.tools.exit = 12
	d.tools.does = func(tool string) {
		if tool == "userdel" {
			d.tools.exit = 0
		}
	}
	_, outcomes := d.walk(t)
	if len(outcomes) != 1 || !strings.HasPrefix(outcomes[0].Err.Error(), "cannot create user bob: the home directory cannot be made") {
		t.Error(outcomes)
	}
	if diff := cmp.Diff([]string{"useradd -U -m -K UMASK=077 bob", "userdel bob"}, d.tools.ran); diff != "" || d.ledger.Owns("user/bob") {
		t.Error(diff)
	}
}

func TestWhatNobodyRegisteredIsReportedWhereThatIsWanted(t *testing.T) {
	const more = "soe-app:x:998:998::/:/bin/sh\nsystemd-coredump:x:997:997::/:/bin/sh\ncolord:x:996:996::/:/bin/sh\nown:x:995:995::/:/bin/sh\npcoip:x:994:994::/:/bin/sh\nstatic:x:150:150::/:/bin/sh\n"
	for toml, reason := range map[string]string{
		"ids = { report_unregistered = true, uid.own = 995 }":                      "no uid is registered for soe-app (998): name them in [ids], so that they have the same one everywhere",
		"ids = { report_unregistered = true, uid.own = 995, uid.soe-app = 998 }":   "",
		"ids = { report_unregistered = true }\nusers = { own = {}, soe-app = {} }": "",
	} {
		d := newDesk(t, toml)
		kindtest.Put(t, d.system.Root, "etc/passwd", passwd+more)
		resources := kindtest.Check(t, account.NewUsers(d.policy, d.system, d.ledger))
		r := resources[slices.IndexFunc(resources, func(r converge.Resource) bool { return r.ID == "user/unregistered" })]
		if r.Reason != reason || (r.State == converge.Failed) != (reason != "") {
			t.Errorf("%s: %s %q", toml, r.State, r.Reason)
		}
	}
	d := newDesk(t, "ids = { report_unregistered = true, gid.apache = 48 }")
	resources, err := account.NewGroups(d.policy, d.system, d.ledger).Check(t.Context())
	if err != nil || len(resources) != 2 || resources[1].State != converge.Compliant {
		t.Errorf("%+v, %v", resources, err) // docker has another gid than usual, and is recognized anyway
	}
}

func TestANameThatTheMachinesToolsDoNotTakeFailsWithTheirWords(t *testing.T) {
	d := newDesk(t, "users.\"john.doe\" = {}\ngroups.Staff = {}\n")
	d.tools.exit = 3
	_, outcomes := d.walk(t)
	if len(outcomes) != 2 {
		t.Fatal(outcomes)
	}
	for i, want := range []string{
		"cannot create group Staff: groupadd does not accept one of these values (groupadd exited with 3: groupadd: it says why)",
		"cannot create user john.doe: useradd does not accept one of these values (useradd exited with 3: useradd: it says why)",
	} {
		if got := outcomes[i].Err.Error(); got != want {
			t.Errorf("%s, and not %s", got, want)
		}
	}
}
