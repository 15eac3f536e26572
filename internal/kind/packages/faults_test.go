package packages

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// sickDesk is a desk on which reads fail as look says.
func sickDesk(t *testing.T, look system.Looker, w world, files map[string]string, owned ...policy.ID) *desk {
	t.Helper()
	root := kindtest.Root(t, files)
	s := kindtest.Open(t, system.Options{Root: root, Look: look})
	w.installed = maps.Clone(w.installed)
	if w.installed == nil {
		w.installed = map[string]string{}
	}
	d := &desk{
		yum: &yum{t: t, root: root, world: w, came: map[string]int{}}, system: s,
		clock: &clock{time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)}, units: &units{}, ledger: kindtest.Ledger(t, root),
	}
	for _, id := range owned {
		d.ledger.Own(id)
	}
	d.touch()
	s.Runner, s.Clock, s.Units = faultwalk.Runner(withoutDNF{d.yum}, look), d.clock, faultwalk.Units(system.Units{UnitStates: d.units}, look)
	return d
}

// withoutDNF is a machine that has only yum. On it the test for /usr/bin/dnf may fail, and dnf is
// then run in vain.
type withoutDNF struct{ system.Runner }

func (w withoutDNF) Run(ctx context.Context, c system.Command) (system.Output, error) {
	if c.Argv[0] == "dnf" {
		return system.Output{}, system.ErrNotInstalled
	}
	return w.Runner.Run(ctx, c)
}

// state lists what is installed and which keys are imported.
func (d *desk) state() string {
	var lines []string
	for name, version := range d.installed {
		lines = append(lines, name+" "+version)
	}
	return strings.Join(append(lines, d.imported...), "\n")
}

func (d *desk) walked(p *policy.Policy, k converge.Kind) faultwalk.Machine {
	return faultwalk.Machine{Kind: k, Root: d.root, Engine: kindtest.Engine(p, k, d.ledger, d.clock), State: d.state, Ignore: []string{
		"/var/lib/rpm/Packages",
	}, Later: func() { d.clock.now = d.clock.now.Add(doubtKept) }}
}

// byExitCode tells the fault walk which answers are the truth all the same: the exit code 0 of the
// package manager, whatever it prints.
func byExitCode(command string, out system.Output) bool {
	return strings.HasPrefix(command, "yum") && out.ExitCode == 0
}

func TestNoPackageIsJudgedByALookThatFailed(t *testing.T) {
	scene := func(name string, w world, wants map[string]policy.Package, owned ...policy.ID) faultwalk.Scene {
		return faultwalk.Scene{Name: name, Believes: byExitCode, Build: func(t *testing.T, look system.Looker) faultwalk.Machine {
			d := sickDesk(t, look, w, map[string]string{"/proc/sys/kernel/osrelease": "5.10.0"}, owned...)
			p := &policy.Policy{}
			for _, name := range slices.Sorted(maps.Keys(wants)) {
				p.Resources = append(p.Resources, policy.Resource{ID: policy.NewID("package", name), Spec: wants[name]})
			}
			return d.walked(p, New(p, d.system, d.ledger, patience, schedule.Window{}))
		}}
	}
	wants := map[string]policy.Package{"git": {Ensure: "present"}, "telnet": {Ensure: policy.Absent}, "vim": {Ensure: policy.Latest}}
	repository := map[string][]string{"git": {"1.0-1"}, "vim": {"8.0-1", "9.0-1"}}
	faultwalk.Walk(t, "package",
		scene("in line", world{installed: map[string]string{"git": "1.0-1", "vim": "9.0-1"}, repository: repository}, wants),
		scene("drifted", world{installed: map[string]string{"telnet": "1.0-1", "vim": "8.0-1"}, repository: repository}, wants),
		scene("there though wanted absent", world{installed: map[string]string{"telnet": "1.0-1"}}, map[string]policy.Package{"telnet": {Ensure: policy.Absent}}),
		scene("there though wanted no more", world{installed: map[string]string{"licensed": "1.0-1"}}, nil, "package/licensed"),
	)
}

func TestNoRepositoryIsJudgedByALookThatFailed(t *testing.T) {
	want := policy.Repository{Ensure: policy.Absent}
	scene := func(name string, spec policy.Repository, files map[string]string, owned ...policy.ID) faultwalk.Scene {
		return faultwalk.Scene{Name: name, Build: func(t *testing.T, look system.Looker) faultwalk.Machine {
			d := sickDesk(t, look, world{}, files, owned...)
			p := &policy.Policy{}
			if spec.Ensure != "" {
				p.Resources = []policy.Resource{{ID: "repository/corp", Spec: spec}}
			}
			return d.walked(p, NewRepositories(p, d.system, d.ledger, patience))
		}}
	}
	there := map[string]string{repositoryFile("corp"): "[corp]\nbaseurl=http://x\n", keyFile("corp"): "x"}
	present := policy.Repository{Ensure: policy.Present, BaseURL: "http://repo.example", GPGKeys: []string{"file:///key"}, Fingerprints: []string{strings.Repeat("AB", 20)}}
	faultwalk.Walk(t, "repository",
		scene("absent", want, map[string]string{repositoryDir + "/": ""}),
		scene("there though wanted absent", want, there),
		scene("drifted, without a key that can be had", present, there),
		scene("there though wanted no more", policy.Repository{}, there, "repository/corp"),
	)
}

func TestNoUpdateIsJudgedByALookThatFailed(t *testing.T) {
	scene := func(name string, w world, files map[string]string) faultwalk.Scene {
		return faultwalk.Scene{Name: name, Believes: byExitCode, Build: func(t *testing.T, look system.Looker) faultwalk.Machine {
			d := sickDesk(t, look, w, files)
			d.system.Root = "/"
			d.system.Sessions = faultwalk.Sessions(kindtest.Sessions{}, look)
			p := &policy.Policy{Resources: []policy.Resource{{ID: "patch/updates", Spec: policy.Patch{Updates: policy.AllUpdates}}}}
			return d.walked(p, NewPatches(p, d.system, d.ledger, patience, schedule.Window{}))
		}}
	}
	repository := map[string][]string{"git": {"1.0-1", "2.0-1"}, "kernel": {"5.10-1"}}
	running := map[string]string{"/proc/sys/kernel/osrelease": "5.10-1.x86_64"}
	faultwalk.Walk(t, "patch",
		scene("none left", world{installed: map[string]string{"git": "2.0-1", "kernel": "5.10-1"}, repository: repository}, running),
		scene("there are", world{installed: map[string]string{"git": "1.0-1", "kernel": "5.10-1"}, repository: repository}, running),
	)
}

// rpm prints "is not installed" for everything, and exits as usual, when its files are missing or
// truncated.
func TestADatabaseThatKnowsOfNoPackageIsNotBelieved(t *testing.T) {
	for name, foreign := range map[string]bool{"of a machine of rpm's": false, "of a machine of dpkg's": true} {
		d := newDesk(t, world{repository: map[string][]string{"git": {"1.0-1"}}})
		d.lost = true
		if foreign {
			d.write("/var/lib/dpkg/status", "Package: dpkg\n")
		}
		k := d.kind(map[string]policy.Package{"telnet": {Ensure: policy.Absent}, "git": {Ensure: "present"}})
		result := kindtest.Engine(k.policy, k, d.ledger, d.clock).Check(t.Context())
		for _, r := range result.Resources {
			wanted := converge.Unknown
			if foreign && r.ID == "package/git" {
				wanted = converge.Drifted // it may be installed as a package of dpkg
			}
			if r.State != wanted || r.State == converge.Unknown && !strings.Contains(r.Reason, "missing or empty") {
				t.Errorf("%s: %s is %s: %s", name, r.ID, r.State, r.Reason)
			}
		}
	}
}
