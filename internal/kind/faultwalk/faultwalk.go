// Package faultwalk tests a rule for every kind: only the answer "it does not exist" means absent.
// If a read fails in any other way, the kind must report that it could not tell.
//
// Walk takes scenes of a machine. In each scene it makes every read of the kind fail once, in every
// way in which reads fail on a sick machine: with errors of the kernel, and for commands also by
// being killed, by exit code 1 without output, and by garbage. The kind must then never report the
// machine as better than it is, must do nothing that it would not have done anyway, and must reach
// the right state after the machine has recovered. It is for tests.
//
// With -short every read fails once, in one of those ways, half of them in a check and half in a
// whole pass.
package faultwalk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A Machine is a machine prepared for a scene.
type Machine struct {
	Kind   converge.Kind
	Engine *converge.Engine // has only that kind
	Root   string           // the directory with its files
	// Files returns the files of a machine in memory by name, with everything that can be seen of
	// each. If it is nil, the files are below Root.
	Files func() map[string]string
	// State returns everything else that the machine has, one line for each thing. It may be nil.
	State func() string
	// Ignore are files that differ each time. State covers them.
	Ignore []string
	// Later advances the clock past the time for which a doubt is kept. It may be nil.
	Later func()
}

// A Scene is a machine in one state.
type Scene struct {
	Name string
	// Build prepares the machine, the same way each time. look is called before each read.
	Build func(t *testing.T, look system.Looker) Machine
	// Believes reports whether such an output of a command is the truth by definition. It may be
	// nil: no output is.
	Believes func(command string, out system.Output) bool
	// Passes reports whether a repair gives a file other contents on the way to its final one. It
	// may be nil: no file has any.
	Passes func(name string) bool
}

// An answer replaces the output of a command.
type answer struct{ system.Output }

func (a answer) Error() string { return fmt.Sprintf("exit code %d, %q", a.ExitCode, a.Stdout) }

func faults() []error {
	return []error{
		errKernel, syscall.EACCES,
		errors.New("signal: killed"),
		answer{system.Output{ExitCode: 1}},
		answer{system.Output{Stdout: []byte("\x7fgarbage: (:\n")}},
	}
}

// errKernel stands for the errors of the kernel that the agent treats alike, which a test verifies.
// Successive reads fail with different ones of them.
var errKernel = errors.New("an error of the kernel")

// Indistinct returns the errors that the agent treats alike.
func Indistinct() []syscall.Errno {
	return []syscall.Errno{syscall.EIO, syscall.EMFILE, syscall.ENOMEM, syscall.ETIMEDOUT}
}

func kernel(n int) error {
	all := Indistinct()
	return all[n%len(all)]
}

// inPasses reports whether an error is also tried in whole passes, which take long. Of the errors
// of the kernel, errKernel stands for all.
func inPasses(err error) bool { return ofCommands(err) || errors.Is(err, errKernel) }

// ofCommands reports whether only a command can have this fault.
func ofCommands(fault error) bool {
	var errno syscall.Errno
	return !errors.As(fault, &errno) && !errors.Is(fault, errKernel)
}

// A fault occurs once, at the n-th read that can fail in one of its ways.
type fault struct {
	ways     []error
	pick     uint // which of the ways that such a read has
	n        int
	believes func(string, system.Output) bool

	mu     sync.Mutex
	count  int
	struck string // which read failed, and how
}

func (f *fault) look(l system.Look) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	ways := f.waysOf(l)
	if len(ways) == 0 {
		return nil
	}
	if f.count++; f.count != f.n {
		return nil
	}
	err := ways[f.pick%uint(len(ways))]
	if errors.Is(err, errKernel) {
		err = kernel(f.n)
	}
	f.struck = fmt.Sprintf("%v of look %d, %s", err, f.n, l)
	return err
}

// waysOf returns in which ways a read can fail.
func (f *fault) waysOf(l system.Look) (ways []error) {
	for _, err := range f.ways {
		var instead answer
		isAnswer := errors.As(err, &instead)
		if ofCommands(err) && l.Op != "run" || isAnswer && f.believes != nil && f.believes(l.Target, instead.Output) {
			continue
		}
		ways = append(ways, err)
	}
	return ways
}

// Nth returns a Looker that makes the n-th read fail once, in one of the ways in which such a read
// fails on a sick machine; pick selects it. struck returns which read failed and how, or "" if
// there were fewer reads. believes is as in Scene.
func Nth(n int, pick uint, believes func(command string, out system.Output) bool) (look system.Looker, struck func() string) {
	f := &fault{ways: faults(), pick: pick, n: n, believes: believes}
	return f.look, func() string {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.struck
	}
}

// Walk tests the scenes of a kind. kind is its name.
func Walk(t *testing.T, kind string, scenes ...Scene) {
	t.Helper()
	for _, scene := range scenes {
		t.Run(kind+" "+scene.Name, func(t *testing.T) {
			t.Parallel()
			// No deadline passes because the machine that runs the test is busy.
			synctest.Test(t, func(t *testing.T) { newWalk(t, kind, scene).all() })
		})
	}
}

type walk struct {
	t     *testing.T
	scene Scene

	truth         map[policy.ID]converge.Resource
	before, after map[string]string
	last          map[policy.ID]converge.State // after a pass without faults
	complaints    int
}

func newWalk(t *testing.T, kind string, scene Scene) *walk {
	t.Helper()
	w := &walk{t: t, scene: scene}
	m := scene.Build(t, nil)
	if m.Kind.Name() != kind {
		t.Fatalf("this is the kind %q", m.Kind.Name())
	}
	w.before = Snapshot(t, m)
	resources := kindtest.Check(t, m.Kind)
	if w.truth = kindtest.ByID(resources); len(w.truth) == 0 {
		t.Fatal("there is nothing to look at")
	}
	m = scene.Build(t, nil)
	w.last = states(m.Engine.Pass(t.Context()))
	w.after = Snapshot(t, m)
	return w
}

// endOfLooks is more reads than any scene has.
const endOfLooks = 3000

func (w *walk) all() {
	looks := 0
	if testing.Short() {
		looks += w.each(faults(), 1, 2, w.check)
		looks += w.each(faults(), 2, 2, w.pass)
	} else {
		for _, err := range faults() {
			looks += w.each([]error{err}, 1, 1, w.check)
			if inPasses(err) {
				looks += w.each([]error{err}, 1, 1, w.pass)
			}
		}
	}
	if looks == 0 {
		w.t.Error("the kind never asks before it looks")
	}
}

// each calls try with a fault of every step-th read, from the first on, that can fail in one of
// those ways, and returns how many there were.
func (w *walk) each(ways []error, first, step int, try func(*fault)) (looks int) {
	for n := first; n < endOfLooks; n += step {
		f := &fault{ways: ways, pick: uint(n / step), n: n, believes: w.scene.Believes}
		try(f)
		if f.struck == "" {
			break
		}
		looks++
		if w.complaints > 12 {
			w.t.Fatal("and so on")
		}
	}
	return looks
}

func (w *walk) complain(f *fault, format string, args ...any) {
	w.t.Helper()
	w.complaints++
	w.t.Errorf("with %s: %s", f.struck, fmt.Sprintf(format, args...))
}

// check compares what is reported with the truth.
func (w *walk) check(f *fault) {
	m := w.scene.Build(w.t, f.look)
	resources, err := m.Kind.Check(context.Background())
	if f.struck == "" {
		return
	}
	got := kindtest.ByID(resources)
	doubts := slices.ContainsFunc(resources, func(r converge.Resource) bool {
		return r.State == converge.Unknown && w.truth[r.ID].State != converge.Unknown
	})
	for id, truth := range w.truth {
		r, told := got[id]
		switch {
		case !told && err == nil && !doubts:
			w.complain(f, "nothing is said of %s, which is %s", id, truth.State)
		case !told:
		case r.State == converge.Unknown || r.State == converge.Failed:
			if r.Reason == "" {
				w.complain(f, "no reason is given why %s is %s", id, r.State)
			}
		case truth.State != r.State:
			w.complain(f, "%s is called %s %v %s, and is %s %v %s", id, r.State, r.Diff, r.Reason, truth.State, truth.Diff, truth.Reason)
		}
	}
	for id, r := range got {
		if _, is := w.truth[id]; !is && r.State != converge.Unknown && r.State != converge.Failed {
			w.complain(f, "%s is called %s, and is not there at all", id, r.State)
		}
	}
}

// pass compares what is done with what would have been done without the fault.
func (w *walk) pass(f *fault) {
	m := w.scene.Build(w.t, f.look)
	result := m.Engine.Pass(context.Background())
	if f.struck == "" {
		return
	}
	now := Snapshot(w.t, m)
	for name := range all(now, w.before, w.after) {
		passes := w.scene.Passes != nil && w.scene.Passes(name)
		if now[name] != w.before[name] && now[name] != w.after[name] && !passes {
			w.complain(f, "%s is now\n%q\nbefore it was\n%q\nand should become\n%q", name, now[name], w.before[name], w.after[name])
		}
	}
	if !maps.Equal(now, w.after) {
		for _, r := range result.Resources {
			if r.State == converge.Corrected && w.last[r.ID] != converge.Corrected {
				w.complain(f, "%s is called %s", r.ID, r.State)
			}
		}
		if !slices.ContainsFunc(result.Resources, func(r converge.Resource) bool { return !r.State.InLine() }) {
			w.complain(f, "all is called in line, and %v is not what it should be", slices.Collect(differing(now, w.after)))
		}
	}
	if maps.Equal(now, w.after) {
		return
	}
	if m.Later != nil {
		m.Later()
	}
	result = m.Engine.Pass(context.Background())
	if now := Snapshot(w.t, m); !maps.Equal(now, w.after) {
		w.complain(f, "when it is well again, %v is not what it should be: %+v", slices.Collect(differing(now, w.after)), states(result))
	}
	for id, state := range states(result) {
		if wanted := w.last[id]; state.InLine() != wanted.InLine() && wanted != "" {
			w.complain(f, "when it is well again, %s is called %s, and not %s", id, state, wanted)
		}
	}
}

func states(result converge.Result) map[policy.ID]converge.State {
	m := map[policy.ID]converge.State{}
	for _, r := range result.Resources {
		m[r.ID] = r.State
	}
	return m
}

func all(maps ...map[string]string) map[string]bool {
	names := map[string]bool{}
	for _, m := range maps {
		for name := range m {
			names[name] = true
		}
	}
	return names
}

func differing(a, b map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range all(a, b) {
			if a[name] != b[name] && !yield(name) {
				return
			}
		}
	}
}

// Snapshot returns each file of a machine by name, with everything that can be seen of it, and each
// line of the machine's State. The agent's own state is left out.
func Snapshot(t *testing.T, m Machine) map[string]string {
	t.Helper()
	seen := map[string]string{}
	if m.Files != nil {
		seen = m.Files()
		for _, name := range m.Ignore {
			delete(seen, name)
		}
	} else {
		filesBelow(t, m, seen)
	}
	if m.State != nil {
		for line := range strings.Lines(m.State()) {
			seen["state: "+strings.TrimSpace(line)] = "so"
		}
	}
	return seen
}

// filesBelow adds the files below the root of a machine to seen.
func filesBelow(t *testing.T, m Machine, seen map[string]string) {
	t.Helper()
	root, err := os.OpenRoot(m.Root)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	err = filepath.WalkDir(m.Root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(m.Root, name)
		if err != nil {
			return err
		}
		if relative == "var/lib/soe-agent" || relative == "run/soe-agent" {
			return filepath.SkipDir
		}
		info, err := entry.Info()
		if err != nil || entry.IsDir() {
			return err
		}
		text := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			content, err := root.ReadFile(relative)
			if err != nil {
				return err
			}
			text += " " + string(content)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := root.Readlink(relative)
			if err != nil {
				return err
			}
			text += " → " + target
		}
		if !slices.Contains(m.Ignore, "/"+relative) {
			seen["/"+relative] = text
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
