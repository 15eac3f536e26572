package host_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/host"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/system"
)

// selinux has a kernel with SELinux in a machine of files.
type selinux struct{ root string }

func (s selinux) Run(_ context.Context, c system.Command) (system.Output, error) {
	if c.Argv[0] == "setenforce" {
		return system.Output{}, os.WriteFile(filepath.Join(s.root, "sys/fs/selinux/enforce"), []byte(c.Argv[1]), 0o644)
	}
	return system.Output{}, nil
}

func sickScene(name, toml string, files map[string]string) faultwalk.Scene {
	return faultwalk.Scene{Name: name, Build: func(t *testing.T, look system.Looker) faultwalk.Machine {
		root := kindtest.Root(t, files)
		s := kindtest.Open(t, system.Options{Root: root, Look: look})
		s.Root = "/"
		s.Runner = faultwalk.Runner(selinux{root}, look)
		s.Sessions = faultwalk.Sessions(kindtest.Sessions{}, look)
		p := kindtest.Policy(t, toml)
		k := host.New(p, s)
		return faultwalk.Machine{Kind: k, Root: root, Engine: kindtest.Engine(p, k, kindtest.Ledger(t, root), s.Clock)}
	}}
}

func TestNoSettingOfTheMachineIsJudgedByALookThatFailed(t *testing.T) {
	base := map[string]string{
		"usr/share/zoneinfo/Europe/Berlin": "TZif2", "usr/share/zoneinfo/UTC": "TZif2",
		"etc/selinux/config": "SELINUX=enforcing\n", "sys/fs/selinux/enforce": "1",
		"etc/localtime": "-> ../usr/share/zoneinfo/Europe/Berlin", "etc/timezone": "Europe/Berlin\n",
	}
	with := func(changes map[string]string) map[string]string {
		files := map[string]string{}
		for _, m := range []map[string]string{base, changes} {
			for name, content := range m {
				files[name] = content
			}
		}
		for name, content := range files {
			if content == "" {
				delete(files, name)
			}
		}
		return files
	}
	const wanted = "system.timezone = \"Europe/Berlin\"\nsystem.selinux = \"enforcing\""
	faultwalk.Walk(t, "system",
		sickScene("in line", wanted, base),
		sickScene("drifted", wanted, with(map[string]string{
			"etc/localtime": "-> ../usr/share/zoneinfo/UTC", "etc/timezone": "UTC\n", "sys/fs/selinux/enforce": "0", "etc/selinux/config": "SELINUX=permissive\n",
		})),
		sickScene("a note that is wrong alone", wanted, with(map[string]string{"etc/timezone": "UTC\n"})),
		sickScene("UTC wanted, which no link means", "system.timezone = \"UTC\"", with(map[string]string{"etc/timezone": ""})),
		sickScene("UTC wanted, and there without a link", "system.timezone = \"UTC\"", with(map[string]string{"etc/timezone": "", "etc/localtime": ""})),
		sickScene("a copy", "system.timezone = \"UTC\"", with(map[string]string{"etc/localtime": "TZif2"})),
		sickScene("a zone that is not there", "system.timezone = \"Europe/Atlantis\"", base),
		sickScene("SELinux unwanted", "system.selinux = \"disabled\"", base),
		sickScene("SELinux off", "system.selinux = \"disabled\"", with(map[string]string{"sys/fs/selinux/enforce": "", "etc/selinux/config": ""})),
	)
}
