package service_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/kind/service"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// imageTool is systemctl in an image: it goes by the links.
type imageTool struct{ root string }

func (i imageTool) Run(_ context.Context, c system.Command) (system.Output, error) {
	name := c.Argv[len(c.Argv)-1]
	link := filepath.Join(i.root, "etc/systemd/system/multi-user.target.wants", name)
	switch verb := c.Argv[len(c.Argv)-2]; verb {
	case "is-enabled":
		if _, err := os.Lstat(link); err == nil {
			return system.Output{Stdout: []byte("enabled\n")}, nil
		}
		return system.Output{ExitCode: 1, Stdout: []byte("disabled\n")}, nil
	case "enable":
		return system.Output{}, os.Symlink("/usr/lib/systemd/system/"+name, link)
	case "disable":
		return system.Output{}, os.Remove(link)
	}
	return system.Output{}, system.ErrNotInstalled
}

func TestNoUnitIsJudgedByALookThatFailed(t *testing.T) {
	const wanted = "[services.\"a.service\"]\nenabled = true\nrunning = true\n[services.\"b.service\"]\nenabled = false\nrunning = false\n" +
		"[services.\"c.service\"]\nmasked = true\n"
	scene := func(name string, units map[string]system.Unit, links map[string]string) faultwalk.Scene {
		return faultwalk.Scene{Name: name, Build: func(t *testing.T, look system.Looker) faultwalk.Machine {
			root := kindtest.Root(t, links)
			s := kindtest.Open(t, system.Options{Root: root, Look: look})
			m := &manager{units: maps.Clone(units)}
			live := &sessions{}
			s.Root = "/"
			s.Units, s.Sessions = faultwalk.Units(m.all(), look), faultwalk.Sessions(live, look)
			p := kindtest.Policy(t, wanted)
			k := service.New(p, s, schedule.Window{})
			return faultwalk.Machine{Kind: k, Root: root, Engine: kindtest.Engine(p, k, kindtest.Ledger(t, root), s.Clock), State: func() string {
				var lines []string
				for _, name := range slices.Sorted(maps.Keys(m.units)) {
					lines = append(lines, fmt.Sprintln(name, m.units[name].UnitFileState), fmt.Sprintln(name, m.units[name].ActiveState))
				}
				return strings.Join(lines, "")
			}}
		}}
	}
	unit := func(name, file, active string) system.Unit {
		load := "loaded"
		if file == "masked" {
			load = "masked"
		}
		return system.Unit{Name: name, LoadState: load, UnitFileState: file, ActiveState: active}
	}
	const wants = "/etc/systemd/system/multi-user.target.wants/"
	faultwalk.Walk(t, "service",
		scene("in line", map[string]system.Unit{
			"a.service": unit("a.service", "enabled", "active"), "b.service": unit("b.service", "disabled", "inactive"), "c.service": unit("c.service", "masked", "inactive"),
		}, map[string]string{wants + "a.service": "-> /usr/lib/systemd/system/a.service", "/etc/systemd/system/c.service": "-> /dev/null"}),
		scene("drifted", map[string]system.Unit{
			"a.service": unit("a.service", "disabled", "inactive"), "b.service": unit("b.service", "enabled", "active"), "c.service": unit("c.service", "disabled", "inactive"),
		}, map[string]string{wants + "b.service": "-> /usr/lib/systemd/system/b.service"}),
	)
	image := func(name string, links map[string]string) faultwalk.Scene {
		return faultwalk.Scene{Name: name, Build: func(t *testing.T, look system.Looker) faultwalk.Machine {
			root := kindtest.Root(t, links)
			s := kindtest.Open(t, system.Options{Root: root, Look: look})
			s.Runner = faultwalk.Runner(imageTool{root}, look)
			p := kindtest.Policy(t, "[services.\"a.service\"]\nenabled = true\n[services.\"b.service\"]\nenabled = false\n")
			k := service.New(p, s, schedule.Window{})
			return faultwalk.Machine{Kind: k, Root: root, Engine: kindtest.Engine(p, k, kindtest.Ledger(t, root), s.Clock)}
		}}
	}
	faultwalk.Walk(t, "service",
		image("an image in line", map[string]string{wants + "a.service": "-> /usr/lib/systemd/system/a.service"}),
		image("an image that has drifted", map[string]string{wants + "b.service": "-> /usr/lib/systemd/system/b.service"}),
	)
}
