package dropin

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// programs are those that files are checked with and activated by, on a machine of
// files.
type programs struct {
	root  string
	owned func(system.Command) (system.Output, error)
}

func (p programs) Run(_ context.Context, c system.Command) (system.Output, error) {
	switch c.Argv[0] {
	case "sysctl":
		for _, word := range c.Argv[3:] {
			if key, value, found := strings.Cut(word, "="); found {
				if err := os.WriteFile(filepath.Join(p.root, "proc/sys", key), []byte(value+"\n"), 0o644); err != nil {
					return system.Output{}, err
				}
			}
		}
		return system.Output{}, nil
	case "dpkg-query":
		return p.owned(c)
	case "getent":
		return system.Output{ExitCode: 2}, nil
	case "bash", "visudo", "modinfo", "modprobe", "udevadm", "ldconfig", "touch":
		return system.Output{}, nil
	}
	return system.Output{}, system.ErrNotInstalled
}

type nobody struct{}

func (nobody) List(context.Context) ([]system.Session, error) { return nil, nil }

func sickScene(name string, p *policy.Policy, owned []string, files map[string]string) faultwalk.Scene {
	build := func(t *testing.T, look system.Looker) faultwalk.Machine {
		all := map[string]string{
			"/etc/passwd": "root:x:0:0::/root:/bin/sh\nscan:x:5101:5101::/:/bin/false\n", "/etc/group": "root:x:0:\nscan:x:5101:\n",
			"/proc/sys/kernel/sysrq": "0\n", "/proc/sys/kernel/dmesg_restrict": "0\n", "/var/lib/dpkg/status": "",
		}
		for name, content := range files {
			all[name] = content
		}
		root := kindtest.Root(t, all)
		ledger := kindtest.Ledger(t, root)
		for _, name := range owned {
			ledger.Own(policy.NewID("dropin", name))
		}
		s := kindtest.Open(t, system.Options{Root: root, Look: look})
		s.Root = "/"
		s.Runner = faultwalk.Runner(programs{root, dpkgOwning("/etc/profile.d/theirs.sh")}, look)
		s.Sessions, s.Units = faultwalk.Sessions(nobody{}, look), faultwalk.Units(s.Units, look)
		k := New(p, s, ledger, schedule.Window{})
		return faultwalk.Machine{Kind: k, Root: root, Engine: kindtest.Engine(p, k, ledger, s.Clock)}
	}
	return faultwalk.Scene{Name: name, Build: build, Believes: func(command string, out system.Output) bool {
		// These say yes by their exit code, whatever they print.
		return out.ExitCode == 0 && !strings.HasPrefix(command, "dpkg-query") && !strings.HasPrefix(command, "getent") ||
			// and a no is a no
			strings.HasPrefix(command, "modinfo") || strings.HasPrefix(command, "bash -n")
	}}
}

func TestNoFileIsJudgedByALookThatFailed(t *testing.T) {
	const sysctls, script, stray = "/etc/sysctl.d/60-soe.conf", "/etc/profile.d/soe.sh", "/etc/profile.d/stray.sh"
	wanted := files(map[string]policy.Dropin{
		sysctls:                   {Content: "kernel.sysrq = 1\n"},
		script:                    {Content: "umask 027\n"},
		"/etc/cron.daily/scan":    {Content: "#!/bin/true\n", Owner: "scan"},
		"/etc/modprobe.d/no.conf": {Ensure: policy.Absent},
		"/etc/tool/tool.conf":     {Content: "x\n", Activate: []string{"touch", "/x"}},
	})
	right := map[string]string{
		sysctls: "kernel.sysrq = 1\n", script: "umask 027\n", "/proc/sys/kernel/sysrq": "1\n", "/etc/tool/tool.conf": "x\n",
	}
	owning := purging(map[string]policy.Dropin{script: {Content: "umask 027\n"}}, "/etc/profile.d")
	few := files(map[string]policy.Dropin{script: {Content: "umask 027\n"}})
	inLine := sickScene("in line", files(map[string]policy.Dropin{
		sysctls: {Content: "kernel.sysrq = 1\n"}, script: {Content: "umask 027\n"}, "/etc/modprobe.d/no.conf": {Ensure: policy.Absent},
	}), nil, right)
	faultwalk.Walk(t, "dropin",
		inLine,
		sickScene("read by others, or not", files(map[string]policy.Dropin{
			"/etc/chrony.d/a.conf": {Content: "maxdistance 7\n"}, "/etc/systemd/journald.conf.d/50-a.conf": {Content: "[Journal]\nStorage=none\n"}, "/etc/cron.d/none": {Content: "# none\n"},
		}), nil, map[string]string{
			"/etc/chrony.d/a.conf": "maxdistance 7\n", "/etc/systemd/journald.conf.d/50-a.conf": "[Journal]\nStorage=none\n", "/etc/cron.d/none": "# none\n",
			"/usr/sbin/chronyd": "", "/etc/chrony.conf": "confdir /etc/chrony.d\n", "/etc/systemd/journald.conf.d/90-b.conf": "[Journal]\nStorage=auto\n",
		}),
		sickScene("drifted", wanted, nil, map[string]string{sysctls: "kernel.sysrq = 0\n", "/etc/modprobe.d/no.conf": "x\n"}),
		sickScene("not in effect", wanted, nil, map[string]string{
			sysctls: "kernel.sysrq = 1\n", script: "umask 027\n", "/run/soe-agent/dropins-awaiting-effect": script + "\n" + sysctls + "\n",
		}),
		sickScene("there though wanted no more", few, []string{sysctls}, map[string]string{
			sysctls: "kernel.sysrq = 1\n", script: "umask 027\n", "/proc/sys/kernel/sysrq": "1\n",
			"/var/lib/soe-agent/dropins.json": `{"sysctls":{"` + sysctls + `":{"kernel/sysrq":"0"}}}`,
		}),
		sickScene("strays in a directory of the policy", owning, nil, map[string]string{script: "umask 027\n", stray: "x\n", "/etc/profile.d/theirs.sh": "x\n"}),
		sickScene("no strays in it", owning, nil, map[string]string{script: "umask 027\n", "/etc/profile.d/theirs.sh": "x\n"}),
		sickScene("a file of sudo's", files(map[string]policy.Dropin{"/etc/sudoers.d/50-soe": {Content: "Defaults lecture = never\n"}}), nil, map[string]string{
			"/etc/sudoers": "root ALL = (ALL) ALL\n#includedir /etc/sudoers.d\n", "/etc/sudoers.d/60-theirs": "Defaults insults\n",
		}),
	)
}
