// Command mutants measures the net of the fast tests: it makes small mistakes in a package, one
// at a time, and says which of them no test notices.
//
//	go run ./test/mutants [-seed N] [-for DURATION] [-v] PACKAGE…
//
// A mistake (a mutant) is a condition that is turned round or never met, a comparison that is off by its edge, an
// and for an or, a sum for a difference, a call or an assignment that is left out. A mutant is killed when a test
// of the package fails, or of a package that imports it. Tests in boxes are not run; the others as make check runs them.
//
// All mutants of a package are compiled at once: the compiler is shown a copy of the sources (go build -overlay) in which
// a variable of the environment chooses the one that is made. Each test is run once without a mistake, to see which
// mutants it reaches and how long it takes; a mutant then meets the tests that reach it, the quickest first. Of all
// mutants a sample is tried, in an order that the seed decides, until the package's share of the time is over.
//
// Tests that do not end in time may wait for ever because of the mistake, or be slow because the machine is busy. They
// are run once more with twice the time; a mutant with which they do not end then either counts as killed, and how
// many such there are is printed beside.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	seed := flag.Uint64("seed", 1, "which `sample` of the mutants is tried")
	limit := flag.Duration("for", 6*time.Minute, "how long mutants are tried, of all packages together; 0: all mutants")
	verbose := flag.Bool("v", false, "name the killed too")
	flag.Parse()
	if err := run(flag.Args(), *seed, *limit, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(patterns []string, seed uint64, limit time.Duration, verbose bool) error {
	packages, err := list(".", patterns...)
	if err != nil {
		return err
	}
	house, err := list(".", "./cmd/...", "./internal/...")
	if err != nil {
		return err
	}
	if limit == 0 {
		limit = 1000 * time.Hour
	}
	for i, pkg := range packages {
		tested := []goPackage{pkg}
		for _, other := range house {
			if other.tested() && slices.Contains(other.Imports, pkg.ImportPath) {
				tested = append(tested, other)
			}
		}
		t := try{pkg: pkg, tested: tested, random: rand.New(rand.NewPCG(seed, uint64(i))), patience: 20 * time.Second, verbose: verbose}
		if err := t.all(limit / time.Duration(len(packages))); err != nil {
			return err
		}
		fmt.Println(t.summary())
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
	Export          string // the file that says what it exports, with -export
}

func (p goPackage) tested() bool { return len(p.TestGoFiles)+len(p.XTestGoFiles) > 0 }

func list(dir string, arguments ...string) ([]goPackage, error) {
	command := exec.Command("go", append([]string{"list", "-json"}, arguments...)...)
	command.Dir = dir
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("cannot list the packages %q: %w", arguments, err)
	}
	var all []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); decoder.More(); {
		var one goPackage
		if err := decoder.Decode(&one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// A test is one of a package, as it is without a mistake.
type test struct {
	binary, dir, name string
	takes             time.Duration
}

// A try counts what becomes of the mutants of one package.
type try struct {
	pkg      goPackage
	tested   []goPackage // whose tests are run: the package itself, and those that import it
	random   *rand.Rand
	patience time.Duration // how long tests may take besides what they take without a mistake
	verbose  bool

	mutants []mutant
	reach   map[int][]test // the tests that reach a mutant, those of the package itself first, and the quickest first

	mu                                  sync.Mutex
	killed, byTime, survived, unreached int // byTime are among the killed, unreached among the survived
}

// A fate is what becomes of a mutant.
type fate string

const (
	survived  fate = "survived"
	unreached fate = "unreached" // by any test
	killed    fate = "killed"
	byTime    fate = "killed by time" // the tests did not end
)

// all tries mutants for some time.
func (t *try) all(limit time.Duration) error {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binaries, err := t.build(dir)
	if err != nil {
		return err
	}
	if err := t.measure(dir, binaries); err != nil {
		return err
	}
	t.random.Shuffle(len(t.mutants), func(a, b int) { t.mutants[a], t.mutants[b] = t.mutants[b], t.mutants[a] })
	end := time.Now().Add(limit)
	next := make(chan mutant)
	failed := make(chan error, 2)
	var workers sync.WaitGroup
	for range cap(failed) { // tests wait as often as they work
		workers.Go(func() {
			for m := range next {
				f, err := t.fate(m)
				if err != nil {
					failed <- err
					return
				}
				t.count(m, f)
			}
		})
	}
	for _, m := range t.mutants {
		if time.Now().After(end) {
			break
		}
		select {
		case next <- m:
		case err := <-failed:
			return err
		}
	}
	close(next)
	workers.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// build compiles the tests with all mutants, and returns a binary for each package.
func (t *try) build(dir string) ([]string, error) {
	imported, err := list(t.pkg.Dir, "-export", "-deps", ".")
	if err != nil {
		return nil, err
	}
	exports := map[string]string{}
	for _, one := range imported {
		exports[one.ImportPath] = one.Export
	}
	all, err := mutate(t.pkg, func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	if err != nil {
		return nil, fmt.Errorf("cannot make mutants of %s: %w", t.pkg.ImportPath, err)
	}
	t.mutants = all.mutants
	replace := map[string]string{}
	for name, content := range all.files {
		replace[name] = filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(replace[name], []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		return nil, err
	}
	var binaries []string
	for i, pkg := range t.tested {
		binary := filepath.Join(dir, fmt.Sprintf("%d.test", i))
		build := exec.Command("go", "test", "-c", "-vet=off", "-overlay="+filepath.Join(dir, "overlay.json"), "-o", binary, ".")
		build.Dir = pkg.Dir
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("cannot build the tests of %s with mutants of %s: %w\n%s", pkg.ImportPath, t.pkg.ImportPath, err, out)
		}
		binaries = append(binaries, binary)
	}
	return binaries, nil
}

// measure runs each test without a mistake, and notes which mutants it reaches.
func (t *try) measure(dir string, binaries []string) error {
	t.reach = map[int][]test{}
	for i, pkg := range t.tested {
		names, err := exec.Command(binaries[i], "-test.list", ".").Output()
		if err != nil {
			return fmt.Errorf("cannot list the tests of %s: %w", pkg.ImportPath, err)
		}
		from := map[int][]test{}
		for _, name := range strings.Fields(string(names)) {
			if strings.HasPrefix(name, "Benchmark") || strings.HasPrefix(name, "Example") {
				continue
			}
			one := test{binary: binaries[i], dir: pkg.Dir, name: name}
			reached := filepath.Join(dir, "reached")
			if err := os.WriteFile(reached, nil, 0o600); err != nil {
				return err
			}
			began := time.Now()
			f, out, err := t.run([]test{one}, 10*time.Minute, "MUTANTS_REACHED="+reached)
			if err != nil {
				return err
			}
			if f != survived {
				fmt.Printf("%s of %s fails without a mistake, and is not run:\n%s\n", name, pkg.ImportPath, out)
				continue
			}
			one.takes = time.Since(began)
			numbers, err := os.ReadFile(reached)
			if err != nil {
				return err
			}
			for _, number := range strings.Fields(string(numbers)) {
				var n int
				if _, err := fmt.Sscan(number, &n); err != nil {
					return err
				}
				if !slices.Contains(from[n], one) { // programs that a test runs write too
					from[n] = append(from[n], one)
				}
			}
		}
		for n, tests := range from {
			slices.SortStableFunc(tests, func(a, b test) int { return int(a.takes - b.takes) })
			t.reach[n] = append(t.reach[n], tests...)
		}
	}
	return nil
}

// fate runs the tests that reach a mutant, a few at a time, until one fails.
func (t *try) fate(m mutant) (fate, error) {
	tests := t.reach[m.number]
	if len(tests) == 0 {
		return unreached, nil
	}
	slow := false
	for limit := 300 * time.Millisecond; len(tests) > 0; limit *= 4 {
		n, takes := 0, time.Duration(0)
		for n < len(tests) && tests[n].binary == tests[0].binary && (n == 0 || takes+tests[n].takes < limit) {
			takes += tests[n].takes
			n++
		}
		chosen := fmt.Sprintf("MUTANT=%d", m.number)
		f, _, err := t.run(tests[:n], t.patience+10*takes, chosen)
		if f == byTime && err == nil {
			f, _, err = t.run(tests[:n], 2*(t.patience+10*takes), chosen)
		}
		if f == killed || err != nil {
			return f, err
		}
		if f == byTime {
			slow = true
			break
		}
		tests = tests[n:]
	}
	if slow {
		return byTime, nil
	}
	return survived, nil
}

// run runs some tests of one binary.
func (t *try) run(tests []test, limit time.Duration, environment string) (fate, []byte, error) {
	var names []string
	for _, one := range tests {
		names = append(names, one.name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit+10*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, tests[0].binary, "-test.short", "-test.failfast", "-test.timeout="+limit.String(), "-test.run=^("+strings.Join(names, "|")+")$")
	command.Dir = tests[0].dir
	command.Env = append(os.Environ(), "GOGC=400", environment)
	command.WaitDelay = time.Second
	out, err := command.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return survived, out, nil
	case ctx.Err() == nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay):
		return "", out, fmt.Errorf("cannot run the tests %q: %w", names, err)
	case onlyLate(string(out), ctx.Err() != nil):
		return byTime, out, nil
	}
	return killed, out, nil
}

// onlyLate reports whether all there is to a run that failed is that its tests did not end in time.
func onlyLate(out string, ended bool) bool {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(strings.TrimLeft(line, " "), "--- FAIL: ") {
			return false
		}
		ended = ended || strings.HasPrefix(line, "panic: test timed out after ")
	}
	return ended
}

func (t *try) count(m mutant, f fate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch f {
	case unreached:
		t.unreached++
		t.survived++
	case survived:
		t.survived++
	case byTime:
		t.byTime++
		t.killed++
	case killed:
		t.killed++
	}
	if t.verbose || f == survived || f == unreached {
		fmt.Printf("%-9s %s\n", f, m.what)
	}
}

func (t *try) summary() string {
	tried := t.killed + t.survived
	if tried == 0 {
		return t.pkg.ImportPath + ": nothing was tried"
	}
	said := fmt.Sprintf("%s: %d of %d killed (%d %%), %d of them by time; %d reached by no test", t.pkg.ImportPath, t.killed, tried, 100*t.killed/tried, t.byTime, t.unreached)
	if tried == len(t.mutants) {
		return said + "; these are all"
	}
	low, high := interval(t.killed, tried, len(t.mutants))
	return fmt.Sprintf("%s; a sample of %d: %.0f to %.0f %% of all (95 %%)", said, len(t.mutants), 100*low, 100*high)
}

// interval returns between which shares that of all mutants is, with a probability of 95 %: the
// interval of Wilson, for a sample without replacement.
func interval(killed, tried, all int) (low, high float64) {
	n, share := float64(tried), float64(killed)/float64(tried)
	if all > 1 {
		n *= float64(all-1) / math.Max(float64(all-tried), 1)
	}
	const z = 1.96
	middle := (share + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(share*(1-share)/n+z*z/(4*n*n))
	return middle - half, middle + half
}
