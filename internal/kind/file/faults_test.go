package file_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/file"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

func sickScene(name, toml string, owned map[string]map[string]converge.Retouch, modes map[string]uint32) faultwalk.Scene {
	build := func(t *testing.T, look system.Looker) faultwalk.Machine {
		files := map[string]string{"/etc/passwd": "root:x:0:0::/root:/bin/sh\n", "/etc/group": "root:x:0:\nlogs:x:13:\n"}
		for name := range modes {
			files[name] = "x\n"
		}
		root := kindtest.Root(t, files)
		for name, mode := range modes {
			if err := os.Chmod(filepath.Join(root, name), os.FileMode(mode)); err != nil {
				t.Fatal(err)
			}
		}
		ledger := kindtest.Ledger(t, root)
		for name, aspects := range owned {
			ledger.Own(policy.NewID("file", name))
			ledger.Retouch(name, aspects)
		}
		s := kindtest.Open(t, system.Options{Root: root, Look: look})
		s.Runner = faultwalk.Runner(nameService{}, look)
		p := kindtest.Policy(t, toml)
		k := file.New(p, s, ledger)
		return faultwalk.Machine{Kind: k, Root: root, Engine: kindtest.Engine(p, k, ledger, s.Clock)}
	}
	return faultwalk.Scene{Name: name, Build: build, Believes: func(command string, _ system.Output) bool {
		return !strings.HasPrefix(command, "getent")
	}}
}

func TestNoFilesAttributesAreJudgedByALookThatFailed(t *testing.T) {
	const wanted = "[files.\"/etc/crontab\"]\nowner = \"root\"\ngroup = \"logs\"\nmode = \"at most 0600\"\n[files.\"/etc/cron.d\"]\nmode = \"0755\"\n[files.\"/etc/at/x\"]\ngroup = \"logs\"\nif_exists = true\n"
	modes := func(crontab uint32) map[string]uint32 {
		return map[string]uint32{"/etc/crontab": crontab, "/etc/cron.d/x": 0o644}
	}
	touched := map[string]map[string]converge.Retouch{"/etc/crontab": {"mode": {Was: 0o640, Made: 0o600}}}
	faultwalk.Walk(t, "file",
		sickScene("in line", wanted, nil, modes(0o600)),
		sickScene("drifted", wanted, nil, modes(0o644)),
		sickScene("not there", wanted, nil, map[string]uint32{"/etc/motd": 0o644}),
		sickScene("there though wanted no more", "", touched, modes(0o600)),
		sickScene("changed by somebody else and wanted no more", "", touched, modes(0o604)),
	)
}
