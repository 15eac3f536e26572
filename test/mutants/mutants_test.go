package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// written is a module with one package.
func written(t *testing.T, files map[string]string) goPackage {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return goPackage{Dir: dir, ImportPath: "example.org/p", GoFiles: []string{"p.go"}}
}

func tried(t *testing.T, pkg goPackage, patience time.Duration) *try {
	t.Helper()
	one := &try{pkg: pkg, tested: []goPackage{pkg}, random: rand.New(rand.NewPCG(1, 1)), patience: patience}
	if err := one.all(time.Hour); err != nil {
		t.Fatal(err)
	}
	return one
}

const module = "module example.org/p\n\ngo 1.24\n"

func TestEachMistakeIsMadeAloneAndNamedByItsLine(t *testing.T) {
	t.Parallel()
	// Each line of the test's output is that of one mutant: the results of all functions.
	pkg := written(t, map[string]string{
		"go.mod": module,
		"p.go": `package p

type steps int

func f(a, b int, s []string) (out string) {
	if a < b && len(s) > 0 || s == nil {
		g(&out)
		out = s[0] + out
		_ = b
	}
	return "x" + out
}

func g(out *string) { *out += "g" }

func h(a, b steps) (steps, bool, [2 + 1]int) {
	const sum = 1 + 2
	a++
	switch {
	case a >= b:
		a = a - b + sum
	}
	return a, a <= b == (a != 7), [2 + 1]int{}
}
`,
		"p_test.go": `package p

import (
	"fmt"
	"testing"
)

func TestPrint(t *testing.T) {
	fmt.Print(f(1, 2, []string{"y"}), f(2, 2, []string{"y"}), f(1, 2, []string{}), " ")
	for a := range steps(5) {
		fmt.Print(h(a, 2))
		fmt.Print(h(a, 3))
	}
	fmt.Println()
}
`,
	})
	all, err := mutate(pkg, func(string) (io.ReadCloser, error) { return nil, os.ErrNotExist })
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"p.go:6: never: if", "p.go:6: turned round: if", "p.go:6: || is &&: if", "p.go:6: && is ||: if", "p.go:6: < is <=: if", "p.go:6: > is >=: if", "p.go:6: == is !=: if",
		"p.go:7: left out: g", "p.go:8: left out: out", "p.go:14: left out: func", "p.go:18: left out: a++",
		"p.go:20: >= is >: case", "p.go:21: left out: a", "p.go:21: + is -: a", "p.go:21: - is +: a",
		"p.go:23: == is !=: return", "p.go:23: <= is <: return", "p.go:23: != is ==: return",
	}
	var got []string
	for _, m := range all.mutants {
		got = append(got, strings.Join(strings.Fields(m.what)[:4], " "))
		if !slices.ContainsFunc(want, func(w string) bool { return strings.HasPrefix(m.what, w) }) {
			t.Errorf("there is %s", m.what)
		}
	}
	if len(got) != len(want) {
		t.Errorf("there are %d: %q", len(got), got)
	}

	dir := t.TempDir()
	one := &try{pkg: pkg, tested: []goPackage{pkg}}
	binaries, err := one.build(dir)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, m := range append([]mutant{{0, "nothing"}}, one.mutants...) {
		command := exec.Command(binaries[0], "-test.run=TestPrint")
		command.Env = append(os.Environ(), fmt.Sprintf("MUTANT=%d", m.number))
		out, _ := command.CombinedOutput()
		first, _, _ := strings.Cut(string(out), "\n")
		if m.number != 0 && first == said["nothing"] {
			t.Errorf("%s changes nothing of %s", m.what, first)
		}
		said[m.what] = first
	}
	if got := said["nothing"]; !strings.HasPrefix(got, "xygxx 1 ") {
		t.Errorf("without a mistake it says %s", got)
	}
}

func TestTestsThatDoNotEndAreTriedAgainWithMoreTimeAndCountedApart(t *testing.T) {
	t.Parallel()
	const (
		// slow is so once, as on a busy machine.
		slow  = "\tif _, err := os.Stat(\"tried\"); wrong() && err != nil && os.WriteFile(\"tried\", nil, 0o600) == nil {\n\t\ttime.Sleep(time.Hour)\n\t}\n"
		sleep = "\tif wrong() {\n\t\ttime.Sleep(time.Hour)\n\t}\n"
		fail  = "\tif wrong() {\n\t\tt.Error(\"wrong\")\n\t}\n"
	)
	for what, test := range map[string]struct{ body, counted string }{
		"they pass":                             {"\twrong()\n", "0 of 1 killed (0 %), 0 of them by time; 0 reached by no test"},
		"they do not reach it":                  {"", "0 of 1 killed (0 %), 0 of them by time; 1 reached by no test"},
		"they fail":                             {fail, "1 of 1 killed (100 %), 0 of them by time"},
		"they never end":                        {sleep, "1 of 1 killed (100 %), 1 of them by time"},
		"they are slow the first time and pass": {slow, "0 of 1 killed (0 %), 0 of them by time"},
		"they are slow the first time and fail": {slow + fail, "1 of 1 killed (100 %), 0 of them by time"},
		"one fails and another never ends":      {fail + "}\n\nfunc TestMore(t *testing.T) {\n" + sleep, "1 of 1 killed (100 %), 0 of them by time"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			pkg := written(t, map[string]string{
				"go.mod": module, "p.go": "package p\n\nvar one, two = 1, 2\n\nfunc wrong() bool { return one == two }\n",
				"p_test.go": "package p\n\nimport (\n\t\"os\"\n\t\"testing\"\n\t\"time\"\n)\n\nvar _, _ = os.Args, time.Now\n\nfunc TestOne(t *testing.T) {\n" + test.body + "}\n",
			})
			// Long enough for a test that does nothing, on a machine that is busy with others.
			if got := tried(t, pkg, 4*time.Second).summary(); !strings.Contains(got, test.counted) || !strings.HasSuffix(got, "these are all") {
				t.Errorf("it says %q and not %q", got, test.counted)
			}
		})
	}
}

func TestAFailureCountsWhateverElseDoesNotEnd(t *testing.T) {
	const (
		late     = "panic: test timed out after 2m0s\n\trunning tests:\n\t\tTestX (2m0s)\n\ngoroutine 1 [running]:\n"
		failed   = "--- FAIL: TestX (0.00s)\n    x_test.go:5: wrong\nFAIL\n"
		below    = "    --- FAIL: TestX/y (0.00s)\n" + late
		panicked = "panic: runtime error: index out of range\n\ngoroutine 1 [running]:\n"
	)
	for out, want := range map[string]bool{late: true, failed: false, below: false, failed + late: false, panicked: false} {
		if got := onlyLate(out, false); got != want {
			t.Errorf("%v of\n%s", got, out)
		}
	}
	if !onlyLate("", true) {
		t.Error("a run that had to be ended is not late")
	}
}

func TestTheIntervalOfASampleHoldsItsShareAndIsNarrowerTheMoreIsTried(t *testing.T) {
	for _, test := range []struct {
		killed, tried, all int
		low, high          float64
	}{
		{85, 100, 100000, 0.767, 0.907}, // as tables of the binomial distribution have it
		{850, 1000, 100000, 0.826, 0.871},
		{85, 100, 101, 0.84, 0.86},
	} {
		low, high := interval(test.killed, test.tried, test.all)
		if low < test.low-0.005 || low > test.low+0.01 || high > test.high+0.005 || high < test.high-0.01 {
			t.Errorf("%d of %d of %d: %.3f to %.3f", test.killed, test.tried, test.all, low, high)
		}
	}
}
