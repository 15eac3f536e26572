package account_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/account"
	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// files is a fake of shadow-utils that changes the files of a machine in the simplest way.
type files struct{ root string }

func (f files) Run(_ context.Context, c system.Command) (system.Output, error) {
	name := c.Argv[len(c.Argv)-1]
	option := func(letter, otherwise string) string {
		if i := slices.Index(c.Argv, letter); i >= 0 {
			return c.Argv[i+1]
		}
		return otherwise
	}
	switch c.Argv[0] {
	case "getent":
		return system.Output{ExitCode: 2}, nil
	case "useradd":
		home := option("-d", "/home/"+name)
		uid, err := strconv.Atoi(option("-u", "2000"))
		if dir := filepath.Join(f.root, home); err != nil || os.Mkdir(dir, 0o700) != nil || os.Chown(dir, uid, uid) != nil {
			return system.Output{ExitCode: 12}, nil
		}
		line := fmt.Sprintf("%s:x:%d:%d:%s:%s:%s", name, uid, uid, option("-c", ""), home, option("-s", "/bin/sh"))
		return f.edit("etc/passwd", name, line)
	case "usermod":
		if name == "alice" {
			return f.edit("etc/passwd", name, "alice:x:1001:1001:Alice:"+option("-d", "/home/alice")+":/bin/bash")
		}
		return f.edit("etc/passwd", name, fmt.Sprintf("%s:x:%s:5101:%s:/var/lib/scan:%s", name, option("-u", "5101"), option("-c", "Scanner"), option("-s", "/usr/sbin/nologin")))
	case "rm", "mkdir", "cp", "chmod", "chown":
		argv := slices.Clone(c.Argv)
		for i, arg := range argv {
			if filepath.IsAbs(arg) {
				argv[i] = filepath.Join(f.root, arg)
			}
		}
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			return system.Output{ExitCode: 1, Stderr: out}, nil
		}
		return system.Output{}, nil
	case "userdel":
		return f.edit("etc/passwd", name, "")
	case "chage":
		file := filepath.Join(f.root, "etc/shadow")
		content, err := os.ReadFile(file)
		if err != nil {
			return system.Output{}, err
		}
		line := regexp.MustCompile("(?m)^"+name+":.*$").ReplaceAllString(string(content), fmt.Sprintf("%s:$$6$$x:19000:0:%s:7:::", name, option("-M", "99999")))
		return system.Output{}, os.WriteFile(file, []byte(line), 0o644)
	case "groupadd":
		return f.edit("etc/group", name, fmt.Sprintf("%s:x:%s:", name, option("-g", "2000")))
	case "groupmod":
		return f.edit("etc/group", name, fmt.Sprintf("%s:x:%s:", name, option("-g", "2000")))
	case "groupdel":
		return f.edit("etc/group", name, "")
	}
	return system.Output{}, system.ErrNotInstalled
}

func (f files) edit(file, name, line string) (system.Output, error) {
	file = filepath.Join(f.root, file)
	content, err := os.ReadFile(file)
	if err != nil {
		return system.Output{}, err
	}
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(content)), "\n"), func(l string) bool { return strings.HasPrefix(l, name+":") })
	if line != "" {
		lines = append(lines, line)
	}
	return system.Output{}, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

const agedShadow = "root:$6$x:19000:0:99999:7:::\nalice:$6$x:19000:0:99999:7:::\n"

func sickScene(name, toml string, kind func(*policy.Policy, *system.System, *converge.Ledger) converge.Kind) faultwalk.Scene {
	passes := func(name string) bool { return name == "/etc/shadow" } // one account after the other
	return faultwalk.Scene{Name: name, Passes: passes, Build: func(t *testing.T, look system.Looker) faultwalk.Machine {
		root := kindtest.Root(t, map[string]string{
			"etc/passwd": passwd, "etc/group": group, "usr/sbin/nologin": "", "bin/sh": "", "etc/login.defs": "SYS_UID_MIN 201\nSYS_UID_MAX 999\n",
			"etc/shadow": agedShadow, "etc/sudoers": "root ALL=(ALL) ALL\n#includedir /etc/sudoers.d\n", "etc/sudoers.d/x": "alice ALL = ALL\n",
			"etc/fstab": "/dev/sda1 / ext4\n", "proc/self/mounts": "/dev/sda1 / ext4\n", "etc/machine-id": "0123\n", "etc/os-release": "ID=amzn\n",
			"etc/skel/.profile": "# of skel\n", "home/other/x": "", "srv/x": "",
			"proc/1/status": "Name:\tinit\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t\n",
		})
		s := kindtest.Open(t, system.Options{Root: root, Look: look})
		s.Root = "/"
		s.Runner, s.Sessions = faultwalk.Runner(files{root}, look), faultwalk.Sessions(kindtest.Sessions{}, look)
		ledger, p := kindtest.Ledger(t, root), kindtest.Policy(t, toml)
		k := kind(p, s, ledger)
		return faultwalk.Machine{Kind: k, Root: root, Engine: kindtest.Engine(p, k, ledger, s.Clock)}
	}}
}

func TestNoAccountIsJudgedByALookThatFailed(t *testing.T) {
	users := func(p *policy.Policy, s *system.System, l *converge.Ledger) converge.Kind {
		return account.NewUsers(p, s, l)
	}
	faultwalk.Walk(t, "user",
		sickScene("in line", "[users.soe-scan]\nuid = 5101\nshell = \"/usr/sbin/nologin\"\n[users.nobody-here]\nensure = \"absent\"\n", users),
		sickScene("drifted", "[users.soe-scan]\nuid = 5102\n", users),
		sickScene("not there", "[users.kiosk]\nuid = 5200\nshell = \"/bin/sh\"\nhome = \"/srv/kiosk\"\n", users),
		sickScene("there though wanted absent", "[users.soe-scan]\nensure = \"absent\"\n", users),
		sickScene("without its home", "[users.alice]\nhome = \"/home/alice\"\n", users),
		sickScene("with another home", "[users.alice]\nhome = \"/srv/alice\"\n", users),
		sickScene("with a password that lasts too long", "[users.alice]\nmax_days = 80000\nshell = \"/bin/bash\"\n", users),
	)
}

func TestNoPasswordsAgeIsJudgedByALookThatFailed(t *testing.T) {
	ages := func(p *policy.Policy, s *system.System, l *converge.Ledger) converge.Kind {
		return account.NewAgeing(p, s, l)
	}
	given := func(p *policy.Policy, s *system.System, l *converge.Ledger) converge.Kind {
		l.Own("ageing/alice")
		l.Retouch("ageing/alice", map[string]converge.Retouch{"max_days": {Was: "80000", Made: "99999"}})
		return account.NewAgeing(p, s, l)
	}
	faultwalk.Walk(t, "ageing",
		sickScene("drifted", "[ageing.people]\nmax_days = 80000\n[ageing.root]\nmax_days = 80000\n", ages),
		sickScene("too old", "[ageing.people]\nmax_days = 8\ninactive_days = 30\n[ageing.root]\nmax_days = 8\n", ages),
		sickScene("wanted no more", "", given),
	)
}

func TestNoGroupIsJudgedByALookThatFailed(t *testing.T) {
	groups := func(p *policy.Policy, s *system.System, l *converge.Ledger) converge.Kind {
		return account.NewGroups(p, s, l)
	}
	faultwalk.Walk(t, "group",
		sickScene("in line", "[groups.soe-scan]\ngid = 5101\n[groups.none]\nensure = \"absent\"\n", groups),
		sickScene("drifted", "[groups.soe-scan]\ngid = 5102\n", groups),
		sickScene("not there", "[groups.kiosk]\ngid = 5200\n", groups),
		sickScene("there though wanted absent", "[groups.docker]\nensure = \"absent\"\n", groups),
	)
}
