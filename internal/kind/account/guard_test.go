package account_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheLastAdministratorIsNotRemoved(t *testing.T) {
	const (
		alice = "\nusers.alice = { ensure = \"absent\" }"
		both  = alice + "\nusers.soe-scan = { ensure = \"absent\" }"
		ops   = "\ngroups.ops = { ensure = \"absent\" }"
	)
	known := directory{
		`group EXAMPLE\admins`:  `EXAMPLE\admins:*:5300:`,
		`passwd EXAMPLE\jane d`: `EXAMPLE\jane d:*:5200:5200::/home/jane d:/bin/bash`,
	}
	for name, test := range map[string]struct {
		toml    string
		refused string
		ran     string
	}{
		"named alone":                         {`sudo.allow = ["root", "alice", "%nobody-is-here"]` + alice, "alice", ""},
		"the only one of a group":             {`sudo.allow = ["root", "%wheel"]` + alice, "alice", ""},
		"by the primary group":                {`sudo.allow = ["root", "%alice"]` + alice, "alice", ""},
		"the others are unknown":              {`sudo.allow = ["root", "%wheel", "nobody-knows", "%nor-these"]` + alice, "alice", ""},
		"the other group has nobody":          {`sudo.allow = ["root", "%wheel", "%apache2"]` + alice, "alice", ""},
		"somebody else is named":              {`sudo.allow = ["root", "%wheel", "soe-scan"]` + alice, "", "userdel alice"},
		"the directory has administrators":    {`sudo.allow = ["root", "%wheel", '%EXAMPLE\admins']` + alice, "", "userdel alice"},
		"the directory has an administrator":  {`sudo.allow = ["root", "%wheel", 'EXAMPLE\jane d']` + alice, "", "userdel alice"},
		"somebody of the directory is in ops": {`sudo.allow = ["root", "%wheel", "%ops"]` + alice, "", "userdel alice"},
		"one after the other":                 {`sudo.allow = ["root", "%wheel", "soe-scan", "x"]` + both, "soe-scan", "userdel alice"},
		"who may not administer":              {`sudo.allow = ["root", "%nobody-is-here"]` + alice, "", "userdel alice"},
		"nobody says who may":                 {alice, "", "userdel alice"},
		"the only group":                      {`sudo.allow = ["root", "%ops", "x"]` + ops, "ops", ""},
		"one group of two":                    {`sudo.allow = ["root", "%ops", "%wheel"]` + ops, "", "groupdel ops"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, strings.TrimSpace(test.toml))
			passwd := strings.Replace(passwd, "/usr/sbin/nologin", "/bin/bash", 1) // soe-scan can log in
			d.put(t, "passwd", passwd)
			d.put(t, "group", group+"apache2:x:49:\nops:x:600:EXAMPLE\\jane d\n")
			d.tools.directory = known
			d.tools.does = func(tool string) {
				if tool == "userdel" {
					d.put(t, "passwd", strings.Replace(passwd, "alice:x:1001:1001:Alice:/home/alice:/bin/bash\n", "", 1))
					d.put(t, "group", strings.Replace(group, "wheel:x:10:alice", "wheel:x:10:", 1))
				}
			}
			_, outcomes := d.walk(t)
			if got := errorOf(outcomes); (got == "") != (test.refused == "") ||
				got != "" && (!strings.HasPrefix(got, "cannot remove ") || !strings.Contains(got, test.refused+": it would leave no administrator")) {
				t.Errorf("got %q", got)
			}
			if strings.Join(d.tools.ran, "\n") != test.ran {
				t.Errorf("ran %q", d.tools.ran)
			}
		})
	}
}

func TestNobodyWhoseDesktopItMayBeAndNoLastAdministratorLosesTheLogin(t *testing.T) {
	const scan = `users.soe-scan = { shell = "/usr/sbin/nologin" }`
	for name, test := range map[string]struct{ toml, passwd, refused, ran string }{
		"the only administrator": {
			`sudo.allow = ["root", "soe-scan", "%nobody-is-here"]` + "\n" + scan, "bash", "it would leave no administrator", "",
		},
		"the only one of a group, with something else to change": {
			`sudo.allow = ["root", "%docker"]` + "\n" + `users.soe-scan = { shell = "/usr/sbin/nologin", comment = "x" }`, "bash", "it would leave no administrator", "usermod -c x soe-scan",
		},
		"the other one cannot log in either": {`sudo.allow = ["root", "soe-scan", "apache"]` + "\n" + scan, "bash", "it would leave no administrator", ""},
		"somebody else administers":          {`sudo.allow = ["root", "soe-scan", "alice"]` + "\n" + scan, "bash", "", "usermod -s /usr/sbin/nologin soe-scan"},
		"a program that ends at once":        {`sudo.allow = ["root", "soe-scan", "%nobody-is-here"]` + "\n" + `users.soe-scan = { shell = "/bin/true" }`, "bash", "it would leave no administrator", ""},
		"what is in no list of shells":       {`sudo.allow = ["root", "soe-scan", "%nobody-is-here"]` + "\n" + `users.soe-scan = { shell = "/bin/cat" }`, "bash", "it would leave no administrator", ""},
		"whose home is in /home":             {`users.alice = { shell = "/usr/sbin/nologin" }`, "bash", "the desktop may be theirs", ""},
		"nobody's desktop":                   {scan, "bash", "", "usermod -s /usr/sbin/nologin soe-scan"},
		"who cannot log in already":          {`sudo.allow = ["root", "soe-scan", "%nobody-is-here"]` + "\n" + `users.soe-scan = { shell = "/bin/true" }`, "nologin", "", "usermod -s /bin/true soe-scan"},
		"another shell":                      {`sudo.allow = ["root", "alice"]` + "\n" + `users.alice = { shell = "/bin/sh" }`, "bash", "", "usermod -s /bin/sh alice"},
		"the primary group by which the only one is allowed": {
			`sudo.allow = ["root", "%alice"]` + "\n" + `users.alice = { group = "docker" }`, "bash", "it would leave no administrator", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, test.toml)
			shell := map[string]string{"bash": "/bin/bash", "nologin": "/usr/sbin/nologin"}[test.passwd]
			d.put(t, "passwd", strings.Replace(passwd, "/var/lib/scan:/usr/sbin/nologin", "/var/lib/scan:"+shell, 1))
			d.put(t, "shells", "/bin/sh\n/bin/bash\n/bin/true\n")
			for _, program := range []string{"true", "cat"} {
				if err := os.WriteFile(filepath.Join(d.system.Root, "bin", program), nil, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			_, outcomes := d.walk(t)
			if got := errorOf(outcomes); (got == "") != (test.refused == "") || !strings.Contains(got, test.refused) {
				t.Errorf("got %q", got)
			}
			if ran := strings.Join(d.tools.ran, "\n"); ran != test.ran {
				t.Errorf("ran %q", ran)
			}
		})
	}
}

// A login with a missing shell ends at once (login(1), sshd(8)).
func TestNobodyGetsAShellThatIsNotThere(t *testing.T) {
	for toml, want := range map[string]struct{ refused, ran string }{
		`users.alice = { shell = "/usr/bin/zsh" }`:                   {"cannot change user alice: there is no /usr/bin/zsh", ""},
		`users.alice = { shell = "/usr/bin/zsh", comment = "x" }`:    {"cannot change user alice: there is no /usr/bin/zsh", "usermod -c x alice"},
		`users.bob = { shell = "/usr/bin/zsh" }`:                     {"cannot create user bob: there is no /usr/bin/zsh", ""},
		`users.bob = { shell = "/usr/sbin/nologin", system = true }`: {"", "useradd -U -r -M -s /usr/sbin/nologin bob"},
	} {
		d := newDesk(t, toml)
		_, outcomes := d.walk(t)
		if got := errorOf(outcomes); (got == "") != (want.refused == "") || !strings.HasPrefix(got, want.refused) {
			t.Errorf("%s: %q", toml, got)
		}
		if ran := strings.Join(d.tools.ran, "\n"); ran != want.ran {
			t.Errorf("%s: ran %q", toml, ran)
		}
	}
}

func TestAnIdThatAmazonLinuxKeepsForSomebodyElseIsNotTaken(t *testing.T) {
	for toml, refused := range map[string]string{
		`users.bob = { uid = 27, system = true }`:   "cannot create user bob: uid 27 is reserved for mysql in Amazon Linux, whose package needs it",
		`users.soe-scan = { uid = 27 }`:             "cannot change user soe-scan: uid 27 is reserved for mysql",
		`groups.staff = { gid = 50 }`:               "cannot create group staff: gid 50 is reserved for ftp",
		`groups.docker = { gid = 50 }`:              "cannot change group docker: gid 50 is reserved for ftp",
		`users.mysql = { uid = 27, system = true }`: "",
		`users.bob = { uid = 371, system = true }`:  "", // usual but not certain
		`users.bob = { uid = 480, system = true }`:  "",
		`groups.staff = { gid = 480 }`:              "",
		`users.alice = { uid = 1001, comment="x" }`: "",
	} {
		for system, refused := range map[string]string{"NAME=\"Amazon Linux\"\nID=\"amzn\"\n": refused, "ID=ubuntu\n": ""} {
			d := newDesk(t, toml)
			d.put(t, "os-release", system)
			_, outcomes := d.walk(t)
			if got := errorOf(outcomes); (got == "") != (refused == "") || !strings.HasPrefix(got, refused) {
				t.Errorf("%s on %s: %q", toml, system, got)
			}
		}
	}
}
