package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEachMistakeIsMadeAloneAndNamedByItsLine(t *testing.T) {
	const source = `package p

func f(a, b int, s []string) (out string) {
	if a < b && len(s) > 0 {
		g()
		out = s[0]
	}
	return "x" + out
}

func g() {}
`
	mutants, err := mutantsOf("p.go", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"p.go:4: never: if a < b && len(s) > 0 {", "p.go:4: turned round: if a < b && len(s) > 0 {",
		"p.go:4: && is ||: if a < b && len(s) > 0 {", "p.go:4: < is <=: if a < b && len(s) > 0 {",
		"p.go:4: > is >=: if a < b && len(s) > 0 {", "p.go:5: left out: g()", "p.go:6: left out: out = s[0]",
	}
	var got []string
	for _, m := range mutants {
		got = append(got, m.what)
		if string(m.source) == source {
			t.Errorf("%s: nothing is mistaken", m.what)
		}
		if changed := strings.Count(source, "\n") - strings.Count(string(m.source), "\n"); changed < 0 || changed > 1 {
			t.Errorf("%s: more than one line has changed:\n%s", m.what, m.source)
		}
	}
	for _, one := range want {
		if !slices.Contains(got, one) {
			t.Errorf("%s is missing among %q", one, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("there are %q", got)
	}
}

func TestTestsThatDoNotEndAreTriedAgainWithMoreTimeAndCountedApart(t *testing.T) {
	t.Parallel()
	const (
		// slow is so once, as on a busy machine.
		slow  = "\tif _, err := os.Stat(\"tried\"); err != nil && os.WriteFile(\"tried\", nil, 0o600) == nil {\n\t\ttime.Sleep(time.Hour)\n\t}\n"
		sleep = "\ttime.Sleep(time.Hour)\n"
		wrong = "\tt.Error(\"wrong\")\n"
	)
	for what, test := range map[string]struct{ body, counted string }{
		"they pass":                             {"", "0 of 1 killed (0 %), 0 of them by time"},
		"they fail":                             {wrong, "1 of 1 killed (100 %), 0 of them by time"},
		"they never end":                        {sleep, "1 of 1 killed (100 %), 1 of them by time"},
		"they are slow the first time and pass": {slow, "0 of 1 killed (0 %), 0 of them by time"},
		"they are slow the first time and fail": {slow + wrong, "1 of 1 killed (100 %), 0 of them by time"},
		"one fails and another never ends":      {wrong + "}\n\nfunc TestMore(t *testing.T) {\n" + sleep, "1 of 1 killed (100 %), 0 of them by time"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, content := range map[string]string{
				"go.mod": "module example.org/p\n", "p.go": "package p\n",
				"p_test.go": "package p\n\nimport (\n\t\"os\"\n\t\"testing\"\n\t\"time\"\n)\n\nvar _, _ = os.Args, time.Now\n\nfunc TestOne(t *testing.T) {\n" + test.body + "}\n",
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			pkg := goPackage{Dir: dir, ImportPath: "example.org/p"}
			// Long enough for a test that does nothing, on a machine that is busy with others.
			one := try{dir: t.TempDir(), pkg: pkg, patience: 4 * time.Second}
			m := mutant{filepath.Join(dir, "p.go"), "p.go:1: nothing", []byte("package p\n\nconst mistake = true\n")}
			if err := one.all([]mutant{m}, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if got := one.summary(1); !strings.Contains(got, test.counted) {
				t.Errorf("it says %q and not %q", got, test.counted)
			}
		})
	}
}

func TestAFailureOfOnePackageCountsWhateverBecomesOfAnother(t *testing.T) {
	const (
		passed   = "ok  \texample.org/a\t0.010s\n"
		late     = "panic: test timed out after 2m0s\n\trunning tests:\n\t\tTestX (2m0s)\n\ngoroutine 1 [running]:\nFAIL\texample.org/b\t120.01s\n"
		stuck    = "SIGQUIT: quit\n*** Test killed with quit: ran too long (3m0s).\nFAIL\texample.org/b\t180.01s\n"
		failed   = "--- FAIL: TestX (0.00s)\n    x_test.go:5: wrong\nFAIL\nFAIL\texample.org/c\t0.010s\n"
		below    = "    --- FAIL: TestX/y (0.00s)\n" + late
		panicked = "panic: runtime error: index out of range\n\ngoroutine 1 [running]:\nFAIL\texample.org/d\t0.010s\n"
		broken   = "FAIL\texample.org/e [build failed]\n"
	)
	for out, want := range map[string]bool{
		passed: false, late: true, stuck: true, failed: false, below: false, panicked: false, broken: false,
		passed + late + "FAIL\n": true, late + passed + "FAIL\n": true, late + stuck + "FAIL\n": true,
		late + failed + "FAIL\n": false, failed + late + "FAIL\n": false, late + panicked + "FAIL\n": false, broken + late: false,
	} {
		if got := onlyLate(out); got != want {
			t.Errorf("%v of\n%s", got, out)
		}
	}
}
