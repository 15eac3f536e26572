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
package main

import (
	"context"
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

// patience is how long the tests of one package may take with a mutant in it: one that has them wait
// for ever is killed.
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
		t := try{dir: dir, pkg: pkg, importers: importers[pkg.ImportPath], verbose: verbose}
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
	verbose   bool

	killed, survived, broken int
}

func (t *try) all(mutants []mutant, end time.Time) error {
	for _, m := range mutants {
		if time.Now().After(end) {
			return nil
		}
		overlay, err := t.overlay(m)
		if err != nil {
			return err
		}
		if t.compiles(overlay) {
			t.count(m, t.fails(overlay, t.pkg.ImportPath) || len(t.importers) > 0 && t.fails(overlay, t.importers...))
		} else {
			t.broken++
		}
	}
	return nil
}

func (t *try) count(m mutant, killed bool) {
	if killed {
		t.killed++
	} else {
		t.survived++
	}
	if t.verbose || !killed {
		fmt.Printf("%s %s\n", map[bool]string{true: "killed  ", false: "survived"}[killed], m.what)
	}
}

func (t *try) summary(all int) string {
	tried := t.killed + t.survived
	if tried == 0 {
		return t.pkg.ImportPath + ": nothing was tried"
	}
	return fmt.Sprintf("%s: %d of %d killed (%d %%), of %d possible; %d more did not compile",
		t.pkg.ImportPath, t.killed, tried, 100*t.killed/tried, all, t.broken)
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
	return exec.Command("go", "build", "-overlay="+overlay, t.pkg.ImportPath).Run() == nil
}

// fails says whether a test of some packages does.
func (t *try) fails(overlay string, packages ...string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	test := exec.CommandContext(ctx, "go", append([]string{"test", "-count=1", "-failfast", "-overlay=" + overlay}, packages...)...)
	test.WaitDelay = time.Second
	err := test.Run()
	var exit *exec.ExitError
	return ctx.Err() != nil || errors.As(err, &exit)
}
