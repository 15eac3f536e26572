// Command mutants measures the net of the fast tests: it makes small mistakes in a package, one
// at a time, and says which of them no test notices.
//
//	go run ./test/mutants [-seed N] [-for DURATION] [-v] PACKAGE…
//
// A mistake (a mutant) is a condition that is turned round or never met, a comparison that is off by its edge, an
// and for an or, a call or an assignment that is left out. Of all mistakes that could be made in a package a sample is
// tried, in an order that the seed decides, until the package's share of the time is over. The sources are not touched:
// the compiler is shown a copy (go build -overlay). A mutant is killed when a test of the package fails, or
// of a package that imports it; one that does not compile does not count. Tests in boxes are not run.
//
// Tests that do not end in time may wait for ever because of the mistake, or be slow because the machine is busy. They
// are run once more with twice the time; a mutant with which they do not end then either counts as killed, and how
// many such there are is printed beside.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// patience is how long the tests of one package may take with a mutant in it, the first time.
const patience = 2 * time.Minute

func main() {
	seed := flag.Uint64("seed", 1, "which `sample` of the mutants is tried")
	limit := flag.Duration("for", 10*time.Minute, "how long, for all packages together")
	verbose := flag.Bool("v", false, "name the killed too")
	flag.Parse()
	if err := run(flag.Args(), *seed, *limit, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(patterns []string, seed uint64, limit time.Duration, verbose bool) error {
	packages, err := list(patterns)
	if err != nil {
		return err
	}
	importers, err := importersOf(packages)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for i, pkg := range packages {
		share := (limit / time.Duration(len(packages)))
		all, err := mutantsIn(pkg)
		if err != nil {
			return err
		}
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		random.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
		t := try{dir: dir, pkg: pkg, importers: importers[pkg.ImportPath], patience: patience, verbose: verbose}
		if err := t.all(all, time.Now().Add(share)); err != nil {
			return err
		}
		fmt.Println(t.summary(len(all)))
	}
	return nil
}

// A goPackage is what go list says of one.
type goPackage struct {
	Dir, ImportPath string
	GoFiles         []string
	Imports         []string
	TestGoFiles     []string
	XTestGoFiles    []string
}

func (p goPackage) tested() bool { return len(p.TestGoFiles)+len(p.XTestGoFiles) > 0 }

func list(patterns []string) ([]goPackage, error) {
	out, err := exec.Command("go", append([]string{"list", "-json"}, patterns...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("cannot list the packages %q: %w", patterns, err)
	}
	var all []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); decoder.More(); {
		var one goPackage
		if err := decoder.Decode(&one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// importersOf are the packages with fast tests that import each of some.
func importersOf(packages []goPackage) (map[string][]string, error) {
	house, err := list([]string{"./cmd/...", "./internal/..."})
	if err != nil {
		return nil, err
	}
	importers := map[string][]string{}
	for _, pkg := range packages {
		for _, other := range house {
			if other.tested() && slices.Contains(other.Imports, pkg.ImportPath) {
				importers[pkg.ImportPath] = append(importers[pkg.ImportPath], other.ImportPath)
			}
		}
	}
	return importers, nil
}

// A try counts what became of the mutants of one package.
type try struct {
	dir       string
	pkg       goPackage
	importers []string
	patience  time.Duration
	verbose   bool

	killed, byTime, survived, broken int // byTime are among the killed
}

// A fate is what becomes of a mutant.
type fate string

const (
	survived fate = "survived"
	killed   fate = "killed"
	byTime   fate = "killed by time" // the tests did not end
)

func (t *try) all(mutants []mutant, end time.Time) error {
	for _, m := range mutants {
		if time.Now().After(end) {
			return nil
		}
		overlay, err := t.overlay(m)
		if err != nil {
			return err
		}
		if !t.compiles(overlay) {
			t.broken++
			continue
		}
		f, err := t.fate(overlay)
		if err != nil {
			return err
		}
		t.count(m, f)
	}
	return nil
}

// fate runs the tests, and those of a package that do not end in time once more with twice the time.
func (t *try) fate(overlay string) (fate, error) {
	var slow bool
	for _, packages := range [][]string{{t.pkg.ImportPath}, t.importers} {
		if len(packages) == 0 {
			continue
		}
		f, err := t.test(overlay, t.patience, packages)
		if f == byTime && err == nil {
			f, err = t.test(overlay, 2*t.patience, packages)
		}
		if f == killed || err != nil {
			return f, err
		}
		slow = slow || f == byTime
	}
	if slow {
		return byTime, nil
	}
	return survived, nil
}

func (t *try) count(m mutant, f fate) {
	switch f {
	case survived:
		t.survived++
	case byTime:
		t.byTime++
		t.killed++
	case killed:
		t.killed++
	}
	if t.verbose || f == survived {
		fmt.Printf("%-8s %s\n", f, m.what)
	}
}

func (t *try) summary(all int) string {
	tried := t.killed + t.survived
	if tried == 0 {
		return t.pkg.ImportPath + ": nothing was tried"
	}
	return fmt.Sprintf("%s: %d of %d killed (%d %%), %d of them by time, of %d possible; %d more did not compile",
		t.pkg.ImportPath, t.killed, tried, 100*t.killed/tried, t.byTime, all, t.broken)
}

// overlay writes a mutant where the compiler will look for it.
func (t *try) overlay(m mutant) (string, error) {
	source, overlay := filepath.Join(t.dir, "mutant.go"), filepath.Join(t.dir, "overlay.json")
	if err := os.WriteFile(source, m.source, 0o600); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{m.file: source}})
	if err != nil {
		return "", err
	}
	return overlay, os.WriteFile(overlay, replace, 0o600)
}

func (t *try) compiles(overlay string) bool {
	build := exec.Command("go", "build", "-overlay="+overlay, t.pkg.ImportPath)
	build.Dir = t.pkg.Dir
	return build.Run() == nil
}

// test runs the tests of some packages with a mutant. Those of each package may take so long, without what it takes to
// build them; go test ends those that take longer.
func (t *try) test(overlay string, limit time.Duration, packages []string) (fate, error) {
	test := exec.Command("go", append([]string{"test", "-count=1", "-failfast", "-timeout=" + limit.String(), "-overlay=" + overlay}, packages...)...)
	test.Dir = t.pkg.Dir
	out, err := test.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return survived, nil
	case !errors.As(err, &exit):
		return "", fmt.Errorf("cannot run the tests of %v: %w", packages, err)
	case onlyLate(string(out)):
		return byTime, nil
	}
	return killed, nil
}

// onlyLate says of the output of a go test that failed whether all there is to it is that tests did not end in time.
func onlyLate(out string) bool {
	late := false // of one package at least
	ended, failed := false, false
	for line := range strings.Lines(out) {
		switch {
		case strings.HasPrefix(line, "panic: test timed out after "), strings.HasPrefix(line, "*** Test killed with quit: ran too long"):
			ended = true
		case strings.HasPrefix(strings.TrimLeft(line, " "), "--- FAIL: "):
			failed = true
		case strings.HasPrefix(line, "ok  \t"):
			ended, failed = false, false
		case strings.HasPrefix(line, "FAIL\t"): // the last line of a package
			if failed || !ended {
				return false
			}
			late, ended = true, false
		}
	}
	return late
}
